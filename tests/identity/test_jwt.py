"""Tokens that hold and tokens that do not, signed with real keys."""

from __future__ import annotations

import base64
import hmac
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from joserfc import jwt as jose
from joserfc.jwk import ECKey, RSAKey

from mlflow_plugins_pack.identity.errors import KeysUnavailableError, TokenRefusedError
from mlflow_plugins_pack.identity.jwt import LEEWAY_SECONDS, verify
from mlflow_plugins_pack.identity.keys import (
    FAILED_PAUSE_SECONDS,
    FORCED_PAUSE_SECONDS,
    KEEP_SECONDS,
    KeyCache,
)

ISSUER, AUDIENCE, NOW = "https://idp.example", "mlflow", 1_000_000
RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
OTHER = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
CLAIMS: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW + 60}


@dataclass
class Issuer:
    """Publishes keys, or is down; counts who asks."""

    keys: list[Any] = field(default_factory=lambda: [RSA, EC])
    is_down: bool = False
    asked: int = 0
    now: float = 0.0

    def fetch(self) -> Mapping[str, Any]:
        self.asked += 1
        if self.is_down:
            raise KeysUnavailableError("the issuer is down")
        return {"keys": [key.as_dict(private=False) for key in self.keys]}

    def cache(self) -> KeyCache:
        return KeyCache(self.fetch, lambda: self.now)


def signed(
    claims: dict[str, Any] | None = None, key: Any = RSA, algorithm: str = "RS256", **header: Any
) -> str:
    head = {"alg": algorithm, "kid": key.kid, **header}
    head = {name: value for name, value in head.items() if value is not None}
    return jose.encode(head, CLAIMS if claims is None else claims, key, algorithms=[algorithm])


def check(token: str, cache: KeyCache | None = None) -> Mapping[str, Any]:
    cache = Issuer().cache() if cache is None else cache
    return verify(token, cache, issuer=ISSUER, audience=AUDIENCE, now=NOW)


@pytest.mark.parametrize(
    ("key", "algorithm"), [(RSA, "RS256"), (RSA, "PS256"), (EC, "ES256"), (RSA, "RS512")]
)
def test_signatures_that_hold(key: Any, algorithm: str) -> None:
    assert check(signed(key=key, algorithm=algorithm))["sub"] == "alice"
    assert check(signed(key=key, algorithm=algorithm, kid=None))["sub"] == "alice"


