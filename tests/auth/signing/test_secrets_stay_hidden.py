"""Planted secrets appear in no log, traceback, pickle or foreign request."""

from __future__ import annotations

import contextlib
import copy
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from mlflow_plugins_pack.auth.manager import get_manager
from mlflow_plugins_pack.auth.signing.signer import PackAuth
from tests.auth.support.parts import (
    API,
    ARTIFACT,
    JSON,
    SECRET,
    Profiles,
    Recorder,
    redirect_to,
)
from tests.auth.support.proxies import apache_openidc, nginx_auth_request, verifying
from tests.auth.support.sign_ins import machine
from tests.support.oidc import SECRET as CLIENT_SECRET
from tests.support.oidc import OidcProvider


@pytest.fixture(autouse=True)
def _client_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", CLIENT_SECRET)


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


def test_a_response_is_printed_and_pickled_without_the_credential(
    signed_in: Callable[..., requests.Response], named: Recorder
) -> None:
    named.rule = lambda seen: (
        (200, JSON, b'{"a": 1}') if seen.path == "/next" else (302, {"Location": "/next"}, b"")
    )
    response = signed_in()
    assert all(seen.has(SECRET) for seen in named.seen)
    for one in (response, *response.history):
        assert SECRET not in repr(vars(one.request))
        assert SECRET not in repr(one.request.headers)
    data = pickle.dumps(response)
    assert SECRET.encode() not in data
    again = pickle.loads(data)
    assert again.json() == {"a": 1}
    assert SECRET in copy.deepcopy(response.request.headers)["Authorization"]


def test_an_error_is_pickled_without_the_credential(
    signed_in: Callable[..., requests.Response], named: Recorder
) -> None:
    named.rule = lambda seen: (403, JSON, b"{}")
    with pytest.raises(requests.HTTPError) as caught:
        signed_in(raise_on_status=False).raise_for_status()
    assert SECRET.encode() not in pickle.dumps(caught.value)
    assert SECRET not in repr(vars(caught.value))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_signed_in_request_is_checked_as_well(
    signed_in: object,
    named: Recorder,
    evil: Recorder,
    copied: Callable[[requests.PreparedRequest], requests.PreparedRequest],
) -> None:
    named.rule = redirect_to(f"{evil.url}/x", 302)
    with requests.Session() as session:
        request = session.prepare_request(requests.Request("GET", named.url, auth=PackAuth()))
        session.send(copied(request))
    assert named.seen[0].has(SECRET)
    assert not evil.seen[0].has(SECRET)
