"""Cloud and CI identities, keyrings, chains, certificates, proxies, as far as they run here."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from mlflow_plugins_pack.auth import manager
from mlflow_plugins_pack.auth.manager import Manager
from mlflow_plugins_pack.auth.profiles.models import KNOWN_SOURCES
from mlflow_plugins_pack.errors import AuthConfigError, CredentialError
from tests.auth.support.certificates import Authority
from tests.auth.support.parts import JSON, Recorder, Seen, recording
from tests.support.oidc import AUDIENCE, OidcProvider
from tests.support.oidc.tokens import forged_token
from tests.support.paths import ROOT

Profiles = Callable[[str], Path]
API = "/api/2.0/mlflow/experiments/get"
SECRET = "planted-secret-4711"


def profile(url: str, source: str, lines: str = "") -> str:
    return f'[profile.p]\nhosts = ["{url}"]\nsource = {json.dumps(source)}\n{lines}'


def get(url: str, path: str = API, **kwargs: object) -> requests.Response:
    return http_request(MlflowHostCreds(url), path, "GET", **kwargs)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start again, as the next process does: a source that failed rests for half a second."""
    monkeypatch.setattr(manager, "_manager", Manager())


# --- keyring --------------------------------------------------------------------------------------


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[object]:
    """The keyring package with a backend that needs no desktop."""
    package = pytest.importorskip("keyring")
    backend = pytest.importorskip("keyrings.alt.file").PlaintextKeyring()
    backend.file_path = str(tmp_path / "keyring.cfg")
    before = package.get_keyring()
    package.set_keyring(backend)
    yield package
    package.set_keyring(before)


