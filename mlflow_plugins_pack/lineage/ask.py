"""The asking side: reads records back from a tracking server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from mlflow_plugins_pack.lineage.graph import Graph, inputs_digest


@dataclass(frozen=True)
class RunLineage:
    """A run's record.

    Attributes:
        run_id: The run.
        name: Its name.
        status: Its status, such as ``FINISHED``.
        experiment_id: Its experiment.
        digest: The one digest of all data it read, as its tag says.
        graph: What it read and wrote.
    """

    run_id: str
    name: str
    status: str
    experiment_id: str
    digest: str
    graph: Graph

    def to_json(self) -> dict[str, Any]:
        """Return all of it for scripts."""
        return {
            "run_id": self.run_id,
            "run_name": self.name,
            "status": self.status,
            "experiment_id": self.experiment_id,
            **self.graph.to_json(),
            "digest": self.digest,
        }


def run_lineage(run_id: str, *, tracking_uri: str | None = None) -> RunLineage:
    """Return the record of a run.

    Args:
        run_id: The run.
        tracking_uri: Where it is; the current tracking URI if None.

    Raises:
        LineageNotRecordedError: If the run has none.
        MlflowException: If there is no such run, or the server cannot be reached.
    """
    from mlflow import MlflowClient

    from mlflow_plugins_pack.errors import LineageNotRecordedError
    from mlflow_plugins_pack.lineage import flush

    client = MlflowClient(tracking_uri)
    run = client.get_run(run_id)
    graph = flush.read(client, run)
    if graph is None:
        began = "lineage.schema" in run.data.tags
        raise LineageNotRecordedError(
            f"Run {run_id} has no lineage. "
            + (
                f"Its capture was on, but the run is {run.info.status} and its record is not "
                f"written yet; a run that was killed may never get one."
                if began
                else "It was logged without mlflow-plugins-pack, with MLFLOW_PACK_LINEAGE_ENABLED="
                "false, or by MlflowClient without mlflow_plugins_pack.lineage.attach(run_id)."
            )
            + " Nothing was changed. To check an installation, run `mlflow-pack doctor`."
        )
    return RunLineage(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        experiment_id=run.info.experiment_id,
        digest=run.data.tags.get("lineage.digest") or inputs_digest(graph.inputs),
        graph=graph,
    )


def push_kept(*, tracking_uri: str | None = None) -> list[dict[str, Any]]:
    """Write the records that were kept locally, and delete those that are written.

    Args:
        tracking_uri: Write only there; else each where it belongs.

    Returns:
        One row per record: ``run``, ``tracking_uri`` and ``result``, which is ``written`` or says
        why not.
    """
    from mlflow_plugins_pack.lineage import flush

    rows = []
    for path in sorted(flush.spool_folder().glob("*.json")):
        row: dict[str, Any] = {"run": path.stem, "tracking_uri": tracking_uri}
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            row["tracking_uri"] = target = tracking_uri or str(document["tracking_uri"])
            flush.deliver(
                str(document["run_id"]), Graph.from_json(document), tracking_uri=target, base=None
            )
            path.unlink()
            row["result"] = "written"
        except Exception as exc:  # noqa: BLE001  # each record is tried; the row tells
            row["result"] = f"kept: {exc}"
        rows.append(row)
    return rows
