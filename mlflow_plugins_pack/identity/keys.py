"""Caches an issuer's public keys; keeps them while the issuer is down and limits fetches."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from mlflow_plugins_pack.identity.errors import KeysUnavailableError, TokenRefusedError

_logger = logging.getLogger(__name__)

_LARGEST_BYTES = 1 << 20
KEEP_SECONDS = 3600.0
FORCED_PAUSE_SECONDS = 30.0
"""Any client can send an unknown key ID; it causes at most one fetch in this time."""
FAILED_PAUSE_SECONDS = 5.0


class KeyCache:
    """The keys of one issuer.

    Args:
        fetch: Returns a JWK set (RFC 7517, section 5); raises `KeysUnavailableError`.
        clock: Monotonic seconds.
    """

    def __init__(
        self, fetch: Callable[[], Mapping[str, Any]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch, self._clock = fetch, clock
        self._keys: list[Mapping[str, Any]] | None = None
        self._fetched_at = 0.0
        self._next_forced_at = 0.0
        self._next_try_at = 0.0
        self._problem = ""
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._unlock)

    def find(self, key_id: str | None) -> list[Mapping[str, Any]]:
        """Return the keys a token may have been signed with.

        Args:
            key_id: The token's ``kid``; without one every signing key of the issuer is tried.

        Raises:
            TokenRefusedError: If the issuer has no such key.
            KeysUnavailableError: If the keys could never be fetched.
        """
        now = self._clock()
        if self._keys is None or (now - self._fetched_at > KEEP_SECONDS and not self._problem):
            self._refresh(now)
        elif self._problem and now >= self._next_try_at:
            self._refresh_behind(now)
        if not (found := self._matching(key_id)) and now >= self._next_forced_at:
            self._refresh(now, forced=True)
            found = self._matching(key_id)
        if not found:
            raise TokenRefusedError("it is signed with a key that its issuer does not publish")
        return found

    def _matching(self, key_id: str | None) -> list[Mapping[str, Any]]:
        keys = [key for key in self._keys or () if key.get("use", "sig") == "sig"]
        return [key for key in keys if key_id is None or key.get("kid") == key_id]

    def _refresh(self, now: float, *, forced: bool = False) -> None:
        """Fetch the keys, one thread at a time; keep the old ones if that fails."""
        before = self._fetched_at
        with self._lock:
            if self._fetched_at != before or (forced and now < self._next_forced_at):
                return  # another thread has just done it
            if forced:
                self._next_forced_at = now + FORCED_PAUSE_SECONDS
            if now >= self._next_try_at:
                self._fetch_now(now)
            if self._keys is None:
                raise KeysUnavailableError(self._problem)

    def _refresh_behind(self, now: float) -> None:
        """Fetch the keys in another thread: while the issuer is down no request waits for it."""
        self._next_try_at = now + FAILED_PAUSE_SECONDS

        def work() -> None:
            with self._lock:
                self._fetch_now(now)

        with contextlib.suppress(RuntimeError):  # no thread can be started; the old keys serve
            threading.Thread(target=work, name="mlflow-pack-keys", daemon=True).start()

    def _fetch_now(self, now: float) -> None:
        try:
            found = _keys_of(self._fetch())
        except KeysUnavailableError as exc:
            self._problem = str(exc)
            # From now on: an issuer that does not answer has taken that long already.
            self._next_try_at = self._clock() + FAILED_PAUSE_SECONDS
            if self._keys is not None:
                _logger.warning("An issuer's keys could not be renewed: %s", exc)
            return
        self._keys, self._problem = found, ""
        self._fetched_at = now

    def _unlock(self) -> None:
        self._lock = threading.Lock()


def fetch_json(url: str, timeout_seconds: float = 5.0) -> Mapping[str, Any]:
    """Get a JSON object over HTTP, without any credential and without following redirects.

    Args:
        url: The URL.
        timeout_seconds: The limit of the whole exchange.

    Raises:
        KeysUnavailableError: If the answer is not a JSON object.
    """
    import requests

    from mlflow_plugins_pack.http_deadline import exchange, read_body

    def ask(session: requests.Session) -> tuple[int, bytes]:
        answer = session.get(url, timeout=timeout_seconds, allow_redirects=False, stream=True)
        return answer.status_code, read_body(answer, _LARGEST_BYTES)

    try:
        status, body = exchange(timeout_seconds, ask)
        document = _parse(body)
    except (requests.RequestException, OSError) as exc:
        raise KeysUnavailableError(f"{url} does not answer ({type(exc).__name__})") from None
    if status != requests.codes.ok or document is None:
        raise KeysUnavailableError(
            f"{url} answered {status} with something other than a JSON object"
        )
    return document


def _keys_of(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    keys = document.get("keys")
    if not isinstance(keys, list):
        raise KeysUnavailableError("the issuer's answer is not a JWK set")
    return [key for key in keys if isinstance(key, dict)]


def _parse(body: bytes) -> Mapping[str, Any] | None:
    import json

    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
