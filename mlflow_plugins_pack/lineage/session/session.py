"""The process's one lineage session: it joins capture, bookkeeping and writing, and never raises.

Whatever MLflow or an open file calls comes in here. Three rules hold everywhere: the audit hook
takes no lock; while a thread works for the pack it is muted, so nothing of ours is recorded; and a
training waits for a tracking server only a bounded time.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, TypeVar

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.lineage import mlflow_internals as adapter
from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.attribution.ownership import Claim, Ownership
from mlflow_plugins_pack.lineage.capture.child_processes import Children
from mlflow_plugins_pack.lineage.capture.event import READ, Event
from mlflow_plugins_pack.lineage.capture.layers import LAYERS, targets
from mlflow_plugins_pack.lineage.delivery.delivery import Delivery
from mlflow_plugins_pack.lineage.files import FileState

if TYPE_CHECKING:
    from mlflow_plugins_pack.lineage.attribution.windows import Recorder

_logger = logging.getLogger("mlflow_plugins_pack.lineage")

_WORKER_SECONDS = 1.0
_FORK_SECONDS = 10.0
"""Longest that a fork waits for the worker's imports."""
_HASHED_AHEAD = 1_000
"""Most files to hash at a time while a run goes on: one that opens many may list none of them."""
_WAITING_LIMIT = 100_000
"""Most events that wait to be sorted; reached only where no run, and so no worker, is started."""

T = TypeVar("T")


