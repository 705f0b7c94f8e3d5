"""The threads that move bytes: one pool per process, and a bound on the memory that they fill.

MLflow's own pool of a repository is never used: its methods run on that pool and would wait for
themselves.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")

IO_THREADS = 8
CPU_THREADS = 2
MIB = 1024 * 1024

_pools: dict[tuple[int, str], ThreadPoolExecutor] = {}
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


def ask(call: Callable[..., T], *arguments: Any) -> Future[T]:
    """Run a short request, which does not wait behind those that move bytes.

    It must not wait for another call of this pool.
    """
    return _pool("ask", IO_THREADS).submit(call, *arguments)


def compute(call: Callable[..., T], *arguments: Any) -> Future[T]:
    """Run a call that keeps a processor busy; it must not wait for anything."""
    return _pool("cpu", CPU_THREADS).submit(call, *arguments)


class Memory:
    """A number of bytes that all calls of the process that move large files share evenly.

    No call waits for another's bytes: the more calls there are, the smaller are the packs that they
    build and the less they have under way. So there is no order in which they could block each
    other, and a slow one keeps no other from its part.
    """

    def __init__(self, total_bytes: int, least_bytes: int, most_bytes: int) -> None:
        self._total, self._least, self._most = total_bytes, least_bytes, most_bytes
        self._lock = threading.Lock()
        self._members: weakref.WeakSet[Share] = weakref.WeakSet()
        # What the parent was doing when the process was forked goes on there only.
        os.register_at_fork(after_in_child=self._forget_parent)

    def _forget_parent(self) -> None:
        self._lock = threading.Lock()
        self._members = weakref.WeakSet()

    def join(self, share: Share) -> None:
        """Count one more."""
        with self._lock:
            self._members.add(share)

    def leave(self, share: Share) -> None:
        """Count one less; it may have left before."""
        with self._lock:
            self._members.discard(share)

    def part(self) -> int:
        """Return how many bytes each may hold now."""
        with self._lock:
            count = len(self._members)
        return max(self._least, min(self._most, self._total // max(1, count)))


class Share:
    """One call's part of a `Memory`, from its first use until it is closed or collected."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._has_joined = False

    @property
    def bytes(self) -> int:
        """Bytes that the call may hold now."""
        if not self._has_joined:
            self._has_joined = True
            self._memory.join(self)
        return self._memory.part()

    def close(self) -> None:
        """Leave the part to the others."""
        self._memory.leave(self)


UPLOAD_MEMORY = Memory(48 * MIB, 3 * MIB, 48 * MIB)
"""Packs that are built or under way: four of 12 MiB of one call alone, four of 1.5 MiB of each of
eight. Beyond 16 calls the total grows by 3 MiB a call."""

DOWNLOAD_MEMORY = Memory(40 * MIB, 4 * MIB, 32 * MIB)
"""What was asked for and is not yet hashed."""


class Uploads:
    """Large writes under way, at most as many bytes as a call's share leaves for them.

    Submitting beyond that waits, so that the bytes held in memory stay bounded.
    """

    def __init__(self, share: Share) -> None:
        self._share = share
        self._running: dict[Future[None], int] = {}

    def submit(self, weight: int, call: Callable[..., None], *arguments: Any) -> None:
        """Start a write of so many bytes, once those before leave room for it.

        Raises:
            Exception: What an earlier write failed with.
        """
        while self._running and sum(self._running.values()) + weight > self._share.bytes * 3 // 4:
            self._collect(return_when="FIRST_COMPLETED")
        self._running[submit(call, *arguments)] = weight

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
        done, _ = wait(self._running, return_when=return_when)
        for future in done:
            del self._running[future]
        for future in done:
            future.result()
