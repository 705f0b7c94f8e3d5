"""Writes the records that were kept locally while a server was away."""

from __future__ import annotations

from typing import Any

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.lineage.delivery import local_queue, openlineage, writer


def push_kept(*, tracking_uri: str | None = None) -> list[dict[str, Any]]:
    """Write the records that were kept locally, and delete those that are written.

    Args:
        tracking_uri: Write only there; else each where it belongs.

    Returns:
        One row per record: ``run``, ``tracking_uri`` and ``result``, which is ``written`` or says
        why not.
    """
    rows = []
    for path in local_queue.kept():
        row: dict[str, Any] = {"run": local_queue.run_id_of(path), "tracking_uri": tracking_uri}
        try:
            kept = local_queue.load(path)
            row["tracking_uri"] = target = tracking_uri or kept.tracking_uri
            written, _ = writer.write(kept.run_id, kept.graph, tracking_uri=target, base=None)
            path.unlink()
            row["result"] = "written"
            if url := settings.LINEAGE_OPENLINEAGE_URL.get():
                openlineage.report(url, kept.run_id, written, target)
        except Exception as exc:  # noqa: BLE001  # each record is tried; the row tells
            row["result"] = f"kept: {exc}"
        rows.append(row)
    return rows
