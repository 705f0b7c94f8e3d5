"""The current credential of one profile: asks the source when needed, one thread at a time."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from mlflow_plugins_pack.auth.credentials import lifetime
from mlflow_plugins_pack.auth.credentials.contracts import Source, SourceDownError, SourceError
from mlflow_plugins_pack.auth.credentials.lifetime import Credential, State, Step
from mlflow_plugins_pack.auth.profiles.models import Profile
from mlflow_plugins_pack.errors import CredentialError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replacement:
    """A credential in place of one that the server refused.

    Attributes:
        credential: The credential.
        is_new: Whether the source created it for this call; otherwise another thread or process
            had it before, and the server may refuse it too.
    """

    credential: Credential
    is_new: bool


class CurrentCredential:
    """The credential of one profile, and the source that gives it.

    Args:
        name: The profile's name.
        profile: The profile.
        source: The source that the profile names.
    """

    def __init__(self, name: str, profile: Profile, source: Source) -> None:
        self.name, self.profile = name, profile
        self._source = source
        self._state = State()
        self._lock = threading.Lock()  # held while the source is asked, never across a request

    def after_fork(self) -> None:
        """Replace the lock in a forked child: the thread that held it may not exist there."""
        self._lock = threading.Lock()

    def get(self) -> Credential:
        """Return the credential that signs a request in now.

        Raises:
            CredentialError: If the source gives nothing usable and no valid credential is left.
        """
        stamp = self._source.stamp()
        state = self._state
        step = lifetime.next_step(state, time.monotonic(), stamp)
        if step is Step.USE and state.credential is not None:
            return state.credential
        if step is Step.REFRESH_AHEAD:
            return self._refresh_ahead()
        with self._lock:
            # Another thread may have fetched while this one waited.
            stamp = self._source.stamp()
            step = lifetime.next_step(self._state, time.monotonic(), stamp)
            if step is Step.FAIL:
                wait = lifetime.outage_wait(self._state, time.monotonic())
                if wait is None:
                    raise self.error(self._state.error or "it failed a moment ago")
                time.sleep(wait)
            if step is not Step.USE:
                self._fetch(stamp)
            return self._usable()

    def replace_rejected(self, used: Credential) -> Replacement | None:
        """Return another credential after the server refused one with a 401.

        However many threads ask about the same credential, the source is asked once.

        Args:
            used: The credential that was refused.

        Returns:
            A credential that differs; None if the source has no other.

        Raises:
            CredentialError: If the source fails and no valid credential is left.
        """
        with self._lock:
            current = self._state.credential
            if current is not None and current.headers != used.headers:
                return Replacement(current, is_new=False)
            now, is_same = time.monotonic(), self._source.stamp() == self._state.stamp
            if is_same and not lifetime.may_refetch_after_rejection(self._state, now):
                return None
            ended = lifetime.refused(self._state, now)
            if now < ended.retry_at:
                # The source rests after a failure, and the credential, good until now, ended on
                # the way: wait for a source that is down as a request that comes now would.
                wait = lifetime.outage_wait(ended, now)
                if wait is None:
                    return None
                time.sleep(wait)
            self._state = ended
            self._fetch(self._source.stamp())
            current = self._state.credential
            is_new = current is not None and current.age_seconds == 0
            if current is None or current.headers == used.headers or is_new:
                # A server that refuses new ones too must not have one created for each request.
                self._state = lifetime.rejected(self._state, time.monotonic())
            if current is None or current.headers == used.headers:
                return None
            _logger.debug("Profile %s: replaced a credential that was refused.", self.name)
            return Replacement(current, is_new=is_new)

    def error(self, problem: str) -> CredentialError:
        """Return the error for a request that cannot be signed in."""
        hosts = ", ".join(str(scope) for scope in self.profile.scopes)
        return CredentialError(
            f"Sign-in profile {self.name!r} (source {self.profile.source_name}, for {hosts}) has "
            f"no credential: {problem}. The request was not sent. Repair that, then try again; "
            f"`mlflow-pack auth status` shows every profile."
        )

    def _refresh_ahead(self) -> Credential:
        if self._lock.acquire(blocking=False):
            try:
                stamp = self._source.stamp()
                if lifetime.next_step(self._state, time.monotonic(), stamp) is Step.REFRESH_AHEAD:
                    self._fetch(stamp)
            finally:
                self._lock.release()
        credential = self._state.credential
        return credential if credential is not None else self._usable()

    def _fetch(self, stamp: object) -> None:
        """Ask the source and note the outcome; the lock is held.

        The stamp was taken before: a secret rotated while it was read is then read again. While
        what gives the secret is down, the old credential serves; once that has ended, requests
        wait for a while instead of failing a job that has run for hours.
        """
        while True:
            try:
                credential = self._source.fetch()
            except SourceError as exc:
                problem, is_down = str(exc), isinstance(exc, SourceDownError)
                rest = exc.retry_after_seconds if isinstance(exc, SourceDownError) else 0.0
            else:
                self._state = lifetime.fetched(self._state, credential, time.monotonic(), stamp)
                return
            now = time.monotonic()
            self._state = lifetime.failed(
                self._state, problem, now, stamp, is_down=is_down, retry_after_seconds=rest
            )
            if self._is_still_valid(stamp):
                _logger.warning(
                    "Profile %s: its credential could not be refreshed (%s); the old one is used "
                    "while it is valid.",
                    self.name,
                    problem,
                )
                return
            wait = lifetime.outage_wait(self._state, time.monotonic())
            if wait is None:
                raise self.error(problem)
            _logger.warning("Profile %s: waiting for its source (%s).", self.name, problem)
            time.sleep(wait)

    def _is_still_valid(self, stamp: object) -> bool:
        state = self._state
        return (
            state.credential is not None
            and state.stamp == stamp
            and time.monotonic() < state.expires_at
        )

    def _usable(self) -> Credential:
        credential = self._state.credential
        if credential is None:
            raise self.error(self._state.error or "its source gave nothing")
        return credential
