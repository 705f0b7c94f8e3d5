"""The attacks and faults that sign-in must withstand: one numbered part each.

In all of them nothing secret reaches a host that no profile names, and what cannot be signed in is
an error that says why, without a request. Real parts where there are any: the provider is npm
oidc-provider, the last part goes through nginx and through Apache with mod_auth_openidc.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from mlflow_plugins_pack.auth.credentials.contracts import SourceError
from mlflow_plugins_pack.auth.manager import Manager, get_manager
from mlflow_plugins_pack.auth.oidc import login
from mlflow_plugins_pack.auth.profiles.models import OidcProfile
from mlflow_plugins_pack.auth.profiles.paths import token_folder
from mlflow_plugins_pack.auth.signing.signer import PackAuth
from mlflow_plugins_pack.auth.sources import open_oidc
from mlflow_plugins_pack.auth.sources.oidc import OidcSource
from mlflow_plugins_pack.auth.token_store.stored_token import Stored, dump
from mlflow_plugins_pack.auth.token_store.stores import FileStore
from mlflow_plugins_pack.errors import CredentialError
from tests.auth.oidc.test_flows import in_processes, machine, token_of
from tests.auth.oidc.test_login import in_the_background, redirected, sign_in_by_browser, spend
from tests.auth.profiles.test_origins import covered
from tests.auth.support.certificates import Authority
from tests.auth.support.parts import (
    API,
    ARTIFACT,
    JSON,
    SECRET,
    Answer,
    Profiles,
    Recorder,
    Seen,
    conflict_netrc,
    recording,
    redirect_to,
    write_profiles,
)
from tests.auth.support.proxies import apache_openidc, nginx_auth_request, verifying
from tests.auth.test_plugin import env_profile, get
from tests.auth.token_store.test_stores import FIRST, KEY, path_of
from tests.support import servers
from tests.support.oidc import SECRET as CLIENT_SECRET
from tests.support.oidc import OidcProvider
from tests.support.oidc.person import sign_in


@pytest.fixture(autouse=True)
def _client_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", CLIENT_SECRET)


# 1. Artifact URI, or a model's source, at another host.


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


# 2. The deployments client.


def test_the_deployments_client_gives_no_secret_to_its_target(
    signed_in: object, evil: Recorder
) -> None:
    from mlflow.deployments import get_deploy_client

    evil.rule = lambda seen: (200, JSON, b'{"endpoints": []}')
    get_deploy_client(evil.url).list_endpoints()
    assert evil.seen
    assert not any(seen.has(SECRET) for seen in evil.seen)


# 3. Redirects 301, 302, 303, 307, 308 across port, host and out of TLS.


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


# 4. A source that fails: nothing is sent.


def test_a_failing_source_sends_nothing_and_says_what_to_do(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles(env_profile(named.url))
    mlflow.set_tracking_uri(named.url)
    try:
        with pytest.raises(MlflowException, match="TOKEN is not set") as caught:
            mlflow.MlflowClient().get_experiment("1")
    finally:
        mlflow.set_tracking_uri(None)
    assert "'prod'" in str(caught.value)
    assert "mlflow-pack auth status" in str(caught.value)
    assert named.seen == []


# 5. Conflicts: netrc, token, user, credentials file.


def conflict_token(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> dict[str, Any]:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "other-token")
    return {"token": "other-token"}


def conflict_user(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> dict[str, Any]:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "other")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "other-password")
    return {"username": "other", "password": "other-password"}


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


# 6. A second provider with the same header.


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


# 7. Look-alike origins.


@pytest.mark.parametrize(
    "url",
    [
        "http://mlflow.example.com/",
        "https://mlflow.example.com:8443/",
        "https://mlflow.example.com.evil/",
        "https://evil.com/mlflow.example.com",
        "https://xmlflow.example.com/",
        "https://example.com/",
        "https://a.mlflow.example.com/",
        "https://mlflow.example.com./",
        "https://mlflow.example.com@evil.com/",
        "https://user:pw@mlflow.example.com/",
        "https://mlflow.example.com\\@evil.com/",
        "https://evil.com\\.mlflow.example.com/",
        "https://evil.com#@mlflow.example.com/",
        "https://mlflow.example.com%2eevil.com/",
        "https://mlflow%2eexample.com/",
        "https://mlflow.ex\u0430mple.com/",
        "https://mlflow.example.com\u3002evil/",
        "https://mlflow.example.com:0443x/",
        "https://mlflow.example.com:/",
        "https://mlflow.example.com :443/",
        " https://mlflow.example.com/",
        "https:mlflow.example.com/",
        "https:///mlflow.example.com/",
        "//mlflow.example.com/",
        "https://[::ffff:127.0.0.1]/",
        "",
    ],
)
def test_look_alikes_are_not_covered(url: str) -> None:
    assert not covered("https://mlflow.example.com", url)


@pytest.mark.parametrize(
    "host",
    ["127.1:5000", "0x7f.0.0.1:5000", "2130706433:5000", "0177.0.0.1:5000", "localhost:5000"],
)
def test_other_spellings_of_an_address_are_not_covered(host: str) -> None:
    assert not covered("http://127.0.0.1:5000", f"http://{host}/")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/other",
        "/mlflowx",
        "//mlflow",
        "/Mlflow",
        "/mlflow/../other",
        "/mlflow/%2e%2e/other",
        "/mlflow/%252e%252e/other",
        "/mlflow/..%2fother",
        "/mlflow/..;/other",
        "/mlflow/..\\other",
        "/mlflow/../other/../mlflow/x",
        "/other/%2e%2e/../mlflow/../x",
    ],
)
def test_paths_outside_the_prefix_are_not_covered(path: str) -> None:
    assert not covered("https://gw.example/mlflow", f"https://gw.example{path}")


@pytest.mark.parametrize(
    "look_alike",
    [
        "localhost:{port}",
        "127.1:{port}",
        "2130706433:{port}",
        "someone@127.0.0.1:{port}",
        "[::ffff:127.0.0.1]:{port}",
    ],
)
def test_a_request_to_a_look_alike_carries_no_secret(
    signed_in: object, named: Recorder, look_alike: str
) -> None:
    """All of these lead to the very server that the profile names by another address."""
    try:
        get(f"http://{look_alike.format(port=named.port)}")
    except MlflowException:
        assert named.seen == []  # not every system connects to each of them
    assert not any(seen.has(SECRET) for seen in named.seen)


# 8. 401: once and only once.


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


# 9. 64 threads, cold and at 401.


def test_sixty_four_threads_cold_and_at_401_make_one_fetch_each(
    provider: OidcProvider, profiles: Profiles, named: Recorder
) -> None:
    profiles(machine(provider.issuer, named.url))
    before = len(provider.grants())
    refused: set[str] = set()

    def rule(seen: Seen) -> tuple[int, dict[str, str], bytes]:
        return (401 if seen.headers["Authorization"] in refused else 200), JSON, b"{}"

    named.rule = rule
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(http_request(MlflowHostCreds(named.url), API, "GET").status_code)

    for fetches in (1, 2):
        threads = [threading.Thread(target=ask) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(provider.grants()) == before + fetches
        refused.update(seen.headers["Authorization"] for seen in named.seen)
    assert statuses == [200] * 128


# 10. 8 processes, with rotation of the refresh token.


def test_eight_processes_make_one_refresh_and_keep_the_rotated_token(
    source: OidcSource, provider: OidcProvider
) -> None:
    sign_in_by_browser(source)
    for _ in range(3):  # with a token spent twice the provider would revoke the whole sign-in
        spend(source)
        before = len(provider.grants("refresh_token"))
        tokens = in_processes(8, "me")
        assert len(tokens) == 8
        assert len(set(tokens)) == 1
        assert len(provider.grants("refresh_token")) == before + 1
    assert provider.grants("refresh_token", ok=False) == []


# 11. kill -9 during a write of the token file.


WRITER = """
import itertools, sys
from mlflow_plugins_pack.auth.token_store.stores import FileStore
from mlflow_plugins_pack.auth.token_store.stored_token import Stored
store = FileStore(sys.argv[1])
print("go", flush=True)
for number in itertools.count():
    store.write("k", Stored(f"token-{number}-" + "x" * 50_000, float(number)))
