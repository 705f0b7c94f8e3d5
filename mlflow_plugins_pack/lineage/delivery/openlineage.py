"""Reports a finished run to an OpenLineage endpoint, if one is configured; never raises."""

from __future__ import annotations

import json
import logging
import urllib.request
from datetime import datetime, timezone
from typing import Any

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.lineage.document.graph import Graph, without_secrets

_logger = logging.getLogger("mlflow_plugins_pack.lineage")
_SECONDS = 5
_warned: set[str] = set()


def report(client: Any, run: Any, graph: Graph, status: str | None) -> None:
    """Send one event, and wait for its answer a few seconds at most.

    Args:
        client: An `MlflowClient` of the run's server.
        run: The run.
        graph: Its record.
        status: The status that the run is about to get; None if it has it.
    """
    url = settings.LINEAGE_OPENLINEAGE_URL.get()
    if not url:
        return
    from mlflow_plugins_pack.lineage.export.openlineage import event

    try:
        experiment = client.get_experiment(run.info.experiment_id)
        made = event(
            graph,
            run_id=run.info.run_id,
            status=status or run.info.status,
            job=experiment.name,
            when=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        )
        request = urllib.request.Request(  # noqa: S310  # checked below
            url, json.dumps(made).encode(), {"Content-Type": "application/json"}
        )
        if request.type not in ("http", "https"):
            raise ValueError("only http and https addresses can be reported to")  # noqa: TRY301
        urllib.request.urlopen(request, timeout=_SECONDS).close()  # noqa: S310
    except Exception as exc:  # noqa: BLE001  # a run does not fail because of it
        if url not in _warned:
            _warned.add(url)
            _logger.warning(
                "The lineage of run %s could not be reported to %s (%s: %s). The run and its "
                "record are not affected; `mlflow-pack lineage export` gives the event later.",
                run.info.run_id,
                without_secrets(url),
                type(exc).__name__,
                exc,
            )
