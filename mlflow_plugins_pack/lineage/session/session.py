"""The one capture session of a process: what MLflow and the capture layers call comes in here.

Three rules hold everywhere: nothing raises; while a thread works for the pack it is muted, so
nothing of ours is recorded; the audit hook takes no lock.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from time import monotonic_ns

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.lineage import mlflow_internals, sink
from mlflow_plugins_pack.lineage.attribution.ownership import Claim, Ownership
from mlflow_plugins_pack.lineage.attribution.runs import FULLY, NOT, PARTLY, Runs
from mlflow_plugins_pack.lineage.capture import mentions, standard_input, usage
from mlflow_plugins_pack.lineage.capture.child_processes import Children
from mlflow_plugins_pack.lineage.capture.event import READ, STATEMENT, WRITE, Event
from mlflow_plugins_pack.lineage.capture.libraries.table import LAYERS, NOT_SEEN_INTO, SEEN_INTO
from mlflow_plugins_pack.lineage.files import FileState
from mlflow_plugins_pack.lineage.session.options import Options
from mlflow_plugins_pack.lineage.session.records import Records
from mlflow_plugins_pack.lineage.session.worker import Worker

_STATEMENTS_LIMIT = 10_000
"""Number of distinct statements that are remembered, so that each is recorded once."""


# Over 250 lines: every call of MLflow and of a capture layer has a method here, which delegates.
class Session:
    """All state of the capture in this process; the `sink.Sink` of its layers."""

    # Long: every call that a layer or MLflow makes into the capture arrives here.

    def __init__(self) -> None:
        self._started = False
        self._watches_run_ends = False
        self._options = Options()
        self._runs = Runs()
        self._ownership = Ownership(self._runs, int(settings.LINEAGE_MAX_INPUTS.default))
        self._children = Children()
        self._statements: set[int] = set()
        self.is_muted, self.muted = self._ownership.is_muted, self._ownership.muted
        self.claim = self._ownership.claim

    # --- start ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to capture, unless lineage is off; the second call does nothing."""
        if self._started or not self._options.get(settings.LINEAGE_ENABLED, broken=False):
            return
        self._started = True
        from mlflow_plugins_pack.lineage.capture import audit_hook, import_hooks
        from mlflow_plugins_pack.lineage.capture.libraries import install

        self._layers = self._wanted_layers()
        self._make_filter()
        self._ownership.limit = self._options.get(settings.LINEAGE_MAX_INPUTS)
        self._records = Records(
            self._runs,
            self._ownership,
            self._children,
            self._options,
            self._layers,
            self._noise.is_excluded,
        )
        self._worker = Worker(self._records, self._ownership, self._options)
        sink.install(self)
        follows_children = "spool" in self._layers
        if follows_children:
            self._children.start()
            self._ownership.is_later_rank = self._children.is_later_rank
        if "audit" in self._layers:
            audit_hook.install(
                self._noise,
                self.claim,
                self._ownership.claim_renamed,
                self._ownership.is_one_of_many,
                self._ownership.look,
                self.emit_file,
                self._children.before_child if follows_children else None,
            )
        usage.watch((*NOT_SEEN_INTO, *SEEN_INTO))
        mentions.capture_begins(sys._getframe(1))
        standard_input.capture_begins()
        import_hooks.when_imported(install.modules(self._layers), install.imported)
        atexit.register(self._at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._records.after_fork_in_parent,
                after_in_child=self._after_fork_in_child,
            )

    def _wanted_layers(self) -> tuple[str, ...]:
        wanted = self._options.get(settings.LINEAGE_CAPTURE)
        if unknown := sorted(set(wanted) - set(LAYERS)):
            self._options.complain(
                f"{settings.LINEAGE_CAPTURE.name} names {', '.join(unknown)}, which is not a "
                f"layer; the layers are {', '.join(LAYERS)}. The others are on."
            )
        return tuple(layer for layer in LAYERS if layer in wanted)

    def _make_filter(self) -> None:
        from mlflow_plugins_pack.lineage.capture.noise_filter import NoiseFilter

        included: tuple[str, ...] = self._options.get(settings.LINEAGE_INCLUDE)
        excluded: tuple[str, ...] = self._options.get(settings.LINEAGE_EXCLUDE)
        self._noise = NoiseFilter(
            interpreter=(sys.prefix, sys.base_prefix, sys.exec_prefix),
            home=os.path.expanduser("~"),  # noqa: PTH111  # pathlib costs more here
            include=included,
            exclude=excluded,
        )
        self._ownership.data_of = self._noise.data_of
        self.is_data = self._noise.is_data

    def is_on(self) -> bool:
        """Return whether runs are recorded now."""
        return self._started and self._options.get(settings.LINEAGE_ENABLED, broken=False)

    # --- what the capture layers call -------------------------------------------------------------

    def emit_file(
        self,
        claimed: Claim,
        kind: str,
        path: str,
        state: FileState | None,
        source: str | None = None,
        via: str = "audit",
    ) -> None:
        """Record a read or write of a local file that was claimed."""
        if not self._watches_run_ends:
            self._watch_run_ends()
        owners, thread, seen = claimed
        if kind == READ and state is not None and seen.is_full():
            seen.add_known(path, state)
            return
        seen.exact.add(path)
        if source is not None:
            seen.exact.discard(source)  # what is written there next is another file
        values = (monotonic_ns(), kind, path, via, owners, thread, state, None, None, source, ())
        self._records.add(tuple.__new__(Event, values))  # half the time of Event(*values)

    def emit_object(
        self, kind: str, uri: str, via: str, size: int | None = None, version: str | None = None
    ) -> None:
        """Record a read or write of something that is not a local file."""
        place = f"{uri}@{version}"
        claimed = None if self._noise.is_excluded(uri) else self.claim(place, kind == WRITE)
        if claimed is None:
            return
        self._watch_run_ends()
        owners, thread, seen = claimed
        seen.exact.add(place)
        self._records.add(
            Event(monotonic_ns(), kind, uri, via, owners, thread, size=size, version=version)
        )

    def emit_statement(self, statement: str, database: str) -> None:
        """Record that SQL was run; which tables it names is found out later."""
        owners = self._ownership.owners()
        key = hash((statement, database, owners, self._ownership.generation))
        if key in self._statements:
            return
        if len(self._statements) >= _STATEMENTS_LIMIT:
            self._statements.clear()
        self._statements.add(key)
        self._watch_run_ends()
        thread = threading.get_ident()
        self._records.add(
            Event(monotonic_ns(), STATEMENT, statement, "sql", owners, thread, source=database)
        )

    def child_start_code(self) -> str | None:
        """Return the code with which a process that is about to be spawned begins its capture."""
        if not self.is_on() or self.is_muted():
            return None
        with self.muted():
            return self._children.start_code(self._ownership.owners())

    def child_reports(self) -> tuple[str, tuple[str, ...]] | None:
        """Return where a program that is about to be started reports to, and for which runs."""
        if not self.is_on() or "spool" not in self._layers:
            return None
        with self.muted():
            self._children.before_child()
            folder = self._children.folder
            return (folder, self._ownership.owners()) if folder else None

    def begin_child(self, folder: str, owners: tuple[str, ...]) -> None:
        """Begin to capture in a process that was spawned; what it sees belongs to these runs."""
        self.start()
        if self._started and "spool" in self._layers:
            self._children.begin(folder, owners)

    def client_run_created(self, run_id: str, tracking_uri: str) -> None:
        """Attribute to a run that a client created what is read, if it is the only open one."""
        if not self.is_on() or self.is_muted():
            return
        others = [state for state in self._runs.open() if state.run_id != run_id]
        state = self._runs.sight(run_id)
        state.is_clients, state.tracking_uri = True, tracking_uri
        if not others and not mlflow_internals.other_threads_runs():
            self._ownership.attach_process(run_id)
            self._expect_runs()
            return
        # From here on nothing says which of the runs a read belongs to.
        state.applies = NOT
        for other in others:
            if other.is_clients and other.applies == FULLY and not self._ownership.is_named(other):
                other.applies = PARTLY
                self._ownership.detach_process(other.run_id)

    def client_run_ends(self, run_id: str) -> None:
        """Write the record of a run that a client is about to end."""
        state = self._runs.find(run_id)
        if state is None or not state.is_clients or not state.is_open or self.is_muted():
            return
        if not state.is_finished and self.is_on():
            self._records.finish(run_id)

    def version_created(self, registry_uri: str, name: str) -> None:
        """Copy its run's lineage to the version of a model that was just registered."""
        if self.is_on() and not self.is_muted():
            from mlflow_plugins_pack.lineage.delivery import writer

            with self.muted():
                writer.tag_newest_version(registry_uri, name)

    # --- what MLflow calls ------------------------------------------------------------------------

    def _watch_run_ends(self) -> None:
        """See to it that `run_ended` is called; takes no lock and imports nothing."""
        if not self._watches_run_ends:
            self._watches_run_ends = mlflow_internals.watch_run_ends(self.run_ended)

    def in_context(self) -> bool:
        """Return whether runs are recorded now; report what is wrong with a setting."""
        answer = self.is_on()
        self._options.report()
        return answer

    def resolving_tags(self) -> None:
        """Note that MLflow asks for a run's or model's tags: a run may be about to begin."""
        if not self.is_on():
            return
        self._watch_run_ends()
        self._ownership.look()
        run = mlflow_internals.active_run()
        if run is not None:
            self._ownership.sight(run, threading.get_ident())
        # What children did up to now does not belong to the coming run.
        self._records.collect()
        self._ownership.will_create()
        self._expect_runs()

    def _expect_runs(self) -> None:
        if "spool" in self._layers:
            self._children.has_run()
        self._worker.start()

    def before_request(self) -> None:
        """Write the record of a run that this thread is about to report as ended."""
        if not self._started or self.is_muted() or not self.is_on():
            return
        with self.muted():
            self._watch_run_ends()
            run = mlflow_internals.active_run()
            active = self._ownership.sight(run, threading.get_ident()) if run is not None else None
            ended = mlflow_internals.last_ended_run()
            if ended is not None and ended != active and not self._runs.is_finished(ended):
                self._records.finish(ended)
            if self._runs.attached():
                self._finish_attached(mlflow_internals.run_id_being_ended())

    def run_ended(self, run_id: str) -> None:
        """Write the record of a run that has ended."""
        with contextlib.suppress(Exception):
            if not self._runs.is_finished(run_id) and self.is_on():
                self._records.finish(run_id)

    # --- attached runs ----------------------------------------------------------------------------

    def attach(self, run_id: str, tracking_uri: str | None) -> None:
        """Make a run the owner of what this thread reads and writes."""
        self._ownership.attach(run_id, tracking_uri)
        self._expect_runs()

    def detach(self, run_id: str) -> None:
        """End what `attach` began, and write the record."""
        self._finish_attached(run_id)

    def _finish_attached(self, run_id: str | None) -> None:
        if run_id in self._runs.attached() and not self._runs.is_finished(run_id):
            self._records.finish(run_id)

    # --- fork and exit ----------------------------------------------------------------------------

    def _before_fork(self) -> None:
        with contextlib.suppress(Exception), self.muted():
            self._records.before_fork()

    def _after_fork_in_child(self) -> None:
        with contextlib.suppress(Exception):
            self._worker.forked()
            self._records.after_fork_in_child()

    def _at_exit(self) -> None:
        with self.muted(), contextlib.suppress(Exception):
            if not self.is_on():
                return
            deadline = self._records.deadline()  # one for all: a program must be able to end
            for state in self._runs.open():
                if not state.is_finished:
                    self._records.finish(state.run_id, deadline)
            self._children.remove()
            self._records.wait_for_reports()


_session = Session()

start = _session.start
in_context = _session.in_context
resolving_tags = _session.resolving_tags
before_request = _session.before_request
begin_child = _session.begin_child


def current() -> Session:
    """Return the process's session."""
    return _session