"""


def has_number(store: FileStore, least: int) -> bool:
    found = store.read(KEY)
    return found is not None and found.issued_at >= least


def test_kill_9_during_a_write_leaves_a_whole_file(store: FileStore) -> None:
    command = [sys.executable, "-c", WRITER, store._folder]
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "go\n"
            # Until it has written some files: it dies at whatever point of the next.
            servers.wait_until(lambda: has_number(store, 5), "the writing")
            writer.send_signal(signal.SIGKILL)
        found = store.read(KEY)
        assert found is not None
        assert len(found.token) > 50_000
        store.erase(KEY)
    store.write(KEY, FIRST)  # which also sweeps what the killed ones left
    assert sorted(path.name for path in path_of(store).parent.iterdir()) == ["k.json"]


# 12. A token file that is damaged, truncated, foreign, open to others or a link.


@pytest.mark.parametrize("content", [b"", b"{", b"\x00" * 100, b"x" * 300_000])
def test_a_damaged_file_counts_as_empty(
    store: FileStore, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store.write(KEY, FIRST)
    path_of(store).write_bytes(content)
    assert store.read(KEY) is None
    assert "is damaged" in caplog.text
    store.write(KEY, FIRST)
    assert store.read(KEY) == FIRST


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o660])
def test_a_file_that_others_may_read_is_refused(store: FileStore, mode: int) -> None:
    store.write(KEY, FIRST)
    path_of(store).chmod(mode)
    with pytest.raises(SourceError, match="others may read or write"):
        store.read(KEY)


def test_a_link_is_refused(store: FileStore, tmp_path: Path) -> None:
    store.write(KEY, FIRST)
    (tmp_path / "real").write_bytes(dump(FIRST))
    path_of(store).unlink()
    path_of(store).symlink_to(tmp_path / "real")
    with pytest.raises(SourceError, match="cannot be read"):
        store.read(KEY)
    # Writing replaces the link and leaves alone what it pointed to.
    store.write(KEY, Stored("token-2", 1.0))
    assert b"token-1" in (tmp_path / "real").read_bytes()
    assert not path_of(store).is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_or_folder_of_somebody_else_is_refused(store: FileStore) -> None:
    store.write(KEY, FIRST)
    os.chown(path_of(store), 12345, 12345)
    with pytest.raises(SourceError, match="belongs to another user"):
        store.read(KEY)
    os.chown(path_of(store).parent, 12345, 12345)
    with pytest.raises(SourceError, match="belongs to another user"):
        store.write(KEY, FIRST)


def test_a_folder_that_is_a_link_or_open_is_refused(store: FileStore, tmp_path: Path) -> None:
    store.write(KEY, FIRST)
    folder = path_of(store).parent
    folder.chmod(0o755)
    with pytest.raises(SourceError, match="others may read or write"):
        store.write(KEY, FIRST)
    folder.chmod(0o700)
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    with pytest.raises(SourceError, match="is a link"):
        store.write(KEY, FIRST)


# 13. The provider down, slow, HTML, 429; expires_in missing, 0, negative, huge, a string.


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("down", "cannot be reached"),
        ("slow", "did not answer in time"),
        ("html", "a web page"),
        ("busy", "busy or out of order"),
        ({"expires_in": -5}, "expires_in is negative"),
        ({"expires_in": "soon"}, "expires_in is not a number"),
        ({"access_token": ""}, "without an access_token"),
        ({"access_token": "a\r\nX-Evil: 1"}, "line break"),
    ],
    ids=str,
)
def test_a_provider_in_trouble_is_named_and_nothing_is_sent(
    provider: OidcProvider,
    profiles: Profiles,
    named: Recorder,
    fault: str | dict[str, object],
    said: str,
) -> None:
    profiles(machine(provider.issuer, named.url, "timeout_seconds = 1\n"))
    provider.fault(fault)
    with pytest.raises(MlflowException, match=said) as caught:
        http_request(MlflowHostCreds(named.url), API, "GET")
    assert "'ci'" in str(caught.value)
    assert named.seen == []


@pytest.mark.parametrize(
    ("given", "life"),
    [(None, None), (0, 0), (10**12, 366 * 86400), ("3600", 3600), (1.5, 1.5)],
)
def test_odd_lives(
    provider: OidcProvider, profiles: Profiles, given: object, life: float | None
) -> None:
    profiles(machine(provider.issuer, extra='cache = "memory"\n'))
    provider.fault({"expires_in": given})
    found = Manager().credential("ci").lifetime_seconds
    assert found == (None if life is None else pytest.approx(life, abs=1))


# 14. A clock that is wrong by an hour.


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


# 15. Issuer, mix-up, PKCE, state, nonce.


def test_another_issuers_document_is_refused(
    profiles: Profiles, named: Recorder, evil: Recorder
) -> None:
    document = {"issuer": evil.url, "token_endpoint": f"{evil.url}/token"}
    named.rule = lambda seen: (200, JSON, json.dumps(document).encode())
    profiles(machine(named.url))
    with pytest.raises(CredentialError, match="another issuer"):
        token_of(Manager())
    assert evil.seen == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"iss": "https://evil.example"}, "another provider answered"),
        ({}, "another provider answered"),  # it promises to name itself (RFC 9207)
        ({"iss": "ISSUER", "code": None}, "holds no code"),
        ({"iss": "ISSUER", "code": None, "error": "access_denied"}, "access_denied"),
        ({"iss": "ISSUER"}, "invalid_grant"),  # a code that is not of this provider
    ],
)
def test_an_answer_that_does_not_hold_ends_the_sign_in(
    source: OidcSource, provider: OidcProvider, changes: dict[str, str | None], said: str
) -> None:
    changes = {
        key: provider.issuer if value == "ISSUER" else value for key, value in changes.items()
    }

    def act(url: str) -> None:
        requests.get(redirected(url, **changes), timeout=10)

    with in_the_background(act) as show, pytest.raises(SourceError, match=said):
        login.by_browser(source.provider, 60, show)
    assert not Path(token_folder()).exists()


def test_the_code_is_worthless_without_the_verifier(
    source: OidcSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = source.provider.exchange_code
    monkeypatch.setattr(
        source.provider, "exchange_code", lambda code, _, uri: exchange(code, "w" * 43, uri)
    )
    with in_the_background(sign_in) as show, pytest.raises(SourceError, match="invalid_grant"):
        login.by_browser(source.provider, 60, show)


def test_an_answer_with_another_state_is_refused_and_the_sign_in_stays_open(
    source: OidcSource,
) -> None:
    def act(url: str) -> None:
        foreign = requests.get(redirected(url, state="other", iss="x"), timeout=10)
        assert foreign.status_code == 400
        assert requests.get(redirected(url, state=None), timeout=10).status_code == 400
        assert (
            requests.get(redirected(url).replace("/callback", "/x"), timeout=10).status_code == 404
        )
        sign_in(url)

    with in_the_background(act) as show:
        _, who = login.by_browser(source.provider, 60, show)
    assert who == "alice"


def test_an_id_token_for_another_sign_in_is_refused(
    source: OidcSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer injected from another dialogue carries that one's nonce."""
    other = login.Question()
    original = login.Question.url

    def url(self: login.Question, *arguments: object) -> str:
        return original(replace(self, nonce=other.nonce), *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(login.Question, "url", url)
    with in_the_background(sign_in) as show, pytest.raises(SourceError, match="nonce"):
        login.by_browser(source.provider, 60, show)


def test_a_forged_id_token_is_refused(source: OidcSource, provider: OidcProvider) -> None:
    from joserfc import jwt
    from joserfc.jwk import OctKey

    now = int(time.time())
    claims = {"iss": provider.issuer, "aud": "person", "sub": "mallory", "exp": now + 60}
    forged = jwt.encode({"alg": "HS256", "kid": "one"}, claims, OctKey.import_key("x" * 32))
    provider.fault({"id_token": forged})
    with in_the_background(sign_in) as show, pytest.raises(SourceError, match="algorithm"):
        login.by_browser(source.provider, 60, show)


# 16. A helper that hangs, floods, fails, prints secrets.


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


# 17. CR and LF in a token.


@pytest.mark.parametrize("token", ["a\nb", "a\rb", "töken\u20ac", "", "   "])
def test_a_token_that_no_header_may_carry_is_refused(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("TOKEN", token)
    profiles(f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "env"\nenv = "TOKEN"\n')
    with pytest.raises(MlflowException, match="has no credential"):
        http_request(MlflowHostCreds(named.url), API, "GET")
    assert named.seen == []


# 18. A profiles file in the current directory.


def test_the_current_directory_is_never_looked_at(
    named: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOKEN", "planted-token-1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", ".")
    (tmp_path / "mlflow-pack").mkdir()
    for path in ("auth.toml", "mlflow-pack/auth.toml"):
        write_profiles(tmp_path / path, env_profile(named.url))
    get(named.url)
    assert "Authorization" not in named.seen[0].headers


# 19. A profiles file that others may write.


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


# 20. Planted tokens in logs, tracebacks and pickles.


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


# 21. The same behind real proxies that verify a real provider's tokens: nginx, and Apache with
#     mod_auth_openidc.


@pytest.mark.parametrize("kind", ["nginx", "apache"])
def test_tokens_of_a_real_provider_appear_nowhere(
    kind: str,
    named: Recorder,
    evil: Recorder,
    provider: OidcProvider,
    profiles: Profiles,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A success, redirects to another host and a token that is revoked on the way."""
    caplog.set_level(logging.DEBUG)
    with contextlib.ExitStack() as stack:
        if kind == "nginx":
            verifier = stack.enter_context(verifying(provider))
            started = nginx_auth_request(tmp_path / kind, named.url, verifier)
        else:
            started = apache_openidc(tmp_path / kind, named.url, provider)
        proxy = stack.enter_context(started)
        more = 'extra_headers = { "X-Access-Secret" = { env = "CLIENT_SECRET" } }\n'
        profiles(machine(provider.issuer, proxy, more))
        texts = []

        def send(method: str, path: str) -> int | None:
            try:
                return http_request(MlflowHostCreds(proxy), path, method).status_code
            except MlflowException as exc:
                texts.append("".join(traceback.format_exception(exc)))
                return None

        assert send("GET", API) == 200
        named.rule = redirect_to(f"{evil.url}/x", 307)
        assert send("GET", ARTIFACT) == 200  # followed, as a download is
        assert send("POST", API) is None
        named.rule = lambda seen: (401, JSON, b"{}")
        assert send("GET", API) == 401
        auth, manager = PackAuth(), get_manager()
        credential = manager.credential("ci")
        texts += [
            repr(auth),
            repr(vars(manager)),
            repr(credential),
            caplog.text,
            *capfd.readouterr(),
        ]
        # What only a proxy that was told to would keep: its own logs.
        texts += [file.read_text(errors="replace") for file in (tmp_path / kind).glob("*log*")]
    tokens = {value.reveal().removeprefix("Bearer ") for _, value in credential.headers}
    tokens |= {
        seen.headers["Authorization"].removeprefix("Bearer ")
        for seen in named.seen
        if "Authorization" in seen.headers
    }
    secrets = {*tokens, CLIENT_SECRET}
    assert len(evil.seen) == 1
    assert not any(seen.has(secret) for seen in evil.seen for secret in secrets)
    assert len(texts) >= 6
    assert not any(secret in text for text in texts for secret in secrets)
    assert not any(secret.encode() in pickle.dumps(auth) for secret in secrets)
