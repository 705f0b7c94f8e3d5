"""Lets the threads of one process commit to a scope one after the other, and together if they can.

A server gets many small files of one run at the same time. While one thread's commit is under way,
the others wait; the next one takes what all of them want with it, in one entry. So the files of
one run are not stored slower than the storage answers, and threads do not compete for numbers.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

from mlflow_plugins_pack.artifacts.format.manifest import (
    MAX_HOLDER_BYTES,
    FileEntry,
    Operation,
)
from mlflow_plugins_pack.errors import ArtifactLockedError, StorageUnavailableError

_MOST_OPERATIONS = 128
_MOST_BYTES = MAX_HOLDER_BYTES
"""So many operations of several calls, and bytes of small files, go into one entry, unless one call
alone has more."""


class _Call:
    """One thread's call, until it is committed."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = operations
        self.bytes = sum(len(o.inline or b"") for o in operations if isinstance(o, FileEntry))
        self.is_done = False
        self.error: Exception | None = None


class _Turn:
    """The threads that commit to one scope, or wait for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting: list[_Call] = []
        self.threads = 0


class CommitTurns:
    """Orders the commits of one process's threads, scope by scope."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._turns: dict[str, _Turn] = {}

    @contextlib.contextmanager
    def alone(self, scope: str) -> Iterator[None]:
        """Hold back the other threads that commit to a scope."""
        with self._turn(scope) as turn, turn.lock:
            yield

    def together(
        self,
        scope: str,
        operations: Sequence[Operation],
        commit: Callable[[Sequence[Operation]], None],
    ) -> None:
        """Commit operations, by this thread or by one that commits its own at the same time.

        Args:
            scope: The scope that they change.
            operations: What this thread wants.
            commit: Commits the operations of several calls in one entry, or none of them.

        Raises:
            ArtifactLockedError: If one of this call's operations is on what is locked.
        """
        mine = _Call(operations)
        with self._turn(scope) as turn:
            with self._guard:
                turn.waiting.append(mine)
            with turn.lock:
                if not mine.is_done:
                    _commit_all(self._take(turn, mine), mine, commit)
        if mine.error is not None:
            raise mine.error

    @contextlib.contextmanager
    def _turn(self, scope: str) -> Iterator[_Turn]:
        with self._guard:
            turn = self._turns.setdefault(scope, _Turn())
            turn.threads += 1
        try:
            yield turn
        finally:
            with self._guard:
                turn.threads -= 1
                if not turn.threads:
                    del self._turns[scope]

    def _take(self, turn: _Turn, mine: _Call) -> list[_Call]:
        """Return this thread's call and the others that go with it; they no longer wait."""
        with self._guard:
            batch, count, size = [mine], len(mine.operations), mine.bytes
            for call in turn.waiting:
                if (
                    call is not mine
                    and count + len(call.operations) <= _MOST_OPERATIONS
                    and size + call.bytes <= _MOST_BYTES
                ):
                    batch.append(call)
                    count += len(call.operations)
                    size += call.bytes
            turn.waiting = [call for call in turn.waiting if call not in batch]
            return batch


def _commit_all(
    batch: list[_Call], mine: _Call, commit: Callable[[Sequence[Operation]], None]
) -> None:
    try:
        commit([operation for call in batch for operation in call.operations])
    except ArtifactLockedError as exc:
        if len(batch) > 1:
            # Nothing was changed: only the call that it is about must fail.
            for call in batch:
                _commit_all([call], call, commit)
            return
        mine.error = exc
    except Exception as exc:  # noqa: BLE001 - each of the threads raises it
        for call in batch:
            call.error = exc
    except BaseException:
        for call in batch:
            call.error = StorageUnavailableError(
                "The thread that committed this change together with its own was ended. Whether "
                "the change took effect is unknown. Look whether it did, and repeat it if not."
            )
        raise
    finally:
        for call in batch:
            call.is_done = True
