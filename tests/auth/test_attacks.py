"""Nothing that a profile keeps reaches a host that it does not name; faults send nothing.

What needs more than a hostile server is beside this file: look-alike addresses in test_origin.py,
token files that are damaged, foreign, open or links in test_store.py, a provider in trouble in
test_oidc.py, answers to a sign-in that are another's in test_login.py, names smuggled past proxies
in test_proxies.py, forged tokens in tests/identity.
"""

from __future__ import annotations

import io
import json
import logging
import pickle
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from mlflow_plugins_pack.auth.manager import Manager, get_manager
from mlflow_plugins_pack.auth.profiles import OidcProfile
from mlflow_plugins_pack.auth.session import PackAuth
from mlflow_plugins_pack.auth.sources import open_oidc
from mlflow_plugins_pack.auth.sources.oidc import OidcSource
from tests.auth.certificates import Authority
from tests.auth.parts import JSON, Answer, Recorder, Seen, recording, write_profiles
from tests.auth.test_oidc import machine
from tests.oidc import OidcProvider

Profiles = Callable[[str], Path]
SECRET = "planted-secret-4711"
API = "/api/2.0/mlflow/runs/get"
ARTIFACT = "/api/2.0/mlflow-artifacts/artifacts/1/a.bin"


@pytest.fixture
def signed_in(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., requests.Response]:
    """A profile with Authorization and a custom header; call it to send to the named host."""
    monkeypatch.setenv("TOKEN", SECRET)
    profiles(
        f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "env"\nenv = "TOKEN"\n'
        'extra_headers = { "X-Access-Secret" = { env = "TOKEN" } }\n'
    )

    def send(method: str = "GET", path: str = ARTIFACT, **kwargs: Any) -> requests.Response:
        return http_request(MlflowHostCreds(named.url), path, method, **kwargs)

    return send


def redirect_to(target: str, status: int) -> Callable[[Seen], Answer]:
    return lambda seen: (status, {"Location": target}, b"")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_elsewhere_is_followed_without_any_secret(
    signed_in: Callable[..., requests.Response], named: Recorder, evil: Recorder, status: int
) -> None:
    """Another port of the same host is another server."""
    named.rule = redirect_to(f"{evil.url}/stolen", status)
    signed_in()
    assert named.seen[0].has(SECRET)
    assert len(evil.seen) == 1
    assert not evil.seen[0].has(SECRET)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_an_api_call_is_not_redirected_elsewhere(
    signed_in: Callable[..., requests.Response], named: Recorder, evil: Recorder, status: int
) -> None:
    named.rule = redirect_to(f"{evil.url}/login", status)
    with pytest.raises(MlflowException, match="Nothing was sent there"):
        signed_in("POST", API, json={"body": SECRET})
    assert evil.seen == []


@pytest.mark.parametrize("status", [307, 308])
def test_an_upload_is_not_replayed_elsewhere(
    signed_in: Callable[..., requests.Response], named: Recorder, evil: Recorder, status: int
) -> None:
    named.rule = redirect_to(f"{evil.url}/stolen", status)
    with pytest.raises(MlflowException, match="does not name"):
        signed_in("PUT", data=io.BytesIO(b"private bytes"))
    assert evil.seen == []


def test_coming_back_from_elsewhere_is_not_signed_in_again(
    signed_in: Callable[..., requests.Response], named: Recorder, evil: Recorder
) -> None:
    """Else the other server would choose what is asked in the person's name."""
    evil.rule = redirect_to(f"{named.url}/api/2.0/mlflow/chosen-by-evil", 302)
    named.rule = lambda seen: (
        (401, JSON, b"{}") if "evil" in seen.path else (302, {"Location": f"{evil.url}/x"}, b"")
    )
    signed_in()
    assert [seen.path.rpartition("/")[2] for seen in named.seen] == ["a.bin", "chosen-by-evil"]
    assert not named.seen[1].has(SECRET)


