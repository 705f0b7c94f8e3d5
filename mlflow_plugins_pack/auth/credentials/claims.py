"""Reads the claims of a token of our own; the server verifies it, not this module."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any, TypeGuard


def claims_of(token: str) -> Mapping[str, Any]:
    """Return the claims of a signed token; none if it is another kind of token."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def life_of(token: str) -> float | None:
    """Return the seconds that a token just received is valid; None if it does not say.

    Counted from its own time of issue if it has one, so that a wrong clock here does not matter.
    """
    claims = claims_of(token)
    end, start = claims.get("exp"), claims.get("iat")
    if not _is_time(end):
        return None
    return max(0.0, float(end) - (float(start) if _is_time(start) else time.time()))


def _is_time(value: object) -> TypeGuard[float]:
    """Return whether a claim is a time; a number that no float can hold is not."""
    return isinstance(value, (int, float)) and 0 <= value < 1e12


def who_is(claims: Mapping[str, Any]) -> str | None:
    """Return the user that a token names."""
    for name in ("preferred_username", "email", "upn", "sub", "client_id"):
        if isinstance(value := claims.get(name), str) and value:
            return value
    return None
