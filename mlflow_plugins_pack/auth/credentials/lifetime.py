"""Decides when a credential is used, refreshed ahead, fetched or given up; pure.

Times are seconds of a monotonic clock that callers pass. Two windows precede the expiry: in the
advisory one a single caller refreshes and the others use the old credential; in the mandatory one
all wait for the refresh.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

from mlflow_plugins_pack.auth.credentials.secret import Secret

ADVISORY_SECONDS = 300.0
ADVISORY_SHARE = 0.05
MANDATORY_SECONDS = 10.0
MANDATORY_SHARE = 0.02
OUTAGE_SECONDS = 60.0
"""Seconds that requests wait for a source that is down after the credential has ended."""
LONGEST_LIFE_SECONDS = 366 * 86400.0
LONGEST_REST_SECONDS = 300.0
"""Seconds that a source may ask not to be asked again."""
REJECTED_PAUSE_SECONDS = 10.0
"""Seconds until the source is asked again once it was asked because the server refused."""


Headers = tuple[tuple[str, Secret], ...]
Signer = Callable[[Any], Headers]


class Step(Enum):
    """The next step of a caller."""

    USE = auto()
    REFRESH_AHEAD = auto()
    FETCH = auto()
    FAIL = auto()


@dataclass(frozen=True)
class Credential:
    """Headers to send, and for how long they are good.

    Attributes:
        headers: Header names and their values.
        lifetime_seconds: From the moment it was fetched; None if the source does not know.
        age_seconds: Its age by then; 0 for a new one, more if another process had it before.
        who: The name of the user that it signs in; None if unknown.
        source: Which of several sources gave it; empty if there is one.
        sign: Makes the headers of one request, where each needs its own; `headers` holds what
            goes with every request.
    """

    headers: Headers
    lifetime_seconds: float | None = None
    age_seconds: float = 0.0
    who: str | None = None
    source: str = ""
    sign: Signer | None = field(default=None, compare=False)

    def headers_for(self, request: Any) -> Headers:
        """Return the headers of one request."""
        return self.headers if self.sign is None else self.sign(request) + self.headers


@dataclass(frozen=True)
class State:
    """The state of one profile's credential.

    Attributes:
        credential: The last one fetched, if any.
        fetched_at: Time of that fetch.
        stamp: The source's mark of what it read; another mark means the secret was rotated.
        failures: Fetches that failed in a row.
        retry_at: Before this moment a failed source is not asked again.
        error: Why the last fetch failed.
        failed_stamp: The source's mark then; another mark ends the rest.
        is_down: It failed because what gives the secret did not answer.
        rejected_at: When the server last refused a credential and the source had no other, or had
            a new one created.
        ended_at: When the server refused the credential and the source was to give another.
    """

    credential: Credential | None = None
    fetched_at: float = 0.0
    stamp: object = None
    failures: int = 0
    retry_at: float = 0.0
    error: str | None = field(default=None, repr=False)
    failed_stamp: object = None
    is_down: bool = False
    rejected_at: float = -math.inf
    ended_at: float = math.inf

    @property
    def expires_at(self) -> float:
        """When the credential ends; infinity if unknown."""
        if self.credential is None or self.credential.lifetime_seconds is None:
            return self.ended_at
        return min(self.ended_at, self.fetched_at + self.credential.lifetime_seconds)


def next_step(state: State, now: float, stamp: object) -> Step:
    """Decide what to do with the state at this moment.

    Args:
        state: The state.
        now: The clock.
        stamp: The source's mark now.

    Returns:
        `FAIL` only while a failed source rests and no valid credential is left.
    """
    resting = now < state.retry_at and stamp == state.failed_stamp
    if state.credential is None or stamp != state.stamp or now >= state.expires_at:
        return Step.FAIL if resting else Step.FETCH
    life = state.credential.lifetime_seconds
    if life is None or resting:
        return Step.USE
    left, whole = state.expires_at - now, life + state.credential.age_seconds
    if left <= min(MANDATORY_SECONDS, whole * MANDATORY_SHARE):
        return Step.FETCH
    if left <= advisory_seconds(whole):
        return Step.REFRESH_AHEAD
    return Step.USE


def advisory_seconds(life_seconds: float) -> float:
    """Return how long before its end a credential of this whole life is refreshed ahead."""
    return min(ADVISORY_SECONDS, life_seconds * ADVISORY_SHARE)


def fetched(state: State, credential: Credential, now: float, stamp: object) -> State:
    """Return the state after a fetch that succeeded."""
    same = state.credential is not None and state.credential.headers == credential.headers
    return State(
        credential=credential,
        fetched_at=now,
        stamp=stamp,
        rejected_at=state.rejected_at if same else -math.inf,
    )


def failed(
    state: State,
    error: str,
    now: float,
    stamp: object,
    *,
    is_down: bool = False,
    retry_after_seconds: float = 0.0,
) -> State:
    """Return the state after a fetch that failed; a credential still valid is kept.

    Rests double from half a second. Without a valid credential they stay short: the person who
    has just repaired the source is waiting.
    """
    failures = state.failures + 1
    usable = state.credential is not None and now < state.expires_at
    rest = min(0.5 * 2 ** min(failures - 1, 10), 60.0 if usable else 4.0)
    rest = max(rest, min(retry_after_seconds, LONGEST_REST_SECONDS))
    return replace(
        state,
        failures=failures,
        retry_at=now + rest,
        error=error,
        failed_stamp=stamp,
        is_down=is_down,
    )


def outage_wait(state: State, now: float) -> float | None:
    """Return how long to wait before a source that is down is asked again.

    A running job is worth waiting for; a process that never had a credential gets the error at
    once.

    Returns:
        Seconds; None if it is not down, or for too long, or there was no credential before.
    """
    end = state.expires_at + OUTAGE_SECONDS
    if state.credential is None or now >= end or not state.is_down:
        return None
    return max(0.0, min(state.retry_at, end) - now)


def refused(state: State, now: float) -> State:
    """Return the state once the server refused the credential: it has ended, whatever its life."""
    return replace(state, ended_at=min(state.ended_at, now))


def rejected(state: State, now: float) -> State:
    """Return the state after the source was asked because the server refused."""
    return replace(state, rejected_at=now)


def may_refetch_after_rejection(state: State, now: float) -> bool:
    """Return whether asking the source again may help after the server answered 401."""
    return now - state.rejected_at >= REJECTED_PAUSE_SECONDS


def parse_lifetime(value: object) -> float | None:
    """Read a token answer's ``expires_in`` (RFC 6749, section 5.1).

    Args:
        value: A number, or a string of digits as some servers send; None if it was absent.

    Returns:
        Seconds, at most a year; None if absent.

    Raises:
        ValueError: If it is not a number or is negative.
    """
    if value is None:
        return None
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("its expires_in is not a number")
    if not value >= 0:  # written so that NaN is refused too
        raise ValueError("its expires_in is negative or not a number")
    return float(min(value, LONGEST_LIFE_SECONDS))