def test_a_token_in_the_keyring(
    keyring: object, named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles(profile(named.url, "keyring", 'keyring = "mlflow/alice"\n'))
    with pytest.raises(MlflowException, match="keyring set mlflow alice"):
        get(named.url)
    keyring.set_password("mlflow", "alice", SECRET)  # type: ignore[attr-defined]
    forget(monkeypatch)
    get(named.url)
    assert [seen.headers["Authorization"] for seen in named.seen] == [f"Bearer {SECRET}"]


def test_tokens_of_a_provider_kept_in_the_keyring(
    keyring: object,
    provider: OidcProvider,
    profiles: Profiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keyring.set_password("mlflow", "ci", "planted-client-secret")  # type: ignore[attr-defined]
    profiles(
        profile(
            "https://h.example",
            "oidc",
            f'issuer = "{provider.issuer}"\nclient_id = "machine"\nscope = "mlflow"\n'
            'client_secret = { keyring = "mlflow/ci" }\ncache = "keyring"\n',
        )
    )
    before = len(provider.grants())
    first, second = Manager().credential("p"), Manager().credential("p")
    assert first.headers == second.headers
    assert len(provider.grants()) == before + 1


# --- CI and cloud ---------------------------------------------------------------------------------


def test_github_actions(
    provider: OidcProvider,
    named: Recorder,
    evil: Recorder,
    profiles: Profiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The runner's service is played by a recorder; the token is a real provider's."""
    token = forged_token(provider, sub="repo:org/name:ref:refs/heads/main", iat=int(time.time()))
    profiles(profile(named.url, "github-actions", f'audience = "{AUDIENCE}"\n'))
    with pytest.raises(MlflowException, match="id-token: write"):
        get(named.url)
    evil.rule = lambda seen: (200, JSON, json.dumps({"value": token}).encode())
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{evil.url}/token?api-version=2.0")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", SECRET)
    forget(monkeypatch)
    get(named.url)
    assert evil.seen[0].path == "/token?api-version=2.0&audience=https%3A%2F%2Fmlflow.test"
    assert evil.seen[0].headers["Authorization"] == f"Bearer {SECRET}"
    assert named.seen[0].headers["Authorization"] == f"Bearer {token}"
    assert not named.seen[0].has(SECRET)
    found = Manager().credential("p")
    assert found.who == "repo:org/name:ref:refs/heads/main"
    assert found.lifetime_seconds == pytest.approx(300, abs=2)
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "http://runner.example/token")
    with pytest.raises(CredentialError, match="must be https"):
        Manager().credential("p")


def test_gitlab_and_kubernetes(
    provider: OidcProvider, profiles: Profiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = forged_token(provider, sub="project_path:group/project", iat=int(time.time()))
    profiles(profile("https://h.example", "gitlab"))
    with pytest.raises(CredentialError, match="id_tokens"):
        Manager().credential("p")
    monkeypatch.setenv("MLFLOW_ID_TOKEN", token)
    assert Manager().credential("p").who == "project_path:group/project"
    projected = tmp_path / "token"
    profiles(profile("https://h.example", "kubernetes", f'token_file = "{projected}"\n'))
    with pytest.raises(CredentialError, match="projected volume"):
        Manager().credential("p")
    projected.write_text(token)
    manager = Manager()
    assert manager.credential("p").who == "project_path:group/project"
    projected.write_text(forged_token(provider, sub="rotated"))
    assert manager.credential("p").who == "rotated"


def test_cloudflare_access(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CF_ID", "the-id")
    monkeypatch.setenv("CF_SECRET", SECRET)
    lines = 'access_client_id = { env = "CF_ID" }\naccess_client_secret = { env = "CF_SECRET" }\n'
    profiles(profile(named.url, "cloudflare-access", lines))
    get(named.url)
    assert named.seen[0].headers["CF-Access-Client-Id"] == "the-id"
    assert named.seen[0].headers["CF-Access-Client-Secret"] == SECRET


def test_the_cloud_libraries_are_asked_and_their_failure_is_told(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither cloud is here: the libraries find no credentials, and say so."""
    pytest.importorskip("azure.identity")
    monkeypatch.setenv("PATH", str(tmp_path))  # no `az`, no `gcloud`
    # An endpoint without a server, so that no metadata service is looked for.
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    profiles(profile("https://h.example", "azure", 'azure_scope = "api://mlflow/.default"\n'))
    with pytest.raises(CredentialError, match="azure-identity gave no token"):
        Manager().credential("p")
    pytest.importorskip("google.auth")
    key = tmp_path / "key.json"
    key.write_text("{}")
    lines = f'audience = "iap"\ngoogle_credentials = "{key}"\n'
    profiles(profile("https://h.example", "google", lines))
    with pytest.raises(CredentialError, match="google-auth gave no ID token"):
        Manager().credential("p")


def test_a_google_service_account_asks_for_the_profiles_audience(
    named: Recorder, evil: Recorder, provider: OidcProvider, profiles: Profiles, tmp_path: Path
) -> None:
    """google-auth's own code signs an assertion; its token endpoint is played by a recorder."""
    pytest.importorskip("google.auth")
    token = forged_token(provider, email="svc@project.example", iat=int(time.time()))
    evil.rule = lambda seen: (200, JSON, json.dumps({"id_token": token}).encode())
    key = tmp_path / "key.json"
    key.write_text(
        json.dumps(
            {
                "type": "service_account",
                "client_email": "svc@project.example",
                "private_key": provider.client_key,
                "private_key_id": "1",
                "token_uri": f"{evil.url}/token",
            }
        )
    )
    key.chmod(0o600)
    profiles(profile(named.url, "google", f'audience = "iap"\ngoogle_credentials = "{key}"\n'))
    get(named.url)
    from urllib.parse import parse_qs

    from mlflow_plugins_pack.auth.credentials.claims import claims_of

    (assertion,) = parse_qs(evil.seen[0].body.decode())["assertion"]
    assert claims_of(assertion)["target_audience"] == "iap"
    assert named.seen[0].headers["Authorization"] == f"Bearer {token}"


def test_aws_signature_of_each_request(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Checked by signing what arrived once more with botocore."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    profiles(profile(named.url, "aws-sigv4", 'aws_region = "eu-central-1"\n'))
    with pytest.raises(MlflowException, match="AWS credentials"):
        get(named.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    forget(monkeypatch)
    data = tmp_path / "data"
    data.write_bytes(b"x" * 100_000)
    with data.open("rb") as file:
        http_request(
            MlflowHostCreds(named.url), "/api/2.0/mlflow-artifacts/a?b=c", "PUT", data=file
        )
    (seen,) = named.seen
    assert seen.body == data.read_bytes()
    assert not seen.has(SECRET)
    given = seen.headers["Authorization"]
    signed = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    again = AWSRequest(
        seen.method,
        named.url + seen.path,
        {name: value for name, value in seen.headers.items() if name.lower() in signed},
        data=seen.body,
    )
    again.context["timestamp"] = seen.headers["X-Amz-Date"]
    signer = SigV4Auth(Credentials("AKIDEXAMPLE", SECRET, "session"), "execute-api", "eu-central-1")
    canonical = signer.canonical_request(again)
    signature = signer.signature(signer.string_to_sign(again, canonical), again)
    assert given.endswith(f"Signature={signature}")


# --- chains and extras ----------------------------------------------------------------------------


def test_a_chain_takes_the_first_that_gives_and_else_lists_each_attempt(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    profiles(
        f'[profile.p]\nhosts = ["{named.url}"]\nsource = ["env", "file", "command"]\n'
        f'env = "TOKEN"\nfile = "{token}"\ncommand = ["false"]\nscheme = "Token"\n'
    )
    with pytest.raises(MlflowException, match="no source gave one") as caught:
        get(named.url)
    for said in ("1. env: ", "2. file: ", "3. command: ", "TOKEN is not set", "does not exist"):
        assert said in str(caught.value)
    assert named.seen == []
    token.write_text("from-file")
    get(named.url)
    monkeypatch.setenv("TOKEN", "from-env")
    get(named.url)
    sent = [seen.headers["Authorization"] for seen in named.seen]
    assert sent == ["Token from-file", "Token from-env"]
    assert Manager().credential("p").source == "env"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('source = ["env", "file"]\nenv = "T"\n', "profile.p.file: Field required"),
        ('source = ["env"]\nenv = "T"\nfile = "/t"\n', "profile.p.file: this key is unknown"),
        ('source = ["env", "env"]\nenv = "T"\n', "there twice"),
        ("source = []\n", "source is unknown"),
        ('source = ["env", "aws-sigv4"]\nenv = "T"\naws_region = "x"\n', "signs each request"),
        ('source = "oidc"\nissuer = "http://idp.example"\nclient_id = "c"\n', "must be https"),
        (
            'source = "oidc"\nissuer = "https://i"\nclient_id = "c"\nflow = "client_credentials"\n',
            "needs client_secret or client_key",
        ),
        ('source = "env"\nenv = "T"\ntls = { key = "/k" }\n', "a key needs its cert"),
        ('source = "env"\nenv = "T"\ncorrelation_header = "Authorization"\n', "set twice"),
        ('source = "env"\nenv = "T"\nproxy = "http://proxy.example"\n', "must be https"),
    ],
)
def test_mistakes_are_named(profiles: Profiles, lines: str, said: str) -> None:
    profiles(f'[profile.p]\nhosts = ["https://h.example"]\n{lines}')
    with pytest.raises(AuthConfigError, match=said):
        Manager().profiles()


@pytest.mark.parametrize(
    ("source", "lines", "package", "extra"),
    [
        ("keyring", 'keyring = "a/b"\n', "keyring", "keyring"),
        ("azure", 'azure_scope = "s"\n', "azure.identity", "azure-identity"),
        ("google", 'audience = "a"\n', "google.auth.transport.requests", "google"),
    ],
)
def test_a_missing_extra_names_the_line_that_installs_it(
    profiles: Profiles,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    lines: str,
    package: str,
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    profiles(profile("https://h.example", source, lines))
    with pytest.raises(CredentialError, match=rf"pip install 'mlflow-plugins-pack\[{extra}\]'"):
        Manager().credential("p")


def test_each_source_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "profiles.md").read_text()
    for source in KNOWN_SOURCES:
        assert f"| `{source}` |" in page


# --- the connection -------------------------------------------------------------------------------


def test_mutual_tls_with_a_separate_key_and_a_private_authority(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("T", SECRET)
    authority = Authority(tmp_path)
    server, client = authority.issue("server"), authority.issue("client")
    with recording(certificate=server, clients=authority.ca) as secure:
        tls = f'tls = {{ ca = "{authority.ca}", cert = "{client[0]}", key = "{client[1]}" }}\n'
        profiles(profile(secure.url, "env", f'env = "T"\n{tls}'))
        for auth in (None, "plugins-pack"):  # automatic and opt-in signing
            answer = http_request(MlflowHostCreds(secure.url, auth=auth), API, "GET")
            assert answer.status_code == 200
        assert len(secure.seen) == 2
        profiles(profile(secure.url, "env", f'env = "T"\ntls = {{ ca = "{authority.ca}" }}\n'))
        with pytest.raises(MlflowException, match=r"(?i)ssl|connection"):
            get(secure.url)
        profiles(profile(secure.url, "env", 'env = "T"\n'))
        with pytest.raises(MlflowException, match="CERTIFICATE_VERIFY_FAILED"):
            get(secure.url)
        assert len(secure.seen) == 2


def test_a_client_certificate_is_not_shown_where_a_redirect_leads(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, evil: Recorder
) -> None:
    monkeypatch.setenv("T", SECRET)
    authority = Authority(tmp_path)
    server, client = authority.issue("server"), authority.issue("client")
    with recording(certificate=server, clients=authority.ca) as secure:
        secure.rule = lambda seen: (302, {"Location": evil.url}, b"")
        tls = f'tls = {{ ca = "{authority.ca}", cert = "{client[0]}", key = "{client[1]}" }}\n'
        profiles(profile(secure.url, "env", f'env = "T"\n{tls}'))
        with pytest.raises(MlflowException, match="does not name"):
            get(secure.url, "/get-artifact")
    assert evil.seen == []


def test_a_client_certificate_is_not_shown_to_a_provider(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its hosts are named for the certificate; the provider and what it names are others."""
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "x")
    monkeypatch.setenv("CLIENT_SECRET", "x")
    authority = Authority(tmp_path)
    server, client = authority.issue("server"), authority.issue("client")
    with recording(certificate=server, clients=authority.ca) as asks_for_one:
        tls = f'tls = {{ ca = "{authority.ca}", cert = "{client[0]}", key = "{client[1]}" }}\n'
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{asks_for_one.url}/x")
        oidc = (
            f'source = "oidc"\nissuer = "{asks_for_one.url}"\nclient_id = "c"\n'
            'client_secret = { env = "CLIENT_SECRET" }\n'
        )
        for lines in ('source = "github-actions"\naudience = "a"\n', oidc):
            profiles(f'[profile.p]\nhosts = ["https://h.example"]\n{lines}{tls}')
            with pytest.raises(CredentialError, match=r"wants one of ours|cannot be reached"):
                Manager().credential("p")
        assert asks_for_one.seen == []


def test_the_profiles_certificates_leave_mlflows_caches_alone(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mlflow.store.tracking.rest_store import RestStore

    monkeypatch.setenv("T", SECRET)
    authority = Authority(tmp_path)
    with recording(certificate=authority.issue("server")) as secure:
        secure.rule = lambda seen: (200, {}, b"3.17.2")
        profiles(profile(secure.url, "env", f'env = "T"\ntls = {{ ca = "{authority.ca}" }}\n'))
        for _ in range(5):
            store = RestStore(lambda: MlflowHostCreds(secure.url))
            assert store._get_server_version(store.get_host_creds()) is not None
        assert len(secure.seen) == 1


def test_a_proxy_tunnels_https_and_reads_nothing(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, evil: Recorder
) -> None:
    """The proxy refuses the tunnel: what it saw is an address, and no credential."""
    monkeypatch.setenv("T", SECRET)
    monkeypatch.delenv("NO_PROXY", raising=False)
    evil.rule = lambda seen: (403, {}, b"")
    profiles(profile("https://h.example", "env", f'env = "T"\nproxy = "{evil.url}"\n'))
    with pytest.raises(MlflowException, match=r"(?i)proxy"):
        get("https://h.example")
    assert [seen.method for seen in evil.seen] == ["CONNECT"]
    assert not evil.seen[0].has(SECRET)


def test_workspace_and_correlation_headers(
    named: Recorder, evil: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T", SECRET)
    lines = 'env = "T"\nworkspace = "team-a"\ncorrelation_header = "X-Request-Id"\n'
    profiles(profile(named.url, "env", lines))
    for _ in range(2):
        get(named.url)
    get(named.url, extra_headers={"X-Request-Id": "mine"})
    get(evil.url)
    assert {seen.headers["X-MLFLOW-WORKSPACE"] for seen in named.seen} == {"team-a"}
    marks = [seen.headers["X-Request-Id"] for seen in named.seen]
    assert len(set(marks)) == 3
    assert marks[2] == "mine"
    assert not {"X-MLFLOW-WORKSPACE", "X-Request-Id"} & set(evil.seen[0].headers)


def test_several_profiles_at_once(
    named: Recorder, evil: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A", "token-a")
    monkeypatch.setenv("B", "token-b")
    profiles(
        f'[profile.a]\nhosts = ["{named.url}"]\nsource = "env"\nenv = "A"\n'
        f'[profile.b]\nhosts = ["{evil.url}"]\nsource = "env"\nenv = "B"\n'
    )

    def rule(seen: Seen) -> tuple[int, dict[str, str], bytes]:
        return 302, {"Location": f"{evil.url}/x"}, b""

    named.rule = rule
    get(evil.url)
    get(named.url, "/get-artifact")  # a redirect to another profile's host signs in to neither
    assert [seen.headers.get("Authorization") for seen in named.seen] == ["Bearer token-a"]
    assert [seen.headers.get("Authorization") for seen in evil.seen] == ["Bearer token-b", None]
