"""Writes a record to its run within a bounded time, or keeps it on this machine; never raises."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from mlflow_plugins_pack.lineage.delivery import openlineage
from mlflow_plugins_pack.lineage.delivery.deadline import Deadline

if TYPE_CHECKING:
    from mlflow_plugins_pack.lineage.document.graph import Graph

_logger = logging.getLogger("mlflow_plugins_pack.lineage")

_PAUSE_SECONDS = 60.0
"""After a failure, records go to the local folder at once for this long."""


class RecordedRun(Protocol):
    """What is known of a run whose record is delivered.

    Attributes:
        run_id: MLflow's.
        base: The record that it has on the server, if known; the delivery keeps it up to date.
    """

    run_id: str
    base: Graph | None

    @property
    def is_finished(self) -> bool:
        """Whether the final record was written, or is being written."""


class Delivery:
    """Writes the records of one process.

    Args:
        muted: Gives a context in which the calling thread's own reads and writes are not recorded.
    """

    def __init__(self, muted: Callable[[], AbstractContextManager[None]]) -> None:
        self._paused_until = 0.0
        self._warned = False
        self._reports = openlineage.Reports(muted)
        self.forked()

    def forked(self) -> None:
        """Take a new lock: another thread may have held the old one while the process forked."""
        self.__dict__.pop("_made_lock", None)
        self._reports.forked()

    @property
    def _lock(self) -> threading.Lock:
        # Made at first use: gevent may replace what a lock is after mlflow was imported.
        made: threading.Lock = self.__dict__.setdefault("_made_lock", threading.Lock())
        return made

    @property
    def is_paused(self) -> bool:
        """Whether the server did not answer a moment ago."""
        return time.monotonic() < self._paused_until

    def deliver(
        self,
        run: RecordedRun,
        graph: Graph,
        tracking_uri: str,
        deadline: Deadline,
        status: str | None = None,
    ) -> None:
        """Write the final record of a run, or keep it locally and warn once.

        Args:
            run: The run.
            graph: Its record.
            tracking_uri: Where it is.
            deadline: When it must be written; what is sent elsewhere afterwards is not waited for.
            status: The status that the run is about to get; None if it has it.
        """
        problem: BaseException | str

        def write() -> Graph:
            with self._lock:
                return self._write(run, graph, tracking_uri)

        if self.is_paused:
            problem = "the tracking server did not answer a moment ago"
        else:
            try:
                written = deadline.run(write)
            except BaseException as exc:  # noqa: BLE001  # a run does not fail because of it
                problem = exc
            else:
                self._reports.send(run.run_id, written, tracking_uri, status, deadline)
                return
        self._keep(run.run_id, graph, tracking_uri, problem)

    def mark(
        self, run_id: str, coverage: dict[str, Any], tracking_uri: str, deadline: Deadline
    ) -> None:
        """Record that nothing can be attributed to a run, if the server answers.

        Args:
            run_id: The run.
            coverage: What its record says of the capture.
            tracking_uri: Where it is.
            deadline: When it must be written.
        """
        from mlflow_plugins_pack.lineage.delivery import writer

        if self.is_paused:
            return
        try:
            deadline.run(lambda: writer.mark(run_id, coverage, tracking_uri))
        except Exception:  # noqa: BLE001  # a program does not fail because of it
            self._pause()

    def wait_for_reports(self) -> None:
        """Wait for what is being sent elsewhere, until the deadlines of the runs; for the exit."""
        self._reports.wait()

    def deliver_interim(self, run: RecordedRun, graph: Graph, tracking_uri: str) -> None:
        """Write a running run's tags, in case it is killed, unless it ended while we waited.

        Raises:
            Exception: Whatever MLflow raises.
        """
        with self._lock:
            if not run.is_finished:
                self._write(run, graph, tracking_uri, interim=True)

    def _write(
        self,
        run: RecordedRun,
        graph: Graph,
        tracking_uri: str,
        *,
        interim: bool = False,
    ) -> Graph:
        from mlflow_plugins_pack.lineage.delivery import writer

        merged, before = writer.write(
            run.run_id,
            graph,
            tracking_uri=tracking_uri,
            base=run.base,
            interim=interim,
        )
        run.base = before if interim else merged
        return merged

    def _pause(self) -> None:
        self._paused_until = time.monotonic() + _PAUSE_SECONDS

    def _keep(self, run_id: str, graph: Graph, tracking_uri: str, problem: Any) -> None:
        from mlflow_plugins_pack.lineage.delivery import local_queue

        self._pause()
        kept = local_queue.keep(run_id, graph, tracking_uri)
        if self._warned:
            return
        self._warned = True
        _logger.warning(
            "The lineage of run %s could not be written (%s). The run itself is not affected. %s",
            run_id,
            problem,
            f"The record is kept in {kept}; `mlflow-pack lineage push` writes it later."
            if kept
            else "The record could not be kept locally either.",
        )
