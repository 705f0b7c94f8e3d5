"""Stock MLflow through proxies that verify tokens; what a client cannot smuggle past them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import flask
import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from mlflow_plugins_pack.identity.resolvers import Caller, resolve
from mlflow_plugins_pack.identity.settings import Identity
from tests.auth.support.parts import Recorder, Seen
from tests.auth.support.proxies import (
    PROXY_SECRET,
    apache_openidc,
    identity_of_proxy,
    nginx_auth_request,
    verifying,
)
from tests.auth.support.sign_ins import machine
from tests.support.oidc import SECRET, OidcProvider
from tests.support.oidc.tokens import forged_token, machine_token

Profiles = Callable[[str], Path]
API = "/api/2.0/mlflow/experiments/get"


@pytest.fixture(params=["nginx", "apache"])
def proxy(
    request: pytest.FixtureRequest, tmp_path: Path, named: Recorder, provider: OidcProvider
) -> Iterator[str]:
    """A proxy's address; what it lets through reaches ``named``."""
    if request.param == "apache":
        with apache_openidc(tmp_path / "apache", named.url, provider) as url:
            yield url
        return
    with (
        verifying(provider) as verifier,
        nginx_auth_request(tmp_path / "nginx", named.url, verifier) as url,
    ):
        yield url


def caller_behind(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> Caller | None:
    """Return whom the server behind the proxy takes the client for."""
    monkeypatch.setenv("PROXY_SECRET", PROXY_SECRET)
    settings = Identity.model_validate_json(identity_of_proxy())
    environ = {"REMOTE_ADDR": "127.0.0.1"}
    app = flask.Flask(__name__)
    with app.test_request_context(headers=seen.headers, environ_overrides=environ):
        return resolve(settings)


def test_a_profile_signs_in_through_the_proxy(
    proxy: str,
    named: Recorder,
    provider: OidcProvider,
    profiles: Profiles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert requests.get(f"{proxy}{API}", timeout=30).status_code == 401
    monkeypatch.setenv("CLIENT_SECRET", SECRET)
    profiles(machine(provider.issuer, proxy))
    assert http_request(MlflowHostCreds(proxy), API, "GET").status_code == 200
    found = caller_behind(named.seen[-1], monkeypatch)
    assert found is not None
    assert found.user == "machine"


def test_tokens_that_do_not_hold_do_not_pass(
    proxy: str, named: Recorder, provider: OidcProvider
) -> None:
    for token in (
        forged_token(provider, aud="other"),
        forged_token(provider, exp=1),
        f"{machine_token(provider)[:-8]}AAAAAAAA",
        "x",
    ):
        headers = {"Authorization": f"Bearer {token}"}
        assert requests.get(f"{proxy}{API}", headers=headers, timeout=30).status_code == 401
    assert named.seen == []


@pytest.mark.parametrize(
    "smuggled",
    [
        "XRemoteUser",
        "xremoteuser",
        "X-Remote-User",
        "X_Remote_User",
        "XRemote-User",
    ],
)
def test_a_client_cannot_name_itself(
    proxy: str,
    named: Recorder,
    provider: OidcProvider,
    monkeypatch: pytest.MonkeyPatch,
    smuggled: str,
) -> None:
    """Written to the socket, since no client library sends all of these."""
    token = machine_token(provider)
    host, port = proxy.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(
            f"GET {API} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
            f"{smuggled}: admin\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert b" 200 " in answer.partition(b"\r\n")[0], answer
    found = caller_behind(named.seen[-1], monkeypatch)
    assert found is None or found.user == "machine"


def test_a_whole_run_through_the_proxy_with_a_hostile_redirect_at_its_end(
    named: Recorder,
    evil: Recorder,
    provider: OidcProvider,
    profiles: Profiles,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The server behind nginx turns hostile: it sends the signed-in client elsewhere."""
    monkeypatch.setenv("CLIENT_SECRET", SECRET)
    named.rule = lambda seen: (307, {"Location": f"{evil.url}{seen.path}"}, b"")
    with (
        verifying(provider) as verifier,
        nginx_auth_request(tmp_path / "nginx", named.url, verifier) as url,
    ):
        profiles(machine(provider.issuer, url))
        mlflow.set_tracking_uri(url)
        with pytest.raises(MlflowException, match="does not name"):
            mlflow.MlflowClient().create_experiment("e")
    assert evil.seen == []
