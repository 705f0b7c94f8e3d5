"""Reports finished runs to an OpenLineage endpoint, if one is configured; never raises.

A report is optional: it is sent when the run's own record is written, in a thread of its own, and
no run waits for it. The end of the process does, until the deadline of the run.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.lineage.delivery.deadline import Deadline

if TYPE_CHECKING:
    from mlflow_plugins_pack.lineage.document.graph import Graph

_logger = logging.getLogger("mlflow_plugins_pack.lineage")
_SECONDS = 5
_warned: set[str] = set()


class Reports:
    """The reports of this process that are being sent.

    Args:
        muted: Gives a context in which the calling thread's own reads and writes are not recorded.
    """

    def __init__(self, muted: Callable[[], AbstractContextManager[None]]) -> None:
        self._muted = muted
        self._sending: list[tuple[threading.Thread, Deadline, str]] = []

    def forked(self) -> None:
        """Forget the threads in a forked child, where they do not run."""
        self._sending = []

    def send(
        self, run_id: str, graph: Graph, tracking_uri: str, status: str | None, deadline: Deadline
    ) -> None:
        """Begin to send the event of a run's end, if an address is configured."""
        url = settings.LINEAGE_OPENLINEAGE_URL.get()
        if not url:
            return

        def work() -> None:
            with self._muted():
                report(url, run_id, graph, tracking_uri, status)

        thread = threading.Thread(target=work, name="mlflow-pack-lineage-report", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # Python 3.12 starts no thread once the interpreter is ending.
            work()
            return
        self._sending = [one for one in self._sending if one[0].is_alive()]
        self._sending.append((thread, deadline, run_id))

    def wait(self) -> None:
        """Wait for the reports that are being sent, each until its run's deadline."""
        for thread, deadline, run_id in self._sending:
            thread.join(deadline.remaining)
            if thread.is_alive():
                _warn(settings.LINEAGE_OPENLINEAGE_URL.get(), run_id, "no answer in time")


def report(
    url: str, run_id: str, graph: Graph, tracking_uri: str, status: str | None = None
) -> None:
    """Send one event, and wait for its answer.

    Args:
        url: Where to.
        run_id: The run.
        graph: Its record.
        tracking_uri: Where it is.
        status: The status that the run is about to get; None if it has it.
    """
    import urllib.request

    from mlflow import MlflowClient

    from mlflow_plugins_pack.lineage.export.openlineage import event

    try:
        client = MlflowClient(tracking_uri)
        info = client.get_run(run_id).info
        made = event(
            graph,
            run_id=run_id,
            status=status or info.status,
            job=client.get_experiment(info.experiment_id).name,
            when=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        )
        request = urllib.request.Request(  # noqa: S310  # checked below
            url, json.dumps(made).encode(), {"Content-Type": "application/json"}
        )
        if request.type not in ("http", "https"):
            raise ValueError("only http and https addresses can be reported to")  # noqa: TRY301
        urllib.request.urlopen(request, timeout=_SECONDS).close()  # noqa: S310
    except Exception as exc:  # noqa: BLE001  # a run does not fail because of it
        _warn(url, run_id, f"{type(exc).__name__}: {exc}")


def _warn(url: str, run_id: str, problem: str) -> None:
    from mlflow_plugins_pack.lineage.document.graph import without_secrets

    if url not in _warned:
        _warned.add(url)
        _logger.warning(
            "The lineage of run %s could not be reported to %s (%s). The run and its record are "
            "not affected; `mlflow-pack lineage export` gives the event later.",
            run_id,
            without_secrets(url),
            problem,
        )
