"""Which run each read and write belongs to: one window per run.

A run's window holds what was read and written while it was the innermost active run, what its
nested runs read and wrote, and what its thread read and wrote since the previous run ended. Marked
as shared is what it may have in memory from before: its parents' reads, and the preamble that all
runs of the process have in common. Pure bookkeeping; the caller holds the lock.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_plugins_pack.lineage.attribution.runs import ENDED, FULLY, Runs
from mlflow_plugins_pack.lineage.attribution.scope import Scope
from mlflow_plugins_pack.lineage.attribution.seen_places import MORE_PER_LISTED
from mlflow_plugins_pack.lineage.capture.event import MOVE, READ, Event
from mlflow_plugins_pack.lineage.files import packed

_WRITERS_LIMIT = 100_000


@dataclass(frozen=True)
class Window:
    """All that belongs to one run.

    Attributes:
        own: Its reads and writes.
        shared: Reads from before that it may have used.
        intermediate: Keys of the events whose content the run itself wrote before it read it.
        upstream: Runs of this process that wrote what this run read.
    """

    own: Scope
    shared: Scope
    intermediate: frozenset[str]
    upstream: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(
            self.own.reads
            or self.own.more
            or self.own.writes
            or self.shared.reads
            or self.own.dropped
        )


class Recorder:
    """Sorts events into the windows of runs.

    Args:
        runs: The runs of this process.
        limit: Most places to keep per owner; the rest is counted.
    """

    def __init__(self, runs: Runs, limit: int) -> None:
        self._limit = limit
        self._runs = runs
        self._idle: dict[int, Scope] = {}
        self._preamble: Scope | None = None
        # Owner and time of the last writing of each place, by the version that was written.
        self._writers: dict[str, dict[str | None, tuple[str, int]]] = {}

    def is_crowded(self) -> bool:
        """Return whether some run has read as much as it may list."""
        return any(len(run.scope.reads) >= self._limit for run in self._runs.open())

    def add(self, event: Event) -> None:
        """Sort one event in."""
        if event.owners:
            for owner in event.owners:
                self._put(self._runs.state(owner).scope, event, owner)
        else:
            self._put(self._idle.setdefault(event.thread, Scope()), event, "")

    def add_more(self, owners: tuple[str, ...], thread: int, states: dict[str, int]) -> None:
        """Sort in files of which less is known; again and again, as they become more.

        Args:
            owners: Runs that read them; empty if none was active.
            thread: The thread, if none was active.
            states: `event.packed` state of each local file.
        """
        scopes = [self._runs.state(owner).scope for owner in owners]
        for scope in scopes or (self._idle.setdefault(thread, Scope()),):
            scope.more = states | scope.more

    def _put_more(self, scope: Scope, place: str, state: int) -> None:
        if place in scope.reads or place in scope.more:
            return
        if len(scope.more) < self._limit * MORE_PER_LISTED:
            scope.more[place] = state
        else:
            scope.dropped += 1

    def _put(self, scope: Scope, event: Event, owner: str) -> None:
        kind = event.kind
        if kind == MOVE:
            scope.writes.pop(event.source or "", None)
            self._writers.pop(event.source or "", None)
        places = scope.reads if kind == READ else scope.writes
        key = event.key
        if key in places:
            if event.columns:
                places[key] = places[key].joined(event)
            return
        if len(places) >= self._limit:
            if kind == READ and event.state is not None:
                self._put_more(scope, event.where, packed(event.state.size, event.state.mtime_ns))
            else:
                scope.dropped += 1
            return
        places[key] = event
        if kind != READ and len(self._writers) < _WRITERS_LIMIT:
            self._writers.setdefault(event.where, {})[event.version] = (owner, event.seq)

    def _writer(self, event: Event) -> tuple[str, int] | None:
        """Return owner and time of the writing of what was read, if this process wrote it."""
        found = self._writers.get(event.where, {})
        if event.version in found or not found:
            return found.get(event.version)
        # Not every layer learns the version of what it reads or writes.
        return found.get(None) if event.version is not None else next(reversed(found.values()))

    def window(self, run_id: str, thread: int) -> Window:
        """Return what belongs to a run by now.

        Args:
            run_id: The run, whether it was seen before or not.
            thread: The thread that it runs in.
        """
        run = self._runs.state(run_id)
        own, shared = Scope(), Scope()
        own.merge(run.scope)
        own.merge(run.nested)
        family = {run_id}
        for other in self._runs.open():
            if run_id in self._runs.ancestors(other.run_id):
                own.merge(other.scope)
                own.merge(other.nested)
                family.add(other.run_id)
        idle = self._idle.get(thread, Scope())
        if run.applies != FULLY:
            # What no run owns may belong to any of those that are open.
            pass
        elif run.parent is None:
            own.merge(idle)
        else:
            shared.merge(Scope(idle.reads, idle.more, dropped=idle.dropped))
        for ancestor in self._runs.ancestors(run_id):
            family.add(ancestor)
            shared.merge(self._runs.state(ancestor).scope.read_only())
        for other_thread, scope in self._idle.items():
            if other_thread != thread:
                shared.merge(scope.read_only())
        if self._preamble is not None:
            shared.merge(self._preamble.read_only())
        for places in (shared.reads, shared.more):
            for place in [place for place in places if place in own.reads or place in own.more]:
                del places[place]
        for place in own.reads.keys() & own.more.keys():
            del own.more[place]
        intermediate, upstream = set(), []
        for place, event in (*own.reads.items(), *shared.reads.items()):
            writer, seq = self._writer(event) or ("", event.seq)
            # What was prepared before any run is as much an input as what was there before.
            if not writer or seq >= event.seq:
                continue
            if writer in family:
                intermediate.add(place)
            else:
                upstream.append(writer)
        # When one of these was read is not known: what was written by then counts as read later.
        for place in own.more.keys() & self._writers.keys():
            writer, _ = next(reversed(self._writers[place].values()))
            if writer in family:
                intermediate.add(place)
            elif writer:
                upstream.append(writer)
        return Window(own, shared, frozenset(intermediate), tuple(dict.fromkeys(upstream)))

    def close(self, run_id: str, thread: int) -> None:
        """End a run: its reads go to its parent, and the next run's window begins."""
        run = self._runs.state(run_id)
        parent = self._runs.find(run.parent) if run.parent else None
        scopes = run.scope, run.nested
        self._runs.end(run_id)
        if parent is not None and parent.phase != ENDED:
            for scope in scopes:
                parent.nested.merge(scope)
            return
        if self._preamble is None:
            self._preamble = Scope()
            for scope in self._idle.values():
                self._preamble.merge(scope)
            self._idle.clear()
        else:
            self._idle.pop(thread, None)

    def forked(self) -> None:
        """Forget the runs, which belong to the parent process; what is in memory stays read."""
        preamble = self._preamble or Scope()
        for scope in (*self._idle.values(), *(run.scope for run in self._runs.open())):
            preamble.merge(scope.read_only())
        self._preamble = preamble
        self._idle.clear()
        self._runs.forked()
