"""A run as an OpenLineage event (spec 2-0-2); pure.

Data sets are named by its naming rules: ``file`` and a path, ``s3://bucket`` and a key,
``postgres://host:port`` and ``database.schema.table``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from mlflow_plugins_pack.lineage.document.graph import INTERMEDIATE, Entry, Graph

SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS = "https://openlineage.io/spec/facets"
PRODUCER = "https://pypi.org/project/mlflow-plugins-pack"
_EVENTS = {"FINISHED": "COMPLETE", "FAILED": "FAIL", "KILLED": "ABORT"}
_DATABASES = {"postgresql": "postgres", "mariadb": "mysql", "mssql": "mssql"}


def event(
    graph: Graph,
    *,
    run_id: str,
    status: str,
    job: str,
    when: str,
    namespace: str = "mlflow",
) -> dict[str, Any]:
    """Return a run event.

    Args:
        graph: What the run read and wrote.
        run_id: MLflow's, 32 hexadecimal digits, which becomes a UUID.
        status: MLflow's, such as ``FINISHED``.
        job: Name of the job: the experiment's.
        when: Time of the event, ISO 8601 with a zone.
        namespace: The job's.
    """
    code = graph.facts.get("code", {})
    facets: dict[str, Any] = {}
    if code.get("commit"):
        facets["sourceCodeLocation"] = _facet(
            "1-0-1/SourceCodeLocationJobFacet", type="git", url="", version=code["commit"]
        )
    return {
        "eventType": _EVENTS.get(status, "OTHER"),
        "eventTime": when,
        "producer": PRODUCER,
        "schemaURL": SCHEMA,
        "run": {"runId": str(uuid.UUID(hex=run_id)), "facets": {}},
        "job": {"namespace": namespace, "name": job, "facets": facets},
        "inputs": [_dataset(entry) for entry in graph.inputs if entry.role != INTERMEDIATE],
        "outputs": [_dataset(entry) for entry in graph.outputs],
    }


def dataset_name(uri: str) -> tuple[str, str]:
    """Return namespace and name of a data set."""
    scheme, _, rest = uri.partition("://")
    place, _, path = rest.partition("/")
    path = unquote(path)
    if scheme == "file":
        return "file", f"/{path}"
    return f"{_DATABASES.get(scheme, scheme)}://{unquote(place)}", path or "/"


def _dataset(entry: Entry) -> dict[str, Any]:
    namespace, name = dataset_name(entry.uri)
    facets: dict[str, Any] = {}
    version = entry.version or entry.digest
    if version:
        facets["version"] = _facet("1-0-1/DatasetVersionDatasetFacet", datasetVersion=version)
    return {"namespace": namespace, "name": name, "facets": facets}


def _facet(schema: str, **values: Any) -> Mapping[str, Any]:
    name = schema.partition("/")[2]
    version = schema.partition("/")[0]
    url = f"{_FACETS}/{version}/{name}.json#/$defs/{name}"
    return {"_producer": PRODUCER, "_schemaURL": url, **values}