class Session:
    """All state of the capture in this process."""

    def __init__(self) -> None:
        self.layers: tuple[str, ...] = ()
        self._started = False
        self._complaints: list[str] = []
        self._events: deque[Event] = deque()
        self._limit = int(settings.LINEAGE_MAX_INPUTS.default)
        self._ownership = Ownership(self._limit)
        self.is_muted, self.muted = self._ownership.is_muted, self._ownership.muted
        self.claim = self._ownership.claim
        self._children = Children()
        self._fork_owners: tuple[str, ...] = ()
        self._delivery = Delivery(self.muted)
        self._watching = False
        self._made_recorder: Recorder | None = None
        self._builder: Any = None
        self._make_locks()

    def _make_locks(self) -> None:
        self._lock = threading.Lock()
        self._collect_lock = threading.Lock()
        # A module that a thread was importing at a fork can never be imported in the child, so
        # a fork waits until the worker's imports are over.
        self._importing = threading.Lock()
        self._holds_forks = False
        self._worker: threading.Thread | None = None

    # --- start ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to capture, unless lineage is off; the second call does nothing."""
        if self._started or not self._setting(settings.LINEAGE_ENABLED, broken=False):
            return
        self._started = True
        from mlflow_plugins_pack.lineage.capture import audit_hook
        from mlflow_plugins_pack.lineage.capture.noise_filter import NoiseFilter

        self._limit = self._setting(settings.LINEAGE_MAX_INPUTS)
        self._ownership.limit = self._limit
        wanted = self._setting(settings.LINEAGE_CAPTURE)
        if unknown := sorted(set(wanted) - set(LAYERS)):
            self._complaints.append(
                f"{settings.LINEAGE_CAPTURE.name} names {', '.join(unknown)}, which is no layer; "
                f"known are {', '.join(LAYERS)}. The others are on."
            )
        self.layers = tuple(layer for layer in LAYERS if layer in wanted)
        included: tuple[str, ...] = self._setting(settings.LINEAGE_INCLUDE)
        excluded: tuple[str, ...] = self._setting(settings.LINEAGE_EXCLUDE)
        self.noise = NoiseFilter(
            interpreter=(sys.prefix, sys.base_prefix, sys.exec_prefix),
            home=os.path.expanduser("~"),  # noqa: PTH111  # pathlib costs more here
            include=included,
            exclude=excluded,
        )
        self._ownership.data_of = self.noise.data_of
        self.is_data = self.noise.is_data
        sink.install(self)
        spools = "spool" in self.layers
        if spools:
            self._children.start()
            self._ownership.is_later_rank = self._children.is_later_rank
        if "audit" in self.layers:
            audit_hook.install(
                self.noise,
                self.claim,
                self._ownership.claim_renamed,
                self._ownership.is_one_of_many,
                self._ownership.look,
                self.emit_file,
                self._children.before_child if spools else None,
            )
        if wanted_modules := targets(self.layers):
            from mlflow_plugins_pack.lineage.capture import import_hooks

            import_hooks.when_imported(wanted_modules)
        atexit.register(self._at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_fork_in_parent,
                after_in_child=self._after_fork,
            )

    def is_on(self) -> bool:
        """Tell whether runs are recorded now."""
        return self._started and self._setting(settings.LINEAGE_ENABLED, broken=False)

    @property
    def _recorder(self) -> Recorder:
        # Made at first use, holding the lock: loading it takes time that `import mlflow` has not.
        if self._made_recorder is None:
            with self._importing:
                from mlflow_plugins_pack.lineage.attribution.windows import Recorder

            self._made_recorder = Recorder(self._limit)
        return self._made_recorder

    def _setting(self, setting: settings.Setting[T], broken: T | None = None) -> T:
        """Return a setting; a broken one gives a value that reveals least, and a warning later."""
        try:
            return setting.get()
        except Exception as exc:  # noqa: BLE001  # lineage never raises
            message = str(exc)
            if message not in self._complaints:
                self._complaints.append(message)
            return setting.default if broken is None else broken

    # --- what the capture layers call -------------------------------------------------------------

    def _watch(self) -> None:
        """See to it that `run_ended` is called; takes no lock and imports nothing."""
        if not self._watching:
            self._watching = adapter.watch_run_ends(self.run_ended)

    def emit_file(
        self,
        claimed: Claim,
        kind: str,
        path: str,
        state: FileState | None,
        source: str | None = None,
        via: str = "audit",
    ) -> None:
        """Record a read or write of a local file."""
        if not self._watching:
            self._watch()
        owners, thread, seen = claimed
        if kind == READ and state is not None and seen.is_full():
            seen.add_known(path, state)
            return
        seen.exact.add(path)
        values = (monotonic_ns(), kind, path, via, owners, thread, state, None, None, source)
        self._record(tuple.__new__(Event, values))  # the class's own way takes twice the time

    def emit_object(
        self, kind: str, uri: str, via: str, size: int | None = None, version: str | None = None
    ) -> None:
        """Record a read or write of something that is not a local file."""
        place = f"{uri}@{version}"
        claimed = None if self.noise.is_excluded(uri) else self.claim(place, kind == "w")
        if claimed is None:
            return
        self._watch()
        owners, thread, seen = claimed
        seen.exact.add(place)
        self._record(
            Event(monotonic_ns(), kind, uri, via, owners, thread, size=size, version=version)
        )

    def _record(self, event: Event) -> None:
        if len(self._events) < _WAITING_LIMIT:
            self._events.append(event)
        writer = self._children.writer
        if writer is not None:
            owners = event.owners
            if not owners or self._ownership.secondary.issuperset(owners):
                with self.muted():
                    writer.write(event)

    def child_start_code(self) -> str | None:
        """Return the code with which a child that is about to be spawned begins its capture."""
        if not self.is_on() or self.is_muted():
            return None
        with self.muted():
            return self._children.start_code(self._ownership.owners())

    def begin_child(self, folder: str, owners: tuple[str, ...]) -> None:
        """Begin to capture in a child that was spawned; what it sees belongs to these runs."""
        self.start()
        if self._started and "spool" in self.layers:
            self._children.begin(folder, owners)

    def version_created(self, registry_uri: str, version: Any) -> None:
        """Give a model version that was just registered the lineage of its run."""
        if self.is_on() and not self.is_muted():
            from mlflow_plugins_pack.lineage.delivery import writer

            with self.muted():
                writer.tag_new_version(registry_uri, version)

    # --- what MLflow calls ------------------------------------------------------------------------

    def in_context(self) -> bool:
        """Tell whether runs are recorded now; say once what is wrong with a setting."""
        answer = self.is_on()
        self._complain()
        return answer

    def resolving_tags(self) -> None:
        """Note that MLflow asks for a run's or model's tags."""
        if not self.is_on():
            return
        self._watch()
        self._ownership.look()
        run = adapter.active_run()
        if run is not None:
            self._ownership.sight(run, threading.get_ident())
        # What children did up to now is not the coming run's.
        self._collect()
        self._ownership.will_create()
        if "spool" in self.layers:
            self._children.has_run()
        self._start_worker()

    def before_request(self) -> None:
        """Write the record of a run that this thread is about to report as ended."""
        if not self._started or self.is_muted() or not self.is_on():
            return
        with self.muted():
            self._watch()
            run = adapter.active_run()
            active = self._ownership.sight(run, threading.get_ident()) if run is not None else None
            ended = adapter.last_ended_run()
            if ended is not None and ended != active and ended not in self._ownership.finished:
                self.finish(ended)
            if self._ownership.attached:
                attached = adapter.run_id_being_ended()
                if attached in self._ownership.attached:
                    self.finish(attached)

    def run_ended(self, run_id: str) -> None:
        """Write the record of a run that has ended."""
        with contextlib.suppress(Exception):
            if run_id not in self._ownership.finished and self.is_on():
                self.finish(run_id)

    # --- attached runs ----------------------------------------------------------------------------

    def attach(self, run_id: str, tracking_uri: str | None) -> None:
        """Make a run the owner of what this thread reads and writes."""
        self._ownership.attach(run_id, tracking_uri)
        if "spool" in self.layers:
            self._children.has_run()
        self._start_worker()

    def detach(self, run_id: str) -> None:
        """End what `attach` began, and write the record."""
        if run_id in self._ownership.attached and run_id not in self._ownership.finished:
            self.finish(run_id)

    # --- writing ----------------------------------------------------------------------------------

    def finish(self, run_id: str) -> None:
        """Write the record of a run for good."""
        with self.muted(), contextlib.suppress(Exception):
            self._ownership.finished.add(run_id)
            thread = self._ownership.threads.pop(run_id, threading.get_ident())
            try:
                self._collect(run_id)
                self._drain()
                if run_id in self._ownership.secondary:
                    return
                with self._lock:
                    if self._ownership.parents.get(run_id):
                        self._recorder.sight(run_id, self._ownership.parents[run_id])
                    window = self._recorder.window(run_id, thread)
                    dropped = window.own.dropped + self._ownership.dropped(run_id, thread)
                graph = self._build(window, dropped)
                tracking_uri = self._ownership.attached.get(run_id) or adapter.tracking_uri()
                status = adapter.status_being_set()
                self._delivery.deliver(run_id, graph, tracking_uri, status)
            finally:
                with self._lock:
                    self._recorder.close(run_id, thread)
                self._ownership.forget(run_id, thread)

    def _collect(self, ending: str | None = None) -> None:
        """Take in what child processes reported: it belongs to the runs that are active now.

        Called whenever a run begins or ends, so what is active now was active when it happened.
        """
        with self._collect_lock, self.muted(), contextlib.suppress(Exception):
            thread = self._ownership.threads.get(ending or "", threading.main_thread().ident or 0)
            reported = list(self._children.events(thread))
            if not reported:
                return
            active: tuple[str, ...] = self._ownership.active_runs()
            if ending is not None:
                # Of an ending child run's parents, which get all that it has anyway, none.
                above = self._ownership.ancestors(ending)
                others = (run_id for run_id in active if run_id not in above)
                active = tuple(dict.fromkeys((ending, *others)))
            known = {*active, *self._ownership.parents}
            for event in reported:
                named = tuple(owner for owner in event.owners if owner in known)
                self._events.append(event._replace(owners=named or active))

    def _drain(self, *, more: bool = True) -> None:
        """Sort in what waits.

        Args:
            more: Also the files of which only size and time are kept.
        """
        with self._lock:
            for run_id, parent in list(self._ownership.parents.items()):
                self._recorder.sight(run_id, parent)
            while self._events:
                self._recorder.add(self._events.popleft())
            if more:
                for owners, thread, seen in self._ownership.many():
                    self._recorder.add_more(owners, thread, seen.look_at_all())

    def _build(self, window: Any, dropped: int) -> Any:
        return self._make_builder().build(window, dropped=dropped, layers=self.layers)

    def _make_builder(self) -> Any:
        with self._lock:
            if self._builder is None:
                with self._importing:
                    # The second is for the thread that writes the record.
                    from mlflow_plugins_pack.lineage.building.builder import GraphBuilder
                    from mlflow_plugins_pack.lineage.delivery import writer  # noqa: F401

                self._builder = GraphBuilder(
                    limit=self._limit,
                    hash_files=self._setting(settings.LINEAGE_HASH),
                    full_bytes=self._setting(settings.LINEAGE_HASH_MAX_BYTES),
                    home=os.path.expanduser("~")  # noqa: PTH111
                    if self._setting(settings.LINEAGE_REDACT, broken=True)
                    else "",
                )
            return self._builder

    def _complain(self) -> None:
        """Say once what is wrong with a setting."""
        for message in self._complaints:
            if message not in _complained:
                _complained.add(message)
                _logger.warning("Lineage: %s", message)

    # --- worker, fork, exit -----------------------------------------------------------------------

    def _start_worker(self) -> None:
        """Start the thread that hashes while the training runs; never from inside the hook."""
        if self._worker is None:
            with self._lock:
                if self._worker is not None:
                    return
                self._worker = threading.Thread(
                    target=self._work, name="mlflow-pack-lineage-worker", daemon=True
                )
            with contextlib.suppress(RuntimeError):
                self._worker.start()

    def _work(self) -> None:
        with self.muted():
            next_flush = time.monotonic()
            with contextlib.suppress(Exception):
                self._make_builder().prepare()
            written: dict[str, int] = {}
            fresh: deque[Event] = deque()
            while True:
                time.sleep(_WORKER_SECONDS)
                with contextlib.suppress(Exception):
                    self._collect()
                    fresh.extend(self._events)
                    self._ownership.look()
                    self._drain(more=False)
                    self._hash_ahead(fresh)
                    period = self._setting(settings.LINEAGE_FLUSH_SECONDS)
                    if period and time.monotonic() - next_flush >= period:
                        next_flush = time.monotonic()
                        self._write_interim(written)

    def _hash_ahead(self, fresh: deque[Event]) -> None:
        """Hash files that were just read, not too many at a time, in the order of reading."""
        seen = [seen for _, _, seen in self._ownership.many()]
        if self._recorder.is_crowded() or any(one.is_crowded() for one in seen):
            # Most of so many files will not be listed, so they need no digest.
            fresh.clear()
            return
        some = [fresh.popleft() for _ in range(min(len(fresh), _HASHED_AHEAD))]
        more = [file for one in seen for file in one.ahead(_HASHED_AHEAD - len(some))]
        self._make_builder().prefetch(some, more)

    def _write_interim(self, written: dict[str, int]) -> None:
        """Write the tags of running runs, so that a killed one leaves something."""
        self._drain()
        for run_id in list(self._ownership.parents):
            with self._lock:
                window = self._recorder.window(run_id, self._ownership.threads.get(run_id, 0))
            own, shared = window.own, window.shared
            count = len(own.reads) + len(own.more) + len(own.writes) + len(shared.reads)
            if not count or written.get(run_id) == count or self._delivery.is_paused:
                continue
            if run_id in self._ownership.secondary:
                continue
            written[run_id] = count
            graph = self._build(window, window.own.dropped)
            uri = self._ownership.attached.get(run_id) or adapter.tracking_uri()
            self._delivery.deliver_interim(
                run_id,
                graph,
                uri,
                lambda: run_id not in self._ownership.finished,  # noqa: B023
            )

    def _before_fork(self) -> None:
        with contextlib.suppress(Exception), self.muted():
            if self._importing.acquire(timeout=_FORK_SECONDS):
                self._holds_forks = True
            self._children.before_child()
            self._fork_owners = self._ownership.owners()

    def _after_fork_in_parent(self) -> None:
        if self._holds_forks:
            self._holds_forks = False
            self._importing.release()

    def _after_fork(self) -> None:
        with contextlib.suppress(Exception):
            self._make_locks()
            if self._builder is not None:
                self._builder.forked()
            self._delivery.forked()
            self._children.forked(self._fork_owners)
            self._drain()
            self._recorder.forked()
            self._ownership.forked()

    def _at_exit(self) -> None:
        with self.muted(), contextlib.suppress(Exception):
            if not self.is_on():
                return
            for run_id in [*self._ownership.attached, *self._ownership.parents]:
                if run_id not in self._ownership.finished:
                    self.finish(run_id)
            self._children.remove()


_complained: set[str] = set()
_session = Session()

start = _session.start
in_context = _session.in_context
resolving_tags = _session.resolving_tags
before_request = _session.before_request
begin_child = _session.begin_child


def current() -> Session:
    """Return the process's session, for the capture layers."""
    return _session
