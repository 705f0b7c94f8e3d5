"""From the events of a process to the records of its runs.

Events are appended by the audit hook, without a lock. They are sorted into the runs' windows by the
worker and whenever a run begins or ends, holding the lock.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.lineage import mlflow_internals
from mlflow_plugins_pack.lineage.attribution.ownership import Ownership
from mlflow_plugins_pack.lineage.attribution.runs import ENDING, NOT, Runs, RunState
from mlflow_plugins_pack.lineage.attribution.windows import Recorder
from mlflow_plugins_pack.lineage.capture import standard_input
from mlflow_plugins_pack.lineage.capture.child_processes import Children
from mlflow_plugins_pack.lineage.capture.event import READ, STATEMENT, Event
from mlflow_plugins_pack.lineage.capture.resolving import resolved
from mlflow_plugins_pack.lineage.delivery.deadline import Deadline
from mlflow_plugins_pack.lineage.delivery.delivery import Delivery
from mlflow_plugins_pack.lineage.session.options import Options

_FORK_SECONDS = 10.0
"""Longest that a fork waits for an import of the worker."""
_LOOK_SECONDS = 7.0
"""Longest that the end of a run looks at files and hashes them."""
_SILENCE_SECONDS = 60.0
_HASHED_AHEAD = 1_000
"""Most files to hash at a time while a run goes on: one that opens many may list none of them."""
_WAITING_LIMIT = 100_000
"""Most events that wait to be sorted; reached only where no run, and so no worker, is started."""


# Over 250 lines: sorting, building and forks share the locks, whose order one class must show.
class Records:
    """The events of a process and the records that they become.

    Args:
        runs: The runs of the process.
        ownership: Which run each event belongs to.
        children: What child processes report.
        options: The settings.
        layers: The capture layers that are on.
        is_excluded: Tells whether a URI is not to be recorded.
    """

    # Long: one lock guards the events and the states of runs, and all that takes it is here.

    def __init__(
        self,
        runs: Runs,
        ownership: Ownership,
        children: Children,
        options: Options,
        layers: tuple[str, ...],
        is_excluded: Callable[[str], bool],
    ) -> None:
        self._runs = runs
        self._ownership = ownership
        self._children = children
        self._options = options
        self._layers = layers
        self._is_excluded = is_excluded
        self._events: deque[Event] = deque()
        self._unhashed: deque[Event] = deque(maxlen=_WAITING_LIMIT)
        self._recorder = Recorder(runs, ownership.limit)
        self._delivery = Delivery(ownership.muted)
        self._builder: Any = None
        self._fork_owners: tuple[str, ...] = ()
        self._silent_until = 0.0
        self._make_locks()

    def _make_locks(self) -> None:
        self._lock = threading.Lock()
        self._sorting = threading.Lock()
        self._collect_lock = threading.Lock()
        # A module that a thread was importing at a fork can never be imported in the child, so
        # a fork waits until the worker's imports are over.
        self._importing = threading.Lock()
        self._holds_forks = False

    # --- in ---------------------------------------------------------------------------------------

    def add(self, event: Event) -> None:
        """Take in an event; called from the audit hook."""
        if len(self._events) < _WAITING_LIMIT:
            self._events.append(event)
        writer = self._children.writer
        if writer is not None and self._is_others(event.owners):
            with self._ownership.muted():
                writer.write(_without_literals(event))

    def _is_others(self, owners: tuple[str, ...]) -> bool:
        """Return whether another process writes the records of these runs."""
        states = map(self._runs.find, owners)
        return all(state is not None and state.is_secondary for state in states)

    def collect(self, ending: str | None = None, *, ahead: bool = False) -> None:
        """Take in what child processes reported: it belongs to the runs that are active now.

        Called whenever a run begins or ends, so what is active now was active when it happened.

        Args:
            ending: The run that ends, if one does.
            ahead: Called in between: if a run is ending, its end collects.
        """
        with self._collect_lock, self._ownership.muted(), contextlib.suppress(Exception):
            # Before the reports are read: a run that ends meanwhile was active.
            active: tuple[str, ...] = self._ownership.active_runs()
            if ahead and self._is_a_run_ending():
                return
            state = self._runs.find(ending or "")
            thread = state.thread if state is not None else None
            reported = list(self._children.events(thread or threading.main_thread().ident or 0))
            if not reported:
                return
            if ending is not None:
                # Not of the parents of an ending child run, which get all that it has anyway.
                above = set(self._runs.ancestors(ending))
                others = (run_id for run_id in active if run_id not in above)
                active = tuple(dict.fromkeys((ending, *others)))
            known = {*active, *(state.run_id for state in self._runs.open())}
            for event in reported:
                named = tuple(owner for owner in event.owners if owner in known)
                self._events.append(event._replace(owners=named or active))

    def _is_a_run_ending(self) -> bool:
        """Return whether MLflow is ending a run: it is no longer active, but has no record yet.

        What its children reported is collected by its end.
        """
        active = set(self._ownership.active_runs())
        active.update(*(self._runs.ancestors(run_id) for run_id in list(active)))
        return any(state.run_id not in active for state in self._runs.open())

    def _sort(self, *, more: bool = True) -> None:
        """Sort the waiting events into the windows.

        What waits for files happens before the lock is taken that a run's end needs.

        Args:
            more: Also the files of which only size and time are kept.
        """
        with self._sorting:
            self._sort_events(looks=True)
            if more:
                for owners, thread, seen in self._ownership.many():
                    states = seen.look_at_all()
                    with self._lock:
                        self._recorder.add_more(owners, thread, states)

    def _sort_events(self, *, looks: bool) -> None:
        while self._events:
            for event in resolved(self._events.popleft(), self._is_excluded, looks=looks):
                with self._lock:
                    self._recorder.add(event)
                self._unhashed.append(event)

    # --- out --------------------------------------------------------------------------------------

    def finish(self, run_id: str, deadline: Deadline | None = None) -> None:
        """Write the final record of a run; never raises.

        Args:
            run_id: The run.
            deadline: When it must be over, if that is not a matter of this run alone.
        """
        deadline = deadline or self.deadline()
        with self._ownership.muted(), contextlib.suppress(Exception):
            state = self._runs.state(run_id)
            state.phase = ENDING
            thread = state.thread or threading.get_ident()
            try:
                if state.applies == NOT:
                    self._mark(state, deadline)
                elif not state.is_secondary:
                    status = mlflow_internals.status_being_set()
                    graph = self._final_graph(state, thread, deadline)
                    uri = state.tracking_uri or mlflow_internals.tracking_uri()
                    self._delivery.deliver(state, graph, uri, deadline, status)
                else:
                    self.collect(run_id)
                    self._sort()
            finally:
                with self._lock:
                    if state.applies == NOT:
                        self._runs.end(run_id)
                    else:
                        self._recorder.close(run_id, thread)
                self._ownership.forget(run_id, thread)

    def deadline(self) -> Deadline:
        """Return when what ends now must be over."""
        return Deadline(self._ownership.muted)

    def _mark(self, state: RunState, deadline: Deadline) -> None:
        """Record that nothing can be attributed to a run."""
        from mlflow_plugins_pack.lineage.building.coverage import coverage

        facts = coverage(self._layers, applies=NOT)
        uri = state.tracking_uri or mlflow_internals.tracking_uri()
        self._delivery.mark(state.run_id, facts, uri, deadline)

    def _final_graph(self, state: RunState, thread: int, deadline: Deadline) -> Any:
        """Return the record of a run, without a look at its files if those do not answer."""
        has_given_up = False

        def build() -> Any:
            self.collect(state.run_id)
            self._take_input(state.run_id, thread)
            self._sort()
            graph = self._build(state, thread, looks=True)
            if has_given_up:
                # The files do answer: it was the machine that had too much to do.
                self._silent_until = 0.0
            return graph

        # A mount that did not answer a moment ago is not waited for again.
        was_silent = time.monotonic() < self._silent_until
        try:
            return deadline.run(build, at_most=1.0 if was_silent else _LOOK_SECONDS)
        except TimeoutError:
            self._silent_until = time.monotonic() + _SILENCE_SECONDS
            has_given_up = True
            # The thread that waits may be sorting, so there is no waiting for that either.
            self._sort_events(looks=False)
            return self._build(state, thread, looks=False)

    def _take_input(self, run_id: str, thread: int) -> None:
        """Record that standard input was read since the last run's end."""
        if (found := standard_input.newly_read()) is not None:
            now = time.monotonic_ns()
            self._events.append(Event(now, READ, found[0], "audit", (run_id,), thread, found[1]))

    def write_interim(self) -> None:
        """Write the tags of the open runs, so that one that is killed leaves something."""
        self._sort()
        for state in self._runs.open():
            with self._lock:
                window = self._recorder.window(state.run_id, state.thread or 0)
            own, shared = window.own, window.shared
            count = len(own.reads) + len(own.more) + len(own.writes) + len(shared.reads)
            if not count or state.interim_places == count or self._delivery.is_paused:
                continue
            if state.is_secondary:
                continue
            state.interim_places = count
            graph = self._build(state, state.thread or 0, looks=True)
            uri = state.tracking_uri or mlflow_internals.tracking_uri()
            self._delivery.deliver_interim(state, graph, uri)

    def _build(self, state: RunState, thread: int, *, looks: bool) -> Any:
        with self._lock:
            window = self._recorder.window(state.run_id, thread)
        dropped = window.own.dropped + self._ownership.dropped(state.run_id, thread)
        builder = self._made_builder()
        return builder.build(
            window,
            dropped=dropped,
            layers=self._layers,
            looks=looks,
            applies=state.applies,
            captured_programs=self._children.captured_programs(),
        )

    def _made_builder(self) -> Any:
        with self._lock:
            if self._builder is None:
                with self._importing:
                    # The second is for the thread that writes the record.
                    from mlflow_plugins_pack.lineage.building.builder import GraphBuilder
                    from mlflow_plugins_pack.lineage.delivery import writer  # noqa: F401

                redact = self._options.get(settings.LINEAGE_REDACT, broken=True)
                self._builder = GraphBuilder(
                    limit=self._ownership.limit,
                    hash_files=self._options.get(settings.LINEAGE_HASH),
                    full_bytes=self._options.get(settings.LINEAGE_HASH_MAX_BYTES),
                    home=os.path.expanduser("~") if redact else "",  # noqa: PTH111
                    keep_code=self._options.get(settings.LINEAGE_CODE, broken=False),
                )
            return self._builder

    def wait_for_reports(self) -> None:
        """Wait, at the end of the process, for what is being sent elsewhere."""
        self._delivery.wait_for_reports()

    # --- ahead of a run's end ---------------------------------------------------------------------

    def prepare(self) -> None:
        """Import what the end of a run needs, and gather the facts about code and packages."""
        self._made_builder().prepare()

    def work_ahead(self) -> None:
        """Sort in what waits, and hash files that were read."""
        self.collect(ahead=True)
        self._ownership.look()
        self._sort(more=False)
        seen = [seen for _, _, seen in self._ownership.many()]
        if self._recorder.is_crowded() or any(one.is_crowded() for one in seen):
            # Most of so many files will not be listed, so they need no digest.
            self._unhashed.clear()
            return
        count = min(len(self._unhashed), _HASHED_AHEAD)
        some = [self._unhashed.popleft() for _ in range(count)]
        more = [file for one in seen for file in one.ahead(_HASHED_AHEAD - len(some))]
        self._made_builder().prefetch(some, more)

    # --- forks ------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Wait until no thread of ours imports a module."""
        if self._importing.acquire(timeout=_FORK_SECONDS):
            self._holds_forks = True
        self._children.before_child()
        self._fork_owners = self._ownership.owners()

    def after_fork_in_parent(self) -> None:
        """Let the worker import again."""
        if self._holds_forks:
            self._holds_forks = False
            self._importing.release()

    def after_fork_in_child(self) -> None:
        """Become the records of a forked child, whose runs are its own."""
        self._make_locks()
        if self._builder is not None:
            self._builder.forked()
        self._delivery.forked()
        self._children.forked(self._fork_owners)
        self._sort()
        self._ownership.forked()
        self._recorder.forked()


def _without_literals(event: Event) -> Event:
    """Return an event that may be written to a file: a statement's values stay in memory."""
    if event.kind != STATEMENT:
        return event
    from mlflow_plugins_pack.lineage.capture.libraries.sql_statements import shape

    return event._replace(where=shape(event.where, (event.source or "").partition("://")[0]))
