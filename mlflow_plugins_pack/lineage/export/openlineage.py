"""A run as an OpenLineage event (spec 2-0-2); pure.

Data sets are named by its naming rules: ``file`` and a path, ``s3://bucket`` and a key,
``postgres://host:port`` and ``database.schema.table``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from mlflow_plugins_pack.lineage.document.graph import FULL, INTERMEDIATE, Entry, Graph, shown_uri

SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS = "https://openlineage.io/spec/facets"
PRODUCER = "https://pypi.org/project/mlflow-plugins-pack"
_EVENTS = {"FINISHED": "COMPLETE", "FAILED": "FAIL", "KILLED": "ABORT"}
_DATABASES = {"postgresql": "postgres", "mariadb": "mysql", "mssql": "mssql"}
_LARGEST_TEXT = 65_536


@dataclass(frozen=True)
class RunDescription:
    """What an event says of a run besides its data.

    Attributes:
        run_id: MLflow's, 32 hexadecimal digits, which becomes a UUID.
        status: MLflow's, such as ``FINISHED``.
        job: Name of the job: the experiment's.
        when: Time of the event, ISO 8601 with a zone.
        namespace: The job's.
        parent_id: The run of which it is a nested one, or None.
        parent_job: That run's job; its own job's name if None.
        mlflow_version: Of the process that made the run, or None.
    """

    run_id: str
    status: str
    job: str
    when: str
    namespace: str = "mlflow"
    parent_id: str | None = None
    parent_job: str | None = None
    mlflow_version: str | None = None


def event(graph: Graph, run: RunDescription) -> dict[str, Any]:
    """Return a run event.

    Args:
        graph: What the run read and wrote.
        run: The run.
    """
    return {
        "eventType": _EVENTS.get(run.status, "OTHER"),
        "eventTime": run.when,
        "producer": PRODUCER,
        "schemaURL": SCHEMA,
        "run": {"runId": _uuid(run.run_id), "facets": _run_facets(run)},
        "job": {"namespace": run.namespace, "name": run.job, "facets": _job_facets(graph)},
        "inputs": [_dataset(entry) for entry in graph.inputs if entry.role != INTERMEDIATE],
        "outputs": [_dataset(entry) for entry in graph.outputs],
    }


def _uuid(run_id: str) -> str:
    return str(uuid.UUID(hex=run_id))


def _run_facets(run: RunDescription) -> dict[str, Any]:
    facets: dict[str, Any] = {}
    if run.parent_id:
        facets["parent"] = _facet(
            "1-2-0/ParentRunFacet",
            run={"runId": _uuid(run.parent_id)},
            job={"namespace": run.namespace, "name": run.parent_job or run.job},
        )
    if run.mlflow_version:
        facets["processing_engine"] = _facet(
            "1-1-1/ProcessingEngineRunFacet", version=run.mlflow_version, name="mlflow"
        )
    return facets


def _job_facets(graph: Graph) -> dict[str, Any]:
    code = graph.facts.get("code", {})
    facets: dict[str, Any] = {
        "jobType": _facet(
            "2-0-4/JobTypeJobFacet", processingType="BATCH", integration="MLFLOW", jobType="RUN"
        )
    }
    if code.get("commit") and "://" in code.get("repository", ""):
        facets["sourceCodeLocation"] = _facet(
            "1-1-0/SourceCodeLocationJobFacet",
            type="git",
            url=code["repository"],
            version=code["commit"],
        )
    if code.get("text"):
        facets["sourceCode"] = _facet(
            "1-0-1/SourceCodeJobFacet", language="PYTHON", sourceCode=code["text"][:_LARGEST_TEXT]
        )
    return facets


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
    facets: dict[str, Any] = {
        "dataSource": _facet("1-0-1/DatasourceDatasetFacet", name=namespace, uri=entry.uri)
    }
    version = entry.version or (entry.digest if entry.coverage == FULL else None)
    if version:
        facets["version"] = _facet("1-0-1/DatasetVersionDatasetFacet", datasetVersion=version)
    if entry.columns:
        facets["schema"] = _facet(
            "1-2-0/SchemaDatasetFacet", fields=[{"name": column} for column in entry.columns]
        )
    if entry.dataset:
        facets["documentation"] = _facet(
            "1-1-0/DocumentationDatasetFacet",
            description=f"Logged to MLflow as the dataset {entry.dataset}: {shown_uri(entry.uri)}",
        )
    return {"namespace": namespace, "name": name, "facets": facets}


def _facet(schema: str, **values: Any) -> Mapping[str, Any]:
    version, _, name = schema.partition("/")
    url = f"{_FACETS}/{version}/{name}.json#/$defs/{name}"
    return {"_producer": PRODUCER, "_schemaURL": url, **values}
