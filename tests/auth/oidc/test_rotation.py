"""A provider that rotates refresh tokens accepts the last one only: it is never thrown away."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import pytest

from mlflow_plugins_pack.auth.credentials.contracts import SourceError
from mlflow_plugins_pack.auth.credentials.secret import Secret
from mlflow_plugins_pack.auth.manager import Manager
from mlflow_plugins_pack.auth.oidc.provider import TokenResponse
from mlflow_plugins_pack.auth.profiles.models import OidcProfile
from mlflow_plugins_pack.auth.sources import open_oidc
from mlflow_plugins_pack.auth.sources.oidc import OidcSource
from tests.auth.support.parts import JSON, Answer, Profiles, Recorder, Seen

Rotating = Callable[..., OidcSource]


@pytest.fixture
def rotating(named: Recorder, profiles: Profiles) -> Rotating:
    """Call it with the odd part of the provider's answers; returns a source that must renew."""

    def start(odd: dict[str, Any], lines: str = "", status: int = 200) -> OidcSource:
        valid = {"refresh-0"}

        def rule(seen: Seen) -> Answer:
            if seen.path != "/token":
                document = {"issuer": named.url, "token_endpoint": f"{named.url}/token"}
                return 200, JSON, json.dumps(document).encode()
            given = parse_qs(seen.body.decode())["refresh_token"][0]
            if given not in valid:
                return 400, JSON, b'{"error": "invalid_grant"}'
            valid.clear()
            valid.add(f"refresh-{int(given.rpartition('-')[2]) + 1}")
            answer = {"access_token": "access", "expires_in": 60, "refresh_token": min(valid)}
            return status, JSON, json.dumps({**answer, **odd}).encode()

        named.rule = rule
        profiles(
            f'[profile.me]\nhosts = ["https://h.example"]\nsource = "oidc"\n'
            f'issuer = "{named.url}"\nclient_id = "c"\n{lines}'
        )
        profile = Manager().profile("me")
        assert isinstance(profile, OidcProfile)
        source = open_oidc("me", profile)
        first = TokenResponse(Secret("old"), 60.0, Secret("refresh-0"), Secret("old"))
        source.signed_in(first, "alice")
        stored = source.store.read(source._key)
        assert stored is not None
        past = replace(stored, issued_at=time.time() - 7200, expires_at=time.time() - 3600)
        source.store.write(source._key, past)
        return source

    return start


@pytest.mark.parametrize(
    ("odd", "lines", "said"),
    [
        ({}, 'token = "id_token"\n', "no ID token"),
        ({"expires_in": "1h"}, "", "not a number"),
        ({"expires_in": -1}, "", "negative"),
        ({"expires_in": [3600]}, "", "not a number"),
        ({"access_token": ""}, "", "without an access_token"),
        ({"access_token": "a\nb"}, "", "line break"),
        ({"access_token": "\ud800"}, "", "latin-1"),
    ],
    ids=str,
)
def test_an_answer_that_cannot_be_used_does_not_end_the_sign_in(
    rotating: Rotating, odd: dict[str, Any], lines: str, said: str
) -> None:
    source = rotating(odd, lines)
    for number in (1, 2, 3):
        with pytest.raises(SourceError, match=said):
            source.fetch()
        stored = source.store.read(source._key)
        assert stored is not None
        assert (stored.refresh_token, stored.token) == (f"refresh-{number}", "old")


def test_the_next_answer_that_can_be_used_signs_in_again(rotating: Rotating) -> None:
    odd: dict[str, Any] = {"expires_in": "1h"}
    source = rotating(odd)
    with pytest.raises(SourceError, match="not a number"):
        source.fetch()
    odd["expires_in"] = "60"
    assert source.fetch().headers[0][1].reveal() == "Bearer access"


def test_an_answer_without_a_refresh_token_keeps_the_one_there_is(rotating: Rotating) -> None:
    source = rotating({"refresh_token": None})
    source.fetch()
    stored = source.store.read(source._key)
    assert stored is not None
    assert (stored.refresh_token, stored.token) == ("refresh-0", "access")


def test_a_token_that_cannot_be_stored_serves_after_an_answer_that_cannot_be_used(
    rotating: Rotating, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd: dict[str, Any] = {"expires_in": "1h"}
    source = rotating(odd)

    def full(key: str, stored: object) -> None:
        raise SourceError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(source.store, "write", full)
        with pytest.raises(SourceError, match="not a number"):
            source.fetch()
    odd.clear()
    assert source.fetch().headers[0][1].reveal() == "Bearer access"


def test_ctrl_c_while_a_token_is_renewed_does_not_end_the_sign_in(rotating: Rotating) -> None:
    source = rotating({})
    provider = source.provider
    ask = provider.ask

    def interrupted(*arguments: Any) -> TokenResponse:
        time.sleep(0.1)  # until it is waited for
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        return ask(*arguments)

    # Who starts the tests in the background may have set it to be ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provider, "ask", interrupted)
        with pytest.raises(KeyboardInterrupt):
            source.fetch()
    signal.signal(signal.SIGINT, before)
    stored = source.store.read(source._key)
    assert stored is not None
    assert stored.refresh_token == "refresh-1"
    assert source.fetch().headers[0][1].reveal() == "Bearer access"


def test_half_a_character_is_no_refresh_token(rotating: Rotating) -> None:
    """Sending it would raise an error that holds it."""
    source = rotating({"refresh_token": "\ud800 half"})
    assert source.fetch().headers[0][1].reveal() == "Bearer access"
    stored = source.store.read(source._key)
    assert stored is not None
    assert stored.refresh_token == "refresh-0"


@pytest.mark.parametrize(("token", "lines"), [("a\nb", ""), ("access", 'token = "id_token"\n')])
def test_a_sign_in_that_cannot_be_used_is_revoked(
    rotating: Rotating, monkeypatch: pytest.MonkeyPatch, token: str, lines: str
) -> None:
    source = rotating({}, lines)
    revoked: list[str] = []
    monkeypatch.setattr(source.provider, "revoke", lambda text: revoked.append(text) or True)
    with pytest.raises(SourceError, match=r"line break|no ID token"):
        source.signed_in(TokenResponse(Secret(token), 60.0, Secret("live"), None), "alice")
    assert revoked == ["live"]
