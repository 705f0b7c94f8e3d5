"""Which runs a read or write belongs to: the active ones, the attached ones, and what was seen.

`Ownership.claim` is asked inside every ``open`` of a data file, so it takes no lock, imports
nothing, and remembers per thread what it found out last.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

from mlflow_plugins_pack.lineage import mlflow_internals as adapter
from mlflow_plugins_pack.lineage.attribution.runs import FULLY, OPEN, Runs, RunState
from mlflow_plugins_pack.lineage.attribution.seen_places import BATCH, Seen


class Claim(NamedTuple):
    """The runs that a read or write belongs to.

    Attributes:
        owners: The innermost active runs; empty if none is active.
        thread: Identifier of the thread.
        seen: What is recorded for them already.
    """

    owners: tuple[str, ...]
    thread: int
    seen: Seen


class _Memory(NamedTuple):
    """What a thread found out at its last claim, and what that depended on.

    Attributes:
        runs: The thread's active runs, as MLflow has them.
        run: The innermost of them.
        others: Other threads' innermost runs, if it works for those.
        generation: Number of the changes that were made here.
        read: The claim of its reads.
        written: The claim of its writes.
        seen: What is recorded of its reads.
    """

    runs: list[Any]
    run: Any
    others: list[Any] | None
    generation: int
    read: Claim
    written: Claim
    seen: Seen


# Not of a thread: greenlets share those, and one that waits for the server is muted meanwhile.
_muted: ContextVar[int] = ContextVar("mlflow_plugins_pack_lineage_muted", default=0)


class _Thread(threading.local):
    """State of one thread; class attributes are what a new thread begins with."""

    creates = False
    attached: tuple[str, ...] = ()
    memory: _Memory | None = None


class Ownership:
    """Which runs are active in which thread, and which files are known for each.

    Attributes:
        is_later_rank: This is a rank above 0 of a distributed training.
        generation: A number that grows whenever what threads remember may be wrong: when a run is
            attached, ends, or the process forks.
        data_of: Returns those of some absolute paths that may be a user's data.
        limit: Most places that a run may list.

    Args:
        runs: The runs of this process.
        limit: Most places that a run may list.
    """

    def __init__(self, runs: Runs, limit: int) -> None:
        self._runs = runs
        self._attached: tuple[str, ...] = ()
        self.is_later_rank = False
        self.limit = limit
        self.data_of: Callable[[list[str]], list[str]] = list
        # Runs of the process that this one was forked from.
        self._foreign: frozenset[str] = frozenset()
        # By the owning runs, or the thread if there are none, and by whether it is written.
        self._seen: dict[tuple[tuple[str, ...] | int, bool], Seen] = {}
        self._local = _Thread()
        self.generation = 0

    # --- muting -----------------------------------------------------------------------------------

    def is_muted(self) -> bool:
        """Return whether this thread works for the pack now."""
        return _muted.get() > 0

    @contextlib.contextmanager
    def muted(self) -> Iterator[None]:
        """Record nothing that this thread does in the block."""
        token = _muted.set(_muted.get() + 1)
        try:
            yield
        finally:
            _muted.reset(token)

    # --- runs -------------------------------------------------------------------------------------

    def owners(self) -> tuple[str, ...]:
        """Return the runs that the calling thread works for now."""
        attached = self._local.attached
        if attached and attached[-1] in self._attached:
            return (attached[-1],)
        run = adapter.active_run()
        if run is not None:
            return (self.sight(run, threading.get_ident()),)
        # A thread without a run works for all runs that are active.
        return self.active_runs()

    def active_runs(self) -> tuple[str, ...]:
        """Return the innermost active run of each thread, and those attached."""
        others = adapter.other_threads_runs()
        if not others and not self._attached:
            return ()
        sighted = [self.sight(other, None) for other in others]
        if self._foreign:
            sighted = [run_id for run_id in sighted if run_id not in self._foreign]
        return tuple(dict.fromkeys((*sighted, *self._attached)))

    def sight(self, run: Any, thread: int | None) -> str:
        """Note an active run, and return its id.

        Args:
            run: As MLflow has it.
            thread: The thread in which it is active, if that is the calling one.
        """
        run_id = adapter.run_id_of(run)
        state = self._runs.find(run_id)
        is_known = state is not None and state.is_open
        if not is_known and (thread is not None or run_id not in self._foreign):
            state = self._runs.sight(run_id, adapter.parent_of(run))
            if self.is_later_rank and not self._local.creates:
                state.is_secondary = True
            self._local.creates = False
        if thread is not None and state is not None:
            state.thread = thread
        return run_id

    def will_create(self) -> None:
        """Note that the calling thread is about to create a run, which is thus its own."""
        self._local.creates = True

    def attach(self, run_id: str, tracking_uri: str | None) -> None:
        """Make a run the owner of what the calling thread reads and writes."""
        self._local.attached = (*self._local.attached, run_id)
        state = self._runs.sight(run_id)
        state.phase = OPEN
        state.is_attached, state.tracking_uri = True, tracking_uri
        state.applies = FULLY
        state.thread = threading.get_ident()
        self._attached_changed()

    def attach_process(self, run_id: str) -> None:
        """Make a run the owner of what threads that have no active run read and write."""
        state = self._runs.sight(run_id)
        state.is_attached = True
        state.thread = threading.get_ident()
        self._attached_changed()

    def detach_process(self, run_id: str) -> None:
        """End what `attach_process` began."""
        self._runs.sight(run_id).is_attached = False
        self._attached_changed()

    def is_named(self, state: RunState) -> bool:
        """Return whether the calling thread attached a run by name."""
        return state.run_id in self._local.attached

    def _attached_changed(self) -> None:
        self._attached = tuple(self._runs.attached())
        self.generation += 1

    def forget(self, run_id: str, thread: int) -> None:
        """Forget what was seen for a run that has ended."""
        self._local.attached = tuple(other for other in self._local.attached if other != run_id)
        for key in list(self._seen):
            if run_id in key[0] if isinstance(key[0], tuple) else key[0] == thread:
                self._seen.pop(key, None)
        self._attached_changed()

    def forked(self) -> None:
        """Adapt to being in a forked child: the runs belong to the parent process."""
        self._foreign = frozenset(
            {
                *(state.run_id for state in self._runs.open()),
                *map(adapter.run_id_of, adapter.other_threads_runs()),
            }
        )
        self._seen.clear()
        self._attached = self._local.attached = ()
        self.generation += 1

    # --- claims -----------------------------------------------------------------------------------

    def claim(self, path: str, writes: bool) -> Claim | None:
        """Return the runs that a read or write belongs to.

        Args:
            path: A local file's path, or what else identifies a place.
            writes: Whether it is written.

        Returns:
            None if it is recorded already, there are too many, or the thread works for the pack.
        """
        local = self._local
        if _muted.get():
            return None
        memory = local.memory
        if memory is None or not self._holds(memory):
            memory = self._remember(local)
        claimed = memory.written if writes else memory.read
        return claimed if claimed.seen.is_new(path) else None

    def is_one_of_many(self, path: str) -> bool:
        """Record a file that is read, if it is one of so many that it need not be judged.

        Args:
            path: As it was given.

        Returns:
            Whether it was recorded; else it is to be judged, and claimed.
        """
        memory = self._local.memory
        if memory is None:
            return False
        seen: Seen = memory.seen
        folders = seen.folders
        if not folders or path.rpartition("/")[0] not in folders:
            return False
        if _muted.get() or not self._holds(memory):
            return False
        waiting = seen.waiting
        waiting.append(path)
        if len(waiting) >= BATCH:
            seen.look()
        return True

    def _holds(self, memory: _Memory) -> bool:
        if memory.generation != self.generation:
            return False
        if (memory.runs[-1] if memory.runs else None) is not memory.run:
            return False
        return memory.others is None or memory.others == adapter.other_threads_runs()

    def look(self) -> None:
        """Look at the files that were read and not looked at yet."""
        for seen in list(self._seen.values()):
            seen.look()

    def claim_renamed(self, source: str, writes: bool) -> Claim | None:
        """Return the claim of a written file that is being renamed; None if it was not ours."""
        if _muted.get():
            return None
        owners, thread = self.owners(), threading.get_ident()
        seen = self._seen.get((owners or thread, writes))
        return None if seen is None or source not in seen.exact else Claim(owners, thread, seen)

    def _remember(self, local: _Thread) -> _Memory:
        generation, others = self.generation, adapter.other_threads_runs()
        owners, thread = self.owners(), threading.get_ident()
        claims = [
            Claim(owners, thread, self._seen.setdefault((owners or thread, writes), new))
            for writes, new in (
                (False, Seen(self.limit, self.data_of)),
                (True, Seen(self.limit, self.data_of, beyond=0)),
            )
        ]
        runs = adapter.own_runs()
        run = runs[-1] if runs else None
        is_own = run is not None or owners == local.attached[-1:] != ()
        read, written = claims
        works_for = None if is_own else others
        memory = _Memory(runs or [], run, works_for, generation, read, written, read.seen)
        local.memory = memory if runs is not None else None
        return memory

    def many(self) -> Iterator[tuple[tuple[str, ...], int, Seen]]:
        """Return owners, thread, and what was seen, wherever there are files in `Seen.more`."""
        for (owner, _), seen in list(self._seen.items()):
            if seen.more or seen.waiting:
                owners, thread = (owner, 0) if isinstance(owner, tuple) else ((), owner)
                yield owners, thread, seen

    def dropped(self, run_id: str, thread: int) -> int:
        """Return how often a run opened a file that is not recorded, there being too many."""
        return sum(
            seen.dropped
            for (owner, _), seen in list(self._seen.items())
            if (run_id in owner if isinstance(owner, tuple) else owner == thread)
        )
