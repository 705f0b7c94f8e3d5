"""Answers to a sign-in that are forged, mixed up or of another dialogue."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from mlflow_plugins_pack.auth.credentials.contracts import SourceError
from mlflow_plugins_pack.auth.manager import Manager
from mlflow_plugins_pack.auth.oidc import login
from mlflow_plugins_pack.auth.profiles.paths import token_folder
from mlflow_plugins_pack.auth.sources.oidc import OidcSource
from mlflow_plugins_pack.errors import CredentialError
from tests.auth.support.parts import (
    JSON,
    Profiles,
    Recorder,
)
from tests.auth.support.sign_ins import in_the_background, machine, redirected, token_of
from tests.support.oidc import SECRET as CLIENT_SECRET
from tests.support.oidc import OidcProvider
from tests.support.oidc.person import sign_in


@pytest.fixture(autouse=True)
def _client_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", CLIENT_SECRET)


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
    other = login.AuthorizationRequest()
    original = login.AuthorizationRequest.url

    def url(self: login.AuthorizationRequest, *arguments: object) -> str:
        return original(replace(self, nonce=other.nonce), *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(login.AuthorizationRequest, "url", url)
    with in_the_background(sign_in) as show, pytest.raises(SourceError, match="nonce"):
        login.by_browser(source.provider, 60, show)


def test_a_forged_id_token_is_refused(
    source: OidcSource, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the refresh token that came with it is revoked."""
    from joserfc import jwt
    from joserfc.jwk import OctKey

    now = int(time.time())
    claims = {"iss": provider.issuer, "aud": "person", "sub": "mallory", "exp": now + 60}
    forged = jwt.encode({"alg": "HS256", "kid": "one"}, claims, OctKey.import_key("x" * 32))
    provider.fault({"id_token": forged})
    revoked: list[str] = []
    revoke = source.provider.revoke
    monkeypatch.setattr(
        source.provider, "revoke", lambda token: revoked.append(token) or revoke(token)
    )
    with in_the_background(sign_in) as show, pytest.raises(SourceError, match="algorithm"):
        login.by_browser(source.provider, 60, show)
    provider.fault(None)
    (token,) = revoked
    with pytest.raises(SourceError, match="invalid_grant"):
        source.provider.refresh(token)
