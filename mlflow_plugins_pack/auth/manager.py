"""The credentials of this process: loads the profiles, asks the sources, one at a time each.

One `Manager` a process serves both doors. Its locks cover asking a source, never a request; a
forked child gets fresh ones, since the thread that held the old may not exist there.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass, field

from mlflow_plugins_pack.auth.credentials import lifetime
from mlflow_plugins_pack.auth.credentials.contracts import SourceDownError, SourceError
from mlflow_plugins_pack.auth.credentials.lifetime import Credential, State, Step
from mlflow_plugins_pack.auth.profiles import environment
from mlflow_plugins_pack.auth.profiles.file import Profiles, load_profiles, mark_of
from mlflow_plugins_pack.auth.profiles.models import Profile
from mlflow_plugins_pack.auth.profiles.origins import parse_target
from mlflow_plugins_pack.auth.profiles.paths import (
    CONFIG_VARIABLE,
    ENVIRONMENT,
    find_config,
    user_config,
)
from mlflow_plugins_pack.auth.sources import Source, open_source
from mlflow_plugins_pack.errors import AuthConfigError, CredentialError

_logger = logging.getLogger(__name__)


@dataclass
class Slot:
    """One profile's source and what it last gave.

    Attributes:
        lock: Held while the source is asked, never across a request.
    """

    name: str
    profile: Profile
    source: Source
    state: State = field(default_factory=State)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Replacement:
    """A credential instead of one that was refused.

    Attributes:
        credential: The credential.
        is_new: It was made just now; else another thread or process had it before, and it may
            have been refused by now too.
    """

    credential: Credential
    is_new: bool


@dataclass(frozen=True)
class _Loaded:
    path: str
    mark: tuple[object, ...]
    profiles: Profiles
    slots: dict[str, Slot]


class Manager:
    """Credentials by profile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None
        self._warned: set[tuple[str, str]] = set()

    def after_fork(self) -> None:
        """Replace every lock in a forked child; what was fetched stays good."""
        self._lock = threading.Lock()
        if self._loaded is not None:
            for slot in self._loaded.slots.values():
                slot.lock = threading.Lock()

    def profiles(self) -> Profiles:
        """Return the profiles in force now.

        Raises:
            AuthConfigError: If there is no profiles file, or it is not usable.
        """
        return self._load().profiles

    def match(self, url: str) -> Slot | None:
        """Return the profile that names this URL, with its credential's state; None if none does.

        Raises:
            AuthConfigError: If the profiles file is not usable.
        """
        loaded = self._load()
        name = loaded.profiles.find(parse_target(url))
        return None if name is None else loaded.slots[name]

    def find(self, url: str) -> str | None:
        """Return the name of the profile that names this URL, if any; see `match`."""
        slot = self.match(url)
        return None if slot is None else slot.name

    def profile(self, name: str) -> Profile:
        """Return one profile.

        Raises:
            AuthConfigError: If there is none of this name.
        """
        return self._slot(name).profile

    def credential(self, name: str) -> Credential:
        """Return what signs a request in now, asking the source only when needed.

        Raises:
            CredentialError: If the source gives nothing usable and nothing valid is left.
        """
        return self.credential_of(self._slot(name))

    def credential_of(self, slot: Slot) -> Credential:
        """Return what signs a request in now; see `credential`."""
        stamp = slot.source.stamp()
        state = slot.state
        step = lifetime.next_step(state, time.monotonic(), stamp)
        if step is Step.USE and state.credential is not None:
            return state.credential
        if step is Step.REFRESH_AHEAD:
            return self._refresh_ahead(slot)
        with slot.lock:
            # Another thread may have fetched while this one waited.
            stamp = slot.source.stamp()
            step = lifetime.next_step(slot.state, time.monotonic(), stamp)
            if step is Step.FAIL:
                wait = lifetime.outage_wait(slot.state, time.monotonic())
                if wait is None:
                    raise no_credential(slot, slot.state.error or "it failed a moment ago")
                time.sleep(wait)
            if step is not Step.USE:
                self._fetch(slot, stamp)
            return self._usable(slot)

    def replace_rejected(self, name: str, used: Credential) -> Replacement | None:
        """Return another credential after the server refused one with a 401.

        Args:
            name: The profile.
            used: The credential that was refused.

        Returns:
            One that differs, or None if the source has no other. However many threads ask about
            the same one, the source is asked once.

        Raises:
            CredentialError: If the source fails and nothing valid is left.
        """
        slot = self._slot(name)
        with slot.lock:
            current = slot.state.credential
            if current is not None and current.headers != used.headers:
                return Replacement(current, is_new=False)
            now = time.monotonic()
            if not lifetime.may_refetch_after_rejection(slot.state, now):
                return None
            ended = lifetime.refused(slot.state, now)
            if now < ended.retry_at:
                # It rests after a failure. The credential was good until now, and ended on the
                # way: with a source that is down, wait as a request that comes now would.
                wait = lifetime.outage_wait(ended, now)
                if wait is None:
                    return None
                time.sleep(wait)
            slot.state = ended
            self._fetch(slot, slot.source.stamp())
            current = slot.state.credential
            if current is None or current.headers == used.headers:
                slot.state = lifetime.rejected(slot.state, time.monotonic())
                return None
            _logger.debug("Profile %s: the server refused a credential; got a new one.", name)
            return Replacement(current, is_new=current.age_seconds == 0)

    def warn_once(self, name: str, kind: str, message: str) -> None:
        """Log a warning once a process for each profile and kind."""
        if (name, kind) not in self._warned:
            self._warned.add((name, kind))
            _logger.warning("%s", message)

    def _refresh_ahead(self, slot: Slot) -> Credential:
        if slot.lock.acquire(blocking=False):
            try:
                stamp = slot.source.stamp()
                if lifetime.next_step(slot.state, time.monotonic(), stamp) is Step.REFRESH_AHEAD:
                    self._fetch(slot, stamp)
            finally:
                slot.lock.release()
        credential = slot.state.credential
        return credential if credential is not None else self._usable(slot)

    def _fetch(self, slot: Slot, stamp: object) -> None:
        """Ask the source and note the outcome; the slot's lock is held.

        The stamp was taken before: a secret rotated while it was read is then read again. While
        what gives the secret is down, the old credential serves; once that has ended, requests
        wait for a while instead of failing a job that has run for hours.
        """
        while True:
            try:
                credential = slot.source.fetch()
            except SourceError as exc:
                problem, is_down = str(exc), isinstance(exc, SourceDownError)
            else:
                slot.state = lifetime.fetched(slot.state, credential, time.monotonic(), stamp)
                return
            now = time.monotonic()
            slot.state = lifetime.failed(slot.state, problem, now, stamp, is_down=is_down)
            if self._still_valid(slot, stamp):
                _logger.warning(
                    "Profile %s: its credential could not be refreshed (%s); the old one is used "
                    "while it is valid.",
                    slot.name,
                    problem,
                )
                return
            wait = lifetime.outage_wait(slot.state, time.monotonic())
            if wait is None:
                raise no_credential(slot, problem)
            _logger.warning("Profile %s: waiting for its source (%s).", slot.name, problem)
            time.sleep(wait)

    def _still_valid(self, slot: Slot, stamp: object) -> bool:
        state = slot.state
        return (
            state.credential is not None
            and state.stamp == stamp
            and time.monotonic() < state.expires_at
        )

    def _usable(self, slot: Slot) -> Credential:
        credential = slot.state.credential
        if credential is None:
            raise no_credential(slot, slot.state.error or "its source gave nothing")
        return credential

    def _slot(self, name: str) -> Slot:
        loaded = self._load()
        try:
            return loaded.slots[name]
        except KeyError:
            known = ", ".join(loaded.slots) or "none"
            raise AuthConfigError(
                f"The profiles file {loaded.path} has no profile {name!r} (it has: {known}). "
                f"Nothing was sent."
            ) from None

    def _load(self) -> _Loaded:
        path = find_config()
        if path is None:
            raise AuthConfigError(
                f"There is no profiles file. Nothing was sent. Create {user_config()}, or name "
                f"one in {CONFIG_VARIABLE}."
            )
        path, mark = _mark(path)
        loaded = self._loaded
        if loaded is not None and loaded.path == path and loaded.mark == mark:
            return loaded
        with self._lock:
            loaded = self._loaded
            if loaded is None or loaded.path != path or loaded.mark != mark:
                profiles = environment.profiles() if path is ENVIRONMENT else load_profiles(path)
                self._loaded = loaded = _Loaded(path, mark, profiles, self._slots(profiles))
        return loaded

    def _slots(self, profiles: Profiles) -> dict[str, Slot]:
        """Make a slot for each profile, keeping the credentials of those that did not change."""
        old = self._loaded.slots if self._loaded is not None else {}
        return {
            name: old[name]
            if name in old and old[name].profile == profile
            else Slot(name, profile, open_source(name, profile))
            for name, profile in profiles.by_name.items()
        }


def no_credential(slot: Slot, problem: str) -> CredentialError:
    """Return the error for a profile that cannot sign a request in."""
    hosts = ", ".join(str(scope) for scope in slot.profile.scopes)
    return CredentialError(
        f"Sign-in profile {slot.name!r} (source {shown_source(slot.profile)}, for {hosts}) has no "
        f"credential: {problem}. The request was not sent. Repair that, then try again; "
        f"`mlflow-pack auth status` shows every profile."
    )


def shown_source(profile: Profile) -> str:
    """Return a profile's source as people read it."""
    source = profile.source
    return source if isinstance(source, str) else " > ".join(source)


def _mark(path: str) -> tuple[str, tuple[object, ...]]:
    """Return the full path, and what changes whenever the profiles there do."""
    if path is ENVIRONMENT:
        return path, environment.mark()
    if path.startswith("~"):
        path = os.path.expanduser(path)
    return path, mark_of(path) if os.path.isabs(path) else ()


_manager = Manager()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _manager.after_fork())


def get_manager() -> Manager:
    """Return the manager of this process."""
    return _manager
