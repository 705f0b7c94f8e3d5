"""The tokens of a sign-in as one JSON document that processes share; pure.

Times are seconds since the epoch, since a monotonic clock means nothing to another process.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from mlflow_plugins_pack.auth.credentials.lifetime import advisory_seconds

VERSION = 1
_END_OF_TIME = 1e12
_CLOCK_SECONDS = 60.0
"""Seconds that a document may be in the future before the clock is distrusted."""


@dataclass(frozen=True)
class StoredToken:
    """The tokens of one profile.

    Attributes:
        token: The token that is sent to the server.
        issued_at: Time of the request for it.
        expires_at: Time of its end; None if the provider did not say.
        refresh_token: The refresh token, if the provider gave one.
        who: The name of the user.
        profile: The name of the profile, to find what a changed or renamed profile left behind.
        issuer: The issuer of the tokens; no other is sent the refresh token.
        client_id: The client that they were issued to.
    """

    token: str = field(repr=False)
    issued_at: float
    expires_at: float | None = None
    refresh_token: str | None = field(default=None, repr=False)
    who: str | None = None
    profile: str = ""
    issuer: str = ""
    client_id: str = ""

    def left_seconds(self, now: float) -> float | None:
        """Return the seconds that the token is still valid; None if unknown."""
        return None if self.expires_at is None else max(0.0, self.expires_at - now)

    def age_seconds(self, now: float) -> float:
        """Return the age of the token in seconds."""
        return max(0.0, now - self.issued_at)

    def is_fresh(self, now: float) -> bool:
        """Return whether the token is worth starting with: not about to end, clock plausible."""
        if now < self.issued_at - _CLOCK_SECONDS:
            return False
        if self.expires_at is None:
            return True
        return self.expires_at - now > advisory_seconds(self.expires_at - self.issued_at)


def dump(stored: StoredToken) -> bytes:
    """Write a document."""
    return json.dumps({"version": VERSION, **asdict(stored)}).encode()


def parse(data: bytes) -> StoredToken | None:
    """Read a document; None if it is damaged or of another version."""
    document: Any = None
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.pop("version", None) != VERSION:
        return None
    token, issued = document.get("token"), document.get("issued_at", math.nan)
    if not isinstance(token, str) or not token or not _is_moment(issued):
        return None
    expires = document.get("expires_at")
    refresh, who = document.get("refresh_token"), document.get("who")
    if expires is not None and not _is_moment(expires):
        return None
    if not all(value is None or isinstance(value, str) for value in (refresh, who)):
        return None
    names = [document.get(name, "") for name in ("profile", "issuer", "client_id")]
    if not all(isinstance(name, str) for name in names):
        return None
    return StoredToken(token, issued, expires, refresh, who, *names)


def _is_moment(value: object) -> bool:
    # A number beyond any date is damage, and too large for a float.
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value < _END_OF_TIME  # type: ignore[operator]
