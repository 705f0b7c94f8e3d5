"""The profiles in force and the current credential of each, for this process.

Automatic and opt-in signing share one `Manager`. It reads the profiles again whenever their file
or variables change; a profile that did not change keeps its credential.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass

from mlflow_plugins_pack.auth.credentials.current import CurrentCredential
from mlflow_plugins_pack.auth.credentials.lifetime import Credential
from mlflow_plugins_pack.auth.profiles import environment
from mlflow_plugins_pack.auth.profiles.file import Profiles, load_profiles, mark_of
from mlflow_plugins_pack.auth.profiles.models import Profile
from mlflow_plugins_pack.auth.profiles.paths import (
    CONFIG_VARIABLE,
    ENVIRONMENT,
    find_config,
    user_config,
)
from mlflow_plugins_pack.auth.sources import open_source
from mlflow_plugins_pack.errors import AuthConfigError

_logger = logging.getLogger(__name__)
_REWRITE_SECONDS = 1.0
"""Wait for a profiles file that is gone or empty: an editor may be saving it."""


@dataclass(frozen=True)
class _Loaded:
    path: str
    mark: tuple[object, ...]
    profiles: Profiles
    credentials: dict[str, CurrentCredential]


class Manager:
    """Profiles, and credentials by profile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None
        self._is_gone = False  # the profiles file, after it was waited for
        self._warned: set[tuple[str, str]] = set()

    def after_fork(self) -> None:
        """Replace every lock in a forked child; credentials that were fetched stay good."""
        self._lock = threading.Lock()
        if self._loaded is not None:
            for current in self._loaded.credentials.values():
                current.after_fork()

    def profiles(self) -> Profiles:
        """Return the profiles in force now.

        Raises:
            AuthConfigError: If there is no profiles file, or it is not usable.
        """
        return self._load().profiles

    def match(self, url: str) -> CurrentCredential | None:
        """Return the credential of the profile that names this URL; None if none does.

        Args:
            url: The URL as it is sent.

        Raises:
            AuthConfigError: If the profiles file is not usable.
            AmbiguousAddressError: If the URL may be one of a profile, and may be another.
        """
        loaded = self._load()
        name = loaded.profiles.find(url)
        return None if name is None else loaded.credentials[name]

    def profile(self, name: str) -> Profile:
        """Return a profile; see `current`."""
        return self.current(name).profile

    def credential(self, name: str) -> Credential:
        """Return the credential that signs requests of a profile in now; see `current`.

        Raises:
            CredentialError: If the source gives nothing usable and no valid credential is left.
        """
        return self.current(name).get()

    def current(self, name: str) -> CurrentCredential:
        """Return the credential of a profile.

        Raises:
            AuthConfigError: If no profile has this name.
        """
        loaded = self._load()
        try:
            return loaded.credentials[name]
        except KeyError:
            known = ", ".join(loaded.credentials) or "none"
            raise AuthConfigError(
                f"The profiles file {loaded.path} has no profile {name!r} (it has: {known}). "
                f"Nothing was sent. Name one of these, or add the profile."
            ) from None

    def warn_once(self, name: str, kind: str, message: str) -> None:
        """Log a warning once per process for each profile and kind."""
        if (name, kind) not in self._warned:
            self._warned.add((name, kind))
            _logger.warning("%s", message)

    def _load(self) -> _Loaded:
        path = find_config()
        if path is None:
            raise AuthConfigError(
                f"There is no profiles file. Nothing was sent. Create {user_config()}, or name "
                f"one in {CONFIG_VARIABLE}."
            )
        path, mark = self._mark(path)
        loaded = self._loaded
        if loaded is not None and loaded.path == path and loaded.mark == mark:
            return loaded
        with self._lock:
            loaded = self._loaded
            if loaded is None or loaded.path != path or loaded.mark != mark:
                profiles = environment.profiles() if path is ENVIRONMENT else load_profiles(path)
                self._loaded = loaded = _Loaded(path, mark, profiles, self._credentials(profiles))
        return loaded

    def _mark(self, path: str) -> tuple[str, tuple[object, ...]]:
        """Return the full path, and a mark that changes whenever the profiles there do.

        A file that was read before and is gone, or empty, is being written: it is waited for.
        """
        if path is ENVIRONMENT:
            return path, environment.mark()
        if path.startswith("~"):
            path = os.path.expanduser(path)
        if not os.path.isabs(path):
            return path, ()
        if self._loaded is not None and self._loaded.path == path and not _has_content(path):
            with self._lock:
                deadline = time.monotonic() + (0.0 if self._is_gone else _REWRITE_SECONDS)
                while not _has_content(path) and time.monotonic() < deadline:
                    time.sleep(_REWRITE_SECONDS / 50)
                self._is_gone = not _has_content(path)
        return path, mark_of(path)

    def _credentials(self, profiles: Profiles) -> dict[str, CurrentCredential]:
        old = self._loaded.credentials if self._loaded is not None else {}
        return {
            name: old[name]
            if name in old and old[name].profile == profile
            else CurrentCredential(name, profile, open_source(name, profile))
            for name, profile in profiles.by_name.items()
        }


def _has_content(path: str) -> bool:
    try:
        return os.stat(path).st_size > 0
    except FileNotFoundError:
        return False
    except OSError:
        return True  # `mark_of` says what is wrong


def sent_url(url: str) -> str | None:
    """Return a URL as `requests` sends it, which may differ; None if it does not send it.

    It drops blanks and empty ports, and spells international hosts in ASCII.
    """
    import requests

    request = requests.PreparedRequest()
    try:
        request.prepare_url(url, None)
    except (requests.RequestException, ValueError):
        return None
    return request.url


_manager = Manager()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _manager.after_fork())


def get_manager() -> Manager:
    """Return the manager of this process."""
    return _manager