def test_a_redirect_within_the_host_stays_signed_in(
    signed_in: Callable[..., requests.Response], named: Recorder
) -> None:
    named.rule = lambda seen: (
        (200, JSON, b"{}") if seen.path == "/next" else (307, {"Location": "/next"}, b"")
    )
    assert signed_in().status_code == 200
    assert named.seen[1].headers["Authorization"] == f"Bearer {SECRET}"


def test_a_redirect_after_a_refreshed_token_carries_neither_token(
    named: Recorder, evil: Recorder, profiles: Profiles, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("old-token-1")
    profiles(f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "file"\nfile = "{token}"\n')

    def rule(seen: Seen) -> Answer:
        if seen.headers.get("Authorization") == "Bearer old-token-1":
            token.write_text("new-token-22")
            return 401, JSON, b"{}"
        return 302, {"Location": f"{evil.url}/x"}, b""

    named.rule = rule
    http_request(MlflowHostCreds(named.url), ARTIFACT, "GET")
    assert len(evil.seen) == 1
    assert not evil.seen[0].has("old-token-1")
    assert not evil.seen[0].has("new-token-22")


@pytest.mark.parametrize("scheme", ["mlflow-artifacts", "http"])
def test_an_artifact_uri_at_another_host_gets_no_secret(
    signed_in: object, evil: Recorder, named: Recorder, tmp_path: Path, scheme: str
) -> None:
    mlflow.set_tracking_uri(named.url)
    address = evil.url.removeprefix("http://")
    path = "/api/2.0/mlflow-artifacts/artifacts/x/a.txt" if scheme == "http" else "/x/a.txt"
    evil.rule = lambda seen: (
        (200, JSON, b'{"files": []}')
        if "path=" in seen.path
        else (200, {"Content-Type": "text/plain"}, b"bait")
    )
    try:
        got = mlflow.artifacts.download_artifacts(
            artifact_uri=f"{scheme}://{address}{path}", dst_path=str(tmp_path)
        )
    except MlflowException:
        got = None
    finally:
        mlflow.set_tracking_uri(None)
    assert evil.seen, f"the attack did not reach the other host; got {got}"
    assert not any(seen.has(SECRET) for seen in evil.seen)


def test_a_model_whose_source_is_at_another_host_gets_no_secret(
    signed_in: object, evil: Recorder, named: Recorder, tmp_path: Path
) -> None:
    """A server of today refuses such a source; an older, edited or hostile one hands it out."""
    address = evil.url.removeprefix("http://")
    source = f"mlflow-artifacts://{address}/1/model"
    version = {"name": "m", "version": "1", "source": source, "status": "READY"}

    def rule(seen: Seen) -> Answer:
        if "get-download-uri" in seen.path:
            return 200, JSON, json.dumps({"artifact_uri": source}).encode()
        return 200, JSON, json.dumps({"model_version": version}).encode()

    named.rule = rule
    evil.rule = lambda seen: (200, JSON, b'{"files": []}')
    mlflow.set_tracking_uri(named.url)
    try:
        mlflow.artifacts.download_artifacts(artifact_uri="models:/m/1", dst_path=str(tmp_path))
    except MlflowException:
        pass
    finally:
        mlflow.set_tracking_uri(None)
    assert evil.seen, "the attack did not reach the other host"
    assert not any(seen.has(SECRET) for seen in evil.seen)


def test_a_redirect_to_another_name_of_the_host_carries_no_secret(
    signed_in: Callable[..., requests.Response], named: Recorder
) -> None:
    named.rule = lambda seen: (
        (200, JSON, b"{}")
        if seen.path == "/next"
        else (302, {"Location": f"http://localhost:{named.port}/next"}, b"")
    )
    signed_in()
    assert named.seen[1].path == "/next"
    assert not named.seen[1].has(SECRET)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_out_of_tls_carries_no_secret(
    profiles: Profiles,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    evil: Recorder,
    status: int,
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    authority = Authority(tmp_path)
    with recording(certificate=authority.issue("server")) as secure:
        profiles(
            f'[profile.prod]\nhosts = ["{secure.url}"]\nsource = "env"\nenv = "TOKEN"\n'
            f'tls = {{ ca = "{authority.ca}" }}\n'
        )
        secure.rule = redirect_to(f"{evil.url}/plain", status)
        http_request(MlflowHostCreds(secure.url), ARTIFACT, "GET")
        with pytest.raises(MlflowException, match="Nothing was sent there"):
            http_request(MlflowHostCreds(secure.url), API, "GET")
        assert all(seen.has(SECRET) for seen in secure.seen)
    assert len(evil.seen) == 1
    assert not evil.seen[0].has(SECRET)


def test_the_deployments_client_gives_no_secret_to_its_target(
    signed_in: object, evil: Recorder
) -> None:
    from mlflow.deployments import get_deploy_client

    evil.rule = lambda seen: (200, JSON, b'{"endpoints": []}')
    get_deploy_client(evil.url).list_endpoints()
    assert evil.seen
    assert not any(seen.has(SECRET) for seen in evil.seen)


@pytest.mark.parametrize("body", ["file", "bytes"])
def test_a_401_is_answered_once_with_the_rotated_token_and_the_whole_body(
    named: Recorder, profiles: Profiles, tmp_path: Path, body: str
) -> None:
    token, data = tmp_path / "token", tmp_path / "data"
    token.write_text("old-token-1\n")
    content = bytes(range(256)) * 4096
    data.write_bytes(content)
    profiles(f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "file"\nfile = "{token}"\n')

    def rule(seen: Seen) -> Answer:
        if seen.headers["Authorization"] != "Bearer new-token-22":
            token.write_text("new-token-22\n")
            return 401, JSON, b"{}"
        return 200, JSON, b"{}"

    named.rule = rule
    with data.open("rb") as file:
        answer = http_request(
            MlflowHostCreds(named.url), ARTIFACT, "PUT", data=file if body == "file" else content
        )
    assert answer.status_code == 200
    assert [seen.body == content for seen in named.seen] == [True, True]


def test_a_401_with_nothing_newer_is_returned_and_not_repeated(
    signed_in: Callable[..., requests.Response], named: Recorder
) -> None:
    named.rule = lambda seen: (401, JSON, b"{}")
    assert signed_in().status_code == 401
    assert len(named.seen) == 1


def test_a_401_to_every_token_is_tried_once(named: Recorder, profiles: Profiles) -> None:
    profiles(
        f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "command"\n'
        'command = ["sh", "-c", "echo token-$$"]\n'
    )
    named.rule = lambda seen: (401, JSON, b"{}")
    assert http_request(MlflowHostCreds(named.url), API, "GET").status_code == 401
    assert len(named.seen) == 2


def test_a_body_that_cannot_be_rewound_is_not_resent(named: Recorder, profiles: Profiles) -> None:
    profiles(
        f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "command"\n'
        'command = ["sh", "-c", "echo token-$$"]\n'
    )

    def stream() -> Iterator[bytes]:
        yield b"once"

    named.rule = lambda seen: (401, JSON, b"{}")
    answer = http_request(MlflowHostCreds(named.url), ARTIFACT, "PUT", data=stream())
    assert answer.status_code == 401
    assert len(named.seen) == 1


@pytest.mark.parametrize("status", [403, 404, 500])
def test_other_refusals_are_not_retried(
    signed_in: Callable[..., requests.Response], named: Recorder, status: int
) -> None:
    named.rule = lambda seen: (status, JSON, b"{}")
    signed_in(raise_on_status=False)
    assert len(named.seen) == 1


def test_a_sign_in_page_is_recognised(
    signed_in: Callable[..., requests.Response], named: Recorder
) -> None:
    named.rule = lambda seen: (200, {"Content-Type": "text/html; charset=utf-8"}, b"<form>")
    with pytest.raises(MlflowException, match="sign-in page"):
        signed_in(path=API)
    assert signed_in(path=ARTIFACT).status_code == 200  # an HTML report is a fine artifact


def conflict_token(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> dict[str, Any]:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "other-token")
    return {"token": "other-token"}


def conflict_user(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> dict[str, Any]:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "other")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "other-password")
    return {"username": "other", "password": "other-password"}


def conflict_netrc(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> dict[str, Any]:
    path = home / "netrc"
    path.write_text("machine 127.0.0.1 login other password other-password\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    return {}


def conflict_file(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> dict[str, Any]:
    """Stock MLflow reads ~/.mlflow/credentials where it makes the host's credentials."""
    from mlflow.utils.credentials import get_default_host_creds

    monkeypatch.setenv("HOME", str(home))
    (home / ".mlflow").mkdir()
    (home / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = other\nmlflow_tracking_password = other-password\n"
    )
    found = get_default_host_creds(url)
    assert found.username == "other"
    return {"username": found.username, "password": found.password}


@pytest.mark.parametrize("conflict", [conflict_token, conflict_user, conflict_file, conflict_netrc])
def test_the_profile_wins_over_other_credentials_with_one_warning(
    named: Recorder,
    profiles: Profiles,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    conflict: Callable[..., dict[str, Any]],
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    extra = conflict(monkeypatch, tmp_path, named.url)
    text = f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "env"\nenv = "TOKEN"\n'
    profiles(text)
    for _ in range(3):
        http_request(MlflowHostCreds(named.url, **extra), API, "GET")
    assert {seen.headers["Authorization"] for seen in named.seen} == {f"Bearer {SECRET}"}
    warnings = [r for r in caplog.records if r.name.startswith("mlflow_plugins_pack")]
    assert len(warnings) == 1
    named.seen.clear()
    profiles(f'{text}on_conflict = "error"\n')
    with pytest.raises(MlflowException, match="on_conflict"):
        http_request(MlflowHostCreds(named.url, **extra), API, "GET")
    assert named.seen == []


def test_netrc_does_not_take_over_after_a_redirect(
    signed_in: Callable[..., requests.Response],
    named: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    conflict_netrc(monkeypatch, tmp_path, named.url)
    named.rule = redirect_to("/next", 307)
    with pytest.raises(MlflowException, match="netrc"):
        signed_in()
    assert len(named.seen) == 1


class OtherProvider:
    """Somebody else's way to sign in: as a request_auth_provider and in SigV4's place."""

    def get_name(self) -> str:
        return "other"

    def get_auth(self) -> tuple[str, str]:
        return "other", "password"


@pytest.mark.parametrize("other", [{"aws_sigv4": True}, {"auth": "other"}])
def test_another_way_to_sign_in_to_a_named_host_is_refused(
    signed_in: object, named: Recorder, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    from mlflow.tracking.request_auth import registry

    # Its package is optional, and it is never called: a name to import is all that is needed.
    sigv4 = types.ModuleType("requests_auth_aws_sigv4")
    sigv4.AWSSigV4 = lambda service: ("other", "password")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "requests_auth_aws_sigv4", sigv4)
    registered = registry._request_auth_provider_registry
    monkeypatch.setattr(registered, "_registry", [*registered._registry, OtherProvider()])
    with pytest.raises(MlflowException, match="both want to sign in"):
        http_request(MlflowHostCreds(named.url, **other), API, "GET")
    assert named.seen == []


def test_a_second_provider_with_the_same_header_does_not_mix_with_ours(
    signed_in: Callable[..., requests.Response], named: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking.request_header import registry

    class Other:
        def in_context(self) -> bool:
            return True

        def request_headers(self) -> dict[str, str]:
            return {"Authorization": "Bearer other"}

    registered = registry._request_header_provider_registry
    monkeypatch.setattr(registered, "_registry", [*registered._registry, Other()])
    signed_in()
    assert named.seen[0].headers["Authorization"] == f"Bearer {SECRET}"


def test_a_proxy_does_not_get_to_read_a_loopback_credential(
    signed_in: Callable[..., requests.Response],
    named: Recorder,
    evil: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", evil.url)
    monkeypatch.setenv("http_proxy", evil.url)
    with pytest.raises(MlflowException, match="NO_PROXY"):
        signed_in()
    assert evil.seen == named.seen == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["sleep", "30"], "did not end within"),
        (["sh", "-c", "yes"], "more than 64 KiB"),
        (["sh", "-c", f"echo the token is {SECRET} >&2; exit 3"], "exit code 3"),
        (["sh", "-c", f"echo password={SECRET} >&2; exit 3"], "exit code 3"),
        (["true"], "printed no token"),
        (["no-such-program-here"], "cannot be started"),
        (["printf", "two\\nlines"], "line break"),
        (["printf", "{"], "is not JSON"),
        (["printf", '{"access_token": "t", "expires_in": -5}'], "expires_in"),
    ],
)
def test_a_helper_that_misbehaves_sends_nothing_and_tells_no_secret(
    named: Recorder, profiles: Profiles, command: list[str], said: str
) -> None:
    listed = ", ".join(f"'{word}'" if '"' in word else f'"{word}"' for word in command)
    listed = listed.replace('"two\\nlines"', "'two\\nlines'")
    profiles(
        f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "command"\ncommand = [{listed}]\n'
        "timeout_seconds = 1\n"
    )
    with pytest.raises(MlflowException, match=said) as caught:
        http_request(MlflowHostCreds(named.url), API, "GET")
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert "'prod'" in str(caught.value)
    assert named.seen == []


@pytest.mark.parametrize("token", ["a\nb", "a\rb", "töken\u20ac", "", "   "])
def test_a_token_that_no_header_may_carry_is_refused(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("TOKEN", token)
    profiles(f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "env"\nenv = "TOKEN"\n')
    with pytest.raises(MlflowException, match="has no credential"):
        http_request(MlflowHostCreds(named.url), API, "GET")
    assert named.seen == []


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_wrong_by_an_hour_costs_a_fetch_and_no_more(
    provider: OidcProvider, profiles: Profiles, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Another process, whose clock is wrong, or after the clock was set."""
    monkeypatch.setenv("CLIENT_SECRET", "planted-client-secret")
    profiles(machine(provider.issuer))
    wanted = Manager().profile("ci")
    assert isinstance(wanted, OidcProfile)
    before = len(provider.grants())
    right = open_oidc("ci", wanted)
    wrong = OidcSource("ci", right.provider, lambda: time.time() + hours * 3600)
    first, second = right.fetch(), wrong.fetch()
    assert len(provider.grants()) == before + 2
    assert first.headers != second.headers
    assert second.lifetime_seconds == pytest.approx(3600, abs=5)


def test_planted_secrets_appear_nowhere(
    signed_in: Callable[..., requests.Response],
    named: Recorder,
    evil: Recorder,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Everything at DEBUG, through a success, a 401, a redirect and a refusal."""
    caplog.set_level(logging.DEBUG)
    texts = []
    signed_in()
    for rule in (
        lambda seen: (401, JSON, b"{}"),
        redirect_to(f"{evil.url}/x", 302),
        redirect_to(f"{evil.url}/x", 307),
    ):
        named.rule = rule
        try:
            signed_in("POST", API, data=b"x")
        except MlflowException as exc:
            texts.append("".join(traceback.format_exception(exc)))
    auth = PackAuth()
    manager = get_manager()
    credential = manager.credential("prod")
    texts += [repr(auth), repr(manager), repr(vars(manager)), repr(credential), caplog.text]
    texts += [repr(manager.profiles()), *capfd.readouterr()]
    assert texts[0]
    assert not any(SECRET in text for text in texts)
    assert SECRET.encode() not in pickle.dumps(auth)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(credential)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_profiles_file_that_others_may_write_is_refused(
    named: Recorder, profiles: Profiles, mode: int
) -> None:
    path = profiles(f'[profile.p]\nhosts = ["{named.url}"]\nsource = "env"\nenv = "T"\n')
    path.chmod(mode)
    with pytest.raises(MlflowException, match="chmod go-w"):
        http_request(MlflowHostCreds(named.url), API, "GET")
    assert named.seen == []


def test_a_profiles_file_in_a_folder_that_everybody_may_write_is_refused(
    named: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    path = write_profiles(folder / "auth.toml", "[profile]\n")
    monkeypatch.setenv("MLFLOW_PACK_AUTH_CONFIG", str(path))
    with pytest.raises(MlflowException, match="chmod o-w"):
        http_request(MlflowHostCreds(named.url), API, "GET")
