"""Calls that a process makes a few seconds later, in the background, or when it ends.

Of several calls with one key only the last is made. What fails is not tried again: nothing that
was promised may depend on it.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Hashable

DELAY_SECONDS = 5.0

_AT_END_SECONDS = 5.0
"""For so long at most the end of a process waits for calls that are still to be made."""

_logger = logging.getLogger(__name__)


class _Queue:
    """The calls of one process, and the thread that makes them while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[Hashable, Callable[[], None]] = {}
        self._thread: threading.Thread | None = None
        self._is_ending = threading.Event()

    def put(self, key: Hashable, call: Callable[[], None]) -> None:
        with self._lock:
            self._calls[key] = call
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="mlflow-pack-later", daemon=True)
                # While an interpreter ends, some versions of Python start no more threads.
                with contextlib.suppress(RuntimeError):
                    thread.start()
                    self._thread = thread

    def take(self, key: Hashable) -> Callable[[], None] | None:
        with self._lock:
            return self._calls.pop(key, None)

    def end(self) -> None:
        self._is_ending.set()
        if (thread := self._thread) is not None:
            thread.join(_AT_END_SECONDS)

    def _work(self) -> None:
        while True:
            self._is_ending.wait(DELAY_SECONDS)
            with self._lock:
                calls = list(self._calls.values())
                self._calls.clear()
                if not calls:
                    self._thread = None
                    return
            for call in calls:
                _make(call)


def _make(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:
        _logger.debug("A deferred call failed.", exc_info=True)


_queue = _Queue()


def _forget_parent() -> None:
    global _queue
    _queue = _Queue()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
atexit.register(lambda: _queue.end())


def later(key: Hashable, call: Callable[[], None]) -> None:
    """Make a call in some seconds, unless another one with the same key is asked for before."""
    _queue.put(key, call)


def now(key: Hashable) -> None:
    """Make the call of a key at once, if there is one to be made."""
    if (call := _queue.take(key)) is not None:
        _make(call)
