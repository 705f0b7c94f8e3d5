"""The threads that move bytes: one pool per process, and a limit on what is under way.

MLflow's own pool of a repository is never used: its methods run on that pool and would wait for
themselves.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")

IO_THREADS = 8
CPU_THREADS = 2
UPLOADS_OF_ALL = 6
"""Large writes under way in one process, whoever started them: they are held in memory."""

_pools: dict[tuple[int, str], ThreadPoolExecutor] = {}
_places: dict[int, threading.BoundedSemaphore] = {}
_lock = threading.Lock()


def _pool(name: str, threads: int) -> ThreadPoolExecutor:
    # A forked child must not wait for threads that stayed with its parent.
    key = (os.getpid(), name)
    with _lock:
        if key not in _pools:
            _pools[key] = ThreadPoolExecutor(threads, thread_name_prefix=f"mlflow-pack-{name}")
        return _pools[key]


def submit(call: Callable[..., T], *arguments: Any) -> Future[T]:
    """Run a call that waits for a storage; it must not wait for another call of this pool."""
    return _pool("io", IO_THREADS).submit(call, *arguments)


def compute(call: Callable[..., T], *arguments: Any) -> Future[T]:
    """Run a call that keeps a processor busy; it must not wait for anything."""
    return _pool("cpu", CPU_THREADS).submit(call, *arguments)


def _upload_places() -> threading.BoundedSemaphore:
    # A place that a thread held when the process was forked would never come back in the child.
    with _lock:
        return _places.setdefault(os.getpid(), threading.BoundedSemaphore(UPLOADS_OF_ALL))


class Uploads:
    """Large writes under way, at most ``limit`` at a time, and `UPLOADS_OF_ALL` in the process.

    Submitting beyond that waits, so that the bytes held in memory stay bounded.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: list[Future[None]] = []

    def submit(self, call: Callable[..., None], *arguments: Any) -> None:
        """Start a write, waiting for a free place.

        Raises:
            Exception: What an earlier write failed with.
        """
        while len(self._running) >= self._limit:
            self._collect(return_when="FIRST_COMPLETED")
        places = _upload_places()
        places.acquire()
        try:
            running = submit(call, *arguments)
        except BaseException:
            places.release()
            raise
        running.add_done_callback(lambda _: places.release())
        self._running.append(running)

    def finish(self) -> None:
        """Wait for all writes.

        Raises:
            Exception: What the first failed one failed with.
        """
        while self._running:
            self._collect(return_when="ALL_COMPLETED")

    def abandon(self) -> None:
        """Start no more, and forget how what is under way will end; does not wait."""
        for future in self._running:
            future.cancel()
        self._running.clear()

    def _collect(self, return_when: str) -> None:
        done, running = wait(self._running, return_when=return_when)
        self._running = list(running)
        for future in done:
            future.result()
