"""Turns runs, entries and versions into nodes of an answer."""

from __future__ import annotations

import json
from typing import Any

from mlflow_plugins_pack.lineage.document import network
from mlflow_plugins_pack.lineage.document.coverage import lacking
from mlflow_plugins_pack.lineage.document.graph import Entry, Graph, last_name, shown_uri
from mlflow_plugins_pack.lineage.document.network import Network, Node
from mlflow_plugins_pack.lineage.document.tags import PREFIX


def add_run(run: Any, record: Graph | None, answer: Network) -> None:
    """Add a run with what its record may lack."""
    goes_on = ("the run goes on",) if run.info.status in ("RUNNING", "SCHEDULED") else ()
    answer.add(
        Node(
            run.info.run_id,
            network.RUN,
            run.info.run_name or run.info.run_id,
            time=run.info.start_time,
            digest=run.data.tags.get(f"{PREFIX}digest"),
            status=run.info.status,
            experiment_id=run.info.experiment_id,
            lacks=(*lacking(record), *goes_on),
        )
    )


def add_data(entry: Entry, answer: Network, *, differs: bool = False) -> str:
    """Add an entry's content in its place; return its key."""
    key = data_key(entry)
    answer.add(
        Node(
            key,
            network.DATA,
            last_name(entry.uri) or shown_uri(entry.uri),
            time=None if entry.modified is None else entry.modified * 1000,
            uri=entry.uri,
            digest=entry.digest,
            version=entry.version,
            size=entry.size,
            differs=differs,
        )
    )
    return key


def data_key(entry: Entry) -> str:
    """Return the key of an entry's content in its place."""
    mark = entry.digest or entry.version
    return f"{entry.uri}#{mark.removeprefix('sha256:')[:16]}" if mark else entry.uri


def prompts_of(run: Any) -> list[str]:
    """Return the prompts that MLflow itself linked to a run."""
    try:
        linked = json.loads(run.data.tags.get("mlflow.linkedPrompts", "[]"))
        return [f"prompts:/{prompt['name']}/{prompt['version']}" for prompt in linked]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