def assembled(header: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A token that no library would make."""
    texts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header, CLAIMS)
    ]
    signature = base64.urlsafe_b64encode(sign(b".".join(texts))).rstrip(b"=")
    return b".".join([*texts, signature]).decode()


def unsigned() -> str:
    return assembled({"alg": "none"}, lambda text: b"")


def keyed_with_the_public_key() -> str:
    """The classic confusion: HMAC with what everybody knows as its key."""
    public = RSA.as_pem(private=False)
    header = {"alg": "HS256", "kid": "rsa"}
    return assembled(header, lambda text: hmac.digest(public, text, "sha256"))


def tampered() -> str:
    head, _, signature = signed().split(".")
    claims = base64.urlsafe_b64encode(json.dumps({**CLAIMS, "sub": "admin"}).encode())
    return f"{head}.{claims.rstrip(b'=').decode()}.{signature}"


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (unsigned(), "algorithm"),
        (keyed_with_the_public_key(), "algorithm"),
        (tampered(), "signature"),
        (signed(key=OTHER), "signature"),
        (signed(kid="unknown"), "does not publish"),
        (assembled({"alg": "RS256", "kid": 5}, lambda text: b"x"), "key ID"),
        (signed({**CLAIMS, "iss": "https://evil.example"}), "iss"),
        (signed({**CLAIMS, "iss": [ISSUER]}), "iss"),
        (signed({**CLAIMS, "aud": "other"}), "aud"),
        (signed({**CLAIMS, "aud": ["other", 5]}), "aud"),
        (signed({**CLAIMS, "exp": NOW - LEEWAY_SECONDS - 1}), "expired"),
        (signed({**CLAIMS, "exp": "never"}), "exp"),
        (signed({**CLAIMS, "nbf": NOW + LEEWAY_SECONDS + 1}), "nbf"),
        *(
            (signed({key: value for key, value in CLAIMS.items() if key != missing}), missing)
            for missing in ("iss", "aud", "exp")
        ),
        ("", "not a signed token"),
        ("a.b", "not a signed token"),
        ("a.b.c.d.e", "not a signed token"),
        ("W10.e30.x", "not a signed token"),
        ("x" * 50_000 + ".b.c", "not a signed token"),
    ],
)
def test_tokens_that_do_not_hold(token: str, said: str) -> None:
    with pytest.raises(TokenRefusedError, match=said) as caught:
        check(token)
    assert token == "" or token not in str(caught.value)


def test_clocks_may_differ_a_little() -> None:
    check(signed({**CLAIMS, "exp": NOW - LEEWAY_SECONDS + 1}))
    check(signed({**CLAIMS, "nbf": NOW + LEEWAY_SECONDS - 1}))
    check(signed({**CLAIMS, "aud": ["other", AUDIENCE]}))


def test_an_algorithm_must_be_pinned() -> None:
    with pytest.raises(TokenRefusedError, match="algorithm"):
        verify(
            signed(algorithm="RS512"),
            Issuer().cache(),
            issuer=ISSUER,
            audience=AUDIENCE,
            algorithms=["RS256"],
            now=NOW,
        )


def test_a_key_for_encryption_signs_nothing() -> None:
    key = RSAKey.generate_key(2048, {"kid": "enc", "use": "enc"})
    issuer = Issuer(keys=[key])
    token = jose.encode({"alg": "RS256", "kid": "enc"}, CLAIMS, RSA, algorithms=["RS256"])
    with pytest.raises(TokenRefusedError, match="does not publish"):
        check(token, issuer.cache())


def test_keys_are_fetched_once_and_again_after_an_hour() -> None:
    issuer = Issuer()
    cache = issuer.cache()
    for _ in range(3):
        check(signed(), cache)
    assert issuer.asked == 1
    issuer.now += KEEP_SECONDS + 1
    check(signed(), cache)
    assert issuer.asked == 2


def test_a_rotated_key_is_found_and_unknown_ones_make_no_storm() -> None:
    issuer = Issuer(keys=[EC])
    cache = issuer.cache()
    check(signed(key=EC, algorithm="ES256"), cache)
    issuer.keys = [RSA]
    check(signed(), cache)
    assert issuer.asked == 2
    for number in range(20):
        with pytest.raises(TokenRefusedError):
            check(signed(kid=f"unknown-{number}"), cache)
    assert issuer.asked == 2
    issuer.now += FORCED_PAUSE_SECONDS
    with pytest.raises(TokenRefusedError):
        check(signed(kid="unknown"), cache)
    assert issuer.asked == 3


def test_stale_keys_serve_while_the_issuer_is_down() -> None:
    issuer = Issuer()
    cache = issuer.cache()
    check(signed(), cache)
    issuer.is_down = True
    issuer.now += KEEP_SECONDS + 1
    for _ in range(5):
        check(signed(), cache)
    assert issuer.asked == 2  # and it is left to rest


def test_an_issuer_that_was_never_up_is_not_asked_at_every_request() -> None:
    issuer = Issuer(is_down=True)
    cache = issuer.cache()
    for _ in range(5):
        with pytest.raises(KeysUnavailableError, match="down"):
            check(signed(), cache)
    assert issuer.asked == 1
    issuer.is_down = False
    issuer.now += FAILED_PAUSE_SECONDS
    check(signed(), cache)


def test_threads_make_one_fetch() -> None:
    issuer = Issuer()
    cache = issuer.cache()
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            check(signed(), cache)
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert issuer.asked == 1
