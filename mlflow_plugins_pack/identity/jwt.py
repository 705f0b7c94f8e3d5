"""Verifies a signed token (RFC 7519) against its issuer's published keys.

Only asymmetric algorithms are accepted: ``none``, or an HMAC keyed with a public key, is refused
before any signature is compared.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow_plugins_pack.identity.errors import TokenRefusedError
from mlflow_plugins_pack.identity.keys import KeyCache

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
LEEWAY_SECONDS = 60
_LARGEST_CHARACTERS = 32 * 1024
# Other kinds of signed tokens have a type of their own (RFC 8725, section 3.11): one that a
# provider sends for another purpose, such as a logout token, is not a user's.
_TYPES = ("jwt", "at+jwt")
_LOGOUT = "http://schemas.openid.net/event/backchannel-logout"


def verify(
    token: str,
    keys: KeyCache,
    *,
    issuer: str,
    audience: str,
    algorithms: Sequence[str] = ALGORITHMS,
    now: float | None = None,
) -> Mapping[str, Any]:
    """Return a token's claims if its signature, issuer, audience and times are valid.

    Args:
        token: In compact form (RFC 7515, section 7.1).
        keys: The issuer's keys.
        issuer: The exact value of ``iss``.
        audience: The value that ``aud`` must be or contain.
        algorithms: The signature algorithms to accept.
        now: Seconds since the epoch; the clock by default.

    Returns:
        All claims.

    Raises:
        TokenRefusedError: If the token is not valid.
        KeysUnavailableError: If the issuer's keys cannot be fetched.
    """
    from joserfc import errors
    from joserfc import jwt as jose
    from joserfc.jwk import JWKRegistry

    header = _header(token)
    algorithm = header.get("alg")
    if algorithm not in algorithms or algorithm not in ALGORITHMS:
        raise TokenRefusedError("it is signed with an algorithm that is not accepted")
    key_id = header.get("kid")
    if key_id is not None and not isinstance(key_id, str):
        raise TokenRefusedError("its key ID is malformed")
    kind = str(header.get("typ", "JWT")).lower().removeprefix("application/")
    if kind.endswith("+jwt") and kind not in _TYPES:
        raise TokenRefusedError("it is a token of another kind than those that sign users in")
    checks = jose.JWTClaimsRegistry(
        now=int(time.time() if now is None else now),
        leeway=LEEWAY_SECONDS,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": audience},
        exp={"essential": True},
    )
    reason = "its signature is not valid"
    for candidate in keys.find(key_id):
        if candidate.get("alg", algorithm) != algorithm:
            continue
        try:
            key = JWKRegistry.import_key(dict(candidate))
            claims = jose.decode(token, key, algorithms=[algorithm]).claims
            checks.validate(claims)
        except errors.ExpiredTokenError:
            reason = "it has expired; sign in again"
        except errors.InvalidClaimError as exc:
            reason = f"its {getattr(exc, 'claim', 'claim')} is not the one expected"
        except errors.MissingClaimError as exc:
            reason = f"it has no {getattr(exc, 'claim', 'claim that is needed')}"
        except (errors.JoseError, ValueError, TypeError, KeyError, RecursionError):
            pass  # another key of the set may fit
        else:
            events = claims.get("events")
            if isinstance(events, dict) and _LOGOUT in events:
                raise TokenRefusedError("it is a logout token, which signs no one in")
            return claims
    raise TokenRefusedError(reason)


def _header(token: str) -> Mapping[str, Any]:
    """Return the header, which is not verified yet."""
    parts = token.split(".")
    header: Any = None
    if len(parts) == 3 and len(token) <= _LARGEST_CHARACTERS:
        try:
            header = json.loads(base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)))
        except (ValueError, RecursionError):
            header = None
    if not isinstance(header, dict):
        raise TokenRefusedError(
            "it is not a signed token (JWT), so it cannot be verified here; signing in again does "
            "not help. Ask the provider for JWT access tokens (often by an audience or resource), "
            'or set token = "id_token" in the sign-in profile'
        )
    return header
