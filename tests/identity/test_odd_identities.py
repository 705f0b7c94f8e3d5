"""Names that look like others, addresses that no one verified, and issuers that do not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import flask
import pytest
from joserfc import jwt as jose
from joserfc.jwk import ECKey

from mlflow_plugins_pack.identity import keys, resolvers
from mlflow_plugins_pack.identity.errors import KeysUnavailableError, TokenRefusedError
from mlflow_plugins_pack.identity.keys import FAILED_PAUSE_SECONDS, KEEP_SECONDS, KeyCache
from mlflow_plugins_pack.identity.resolvers import (
    Caller,
    RefusedError,
    from_jwt,
    from_trusted_header,
    is_name,
    resolve,
)
from mlflow_plugins_pack.identity.settings import Identity, JwtSettings, TrustedHeaderSettings

KEY = ECKey.generate_key("P-256", {"kid": "ec"})
ISSUER = "https://idp.example"


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = KeyCache(lambda: {"keys": [KEY.as_dict(private=False)]})
    monkeypatch.setattr(resolvers, "_keys", lambda issuer, uri: cache)


def identified(claim: str = "sub", kind: str | None = None, **claims: Any) -> Caller | None:
    settings = JwtSettings(
        issuer=ISSUER,
        audience="mlflow",
        algorithms=["ES256"],
        user_claim=claim,
        groups_claim="groups",
    )
    whole = {"iss": ISSUER, "aud": "mlflow", "exp": int(time.time()) + 60, **claims}
    header = {"alg": "ES256", "kid": "ec", **({} if kind is None else {"typ": kind})}
    token = jose.encode(header, whole, KEY, algorithms=["ES256"])
    return from_jwt({"Authorization": f"Bearer {token}"}, settings)


@pytest.mark.parametrize("verified", [False, "false", 0, None, "yes", []])
@pytest.mark.parametrize("claim", ["email", "phone_number"])
def test_an_address_that_the_issuer_has_not_verified_is_no_identity(
    claim: str, verified: object
) -> None:
    with pytest.raises(RefusedError, match="not verified"):
        identified(claim, **{claim: "boss@corp.example", f"{claim}_verified": verified})


@pytest.mark.parametrize("more", [{}, {"email_verified": True}, {"email_verified": "true"}])
def test_an_address_that_it_has_verified_or_says_nothing_about_is_one(more: Any) -> None:
    assert identified("email", email="a@corp.example", **more) == Caller(
        "a@corp.example", source="jwt"
    )
    other = identified(sub="alice", email="a@corp.example", email_verified=False)
    assert other == Caller("alice", source="jwt")


@pytest.mark.parametrize(
    "kind", ["logout+jwt", "Logout+JWT", "application/logout+jwt", "dpop+jwt", "secevent+jwt"]
)
def test_a_token_of_another_kind_signs_nobody_in(kind: str) -> None:
    with pytest.raises(RefusedError, match="another kind"):
        identified(kind=kind, sub="alice")


def test_a_logout_token_without_a_type_signs_nobody_in() -> None:
    events = {"http://schemas.openid.net/event/backchannel-logout": {}}
    with pytest.raises(RefusedError, match="logout token"):
        identified(sub="alice", events=events)
    assert identified(sub="alice", events=5) is not None


@pytest.mark.parametrize("kind", [None, "JWT", "at+jwt", "application/at+jwt", "JOSE"])
def test_the_types_of_users_tokens_are_accepted(kind: str | None) -> None:
    assert identified(kind=kind, sub="alice") == Caller("alice", source="jwt")


UNSEEN = (
    *"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b\u180e\u180f\u200b\u200d\u200e\u202e\u2060",
    *"\u2064\u206f\u2800\u3164\ufe00\ufe0f\ufeff\uffa0\ufff0\U0001bca0\U0001d173\U000e0001",
    *"\U000e0100\U000e01ef\u00a0\u2003\u3000\u2028\x7f\x9b\t",
)


@pytest.mark.parametrize("character", UNSEEN, ids=ascii)
@pytest.mark.parametrize("name", ["alice{}", "{}alice", "ali{}ce"])
def test_a_name_with_what_nobody_sees_is_refused(name: str, character: str) -> None:
    with pytest.raises(RefusedError, match="not a user name"):
        identified(sub=name.format(character))


@pytest.mark.parametrize(
    "name", ["alice", "Ærøskøbing", "łukasz", "不合格", "José Ñandú", "a'b@c.d", "राम", "한글"]
)
def test_names_of_all_scripts_are_names(name: str) -> None:
    assert is_name(name)
    assert identified(sub=name) == Caller(name, source="jwt")


@pytest.mark.parametrize("name", ["alice\u3164", "alice\n", " alice", "a" * 257])
def test_the_context_of_another_plugin_is_held_to_the_same(name: str) -> None:
    settings = Identity(sources=["oidc"])
    context = {"mlflow_oidc_auth": {"username": name}}
    with flask.Flask(__name__).test_request_context(environ_overrides=context):
        assert resolve(settings) is None


@pytest.mark.parametrize(
    "groups",
    [
        *(
            "approvers",
            {"approvers": True},
            5,
            None,
            True,
            [["approvers"]],
            [{"name": "approvers"}],
        ),
        *([5, None, ""], ["approvers\n"], ["approvers\u3164"], [" approvers"], ["a" * 300]),
    ],
    ids=ascii,
)
def test_groups_of_odd_types_are_none(groups: object) -> None:
    assert identified(sub="alice", groups=groups) == Caller("alice", source="jwt")


def test_odd_groups_do_not_hide_the_others() -> None:
    found = identified(sub="alice", groups=["leads", 5, "x\u3164", "risk"])
    assert found == Caller("alice", frozenset({"leads", "risk"}), "jwt")


@pytest.mark.parametrize(
    ("sent", "user"),
    [
        ("müller".encode(), "müller"),
        ("müller".encode("latin-1"), "müller"),
        ("不合格".encode(), "不合格"),
        ("alice\u3164".encode(), None),
        ("alice\u00a0".encode(), None),
        (b"alice,admin", None),
        ("alice".encode("utf-16"), None),
        (b"\xff\xfe\x00", None),
    ],
    ids=ascii,
)
def test_a_proxy_names_users_in_utf_8(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, user: str | None
) -> None:
    monkeypatch.setenv("PROXY_SECRET", "s")
    proxy = {"peers": ["10.0.0.0/8"], "secret_header": "XSecret", "secret_env": "PROXY_SECRET"}
    settings = TrustedHeaderSettings.model_validate({**proxy, "user_header": "XUser"})
    environ = {"REMOTE_ADDR": "10.0.0.1", "HTTP_XSECRET": "s", "HTTP_XUSER": sent.decode("latin-1")}
    if user is None:
        with pytest.raises(RefusedError, match="not a single name"):
            from_trusted_header(environ, settings)
    else:
        assert from_trusted_header(environ, settings) == Caller(user, source="trusted_header")


def test_a_caller_is_not_told_where_keys_are_fetched(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fetch() -> Mapping[str, Any]:
        raise KeysUnavailableError("https://idp.internal:8443/jwks does not answer (ReadTimeout)")

    monkeypatch.setattr(resolvers, "_keys", lambda issuer, uri: KeyCache(fetch))
    with pytest.raises(RefusedError, match="cannot be fetched now") as caught:
        identified(sub="alice")
    assert "internal" not in str(caught.value)
    assert "idp.internal" in caplog.text


# --- an issuer that does not answer -------------------------------------------------------------


HELD_SECONDS = 10.0


class Silent:
    """An issuer that gives its keys once, and then holds who asks."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked = 0
        self.goes_on = threading.Event()
        self.is_up = True

    def fetch(self) -> Mapping[str, Any]:
        self.asked += 1
        if self.asked > 2:
            self.goes_on.wait(HELD_SECONDS)
        if not self.is_up:
            raise KeysUnavailableError("silent")
        return {"keys": [{"kid": "a"}, *([{"kid": "b"}] if self.asked > 2 else [])]}


def test_one_request_at_most_waits_for_an_issuer_that_is_down() -> None:
    issuer = Silent()
    cache = KeyCache(issuer.fetch, lambda: issuer.now)
    assert cache.find("a")
    issuer.is_up = False
    issuer.now = KEEP_SECONDS + 1
    assert cache.find("a")  # the one: it cannot know
    began = time.monotonic()
    for _ in range(5):
        issuer.now += FAILED_PAUSE_SECONDS + 1
        assert cache.find("a")  # nothing answers meanwhile
    assert time.monotonic() - began < HELD_SECONDS
    issuer.goes_on.set()


def test_keys_are_renewed_once_it_is_up_again() -> None:
    issuer = Silent()
    cache = KeyCache(issuer.fetch, lambda: issuer.now)
    cache.find("a")
    issuer.is_up = False
    issuer.now = KEEP_SECONDS + 1
    cache.find("a")
    issuer.is_up = True
    issuer.goes_on.set()
    issuer.now += FAILED_PAUSE_SECONDS + 1
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if cache.find("b"):
                break
        except TokenRefusedError:
            time.sleep(0.01)
    assert issuer.asked == 3
    assert issuer.now - cache._fetched_at < keys.KEEP_SECONDS
