"""Writing a graph to its run: tags first, then datasets, then the full document as an artifact."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.lineage.delivery import logged_datasets
from mlflow_plugins_pack.lineage.document import datasets
from mlflow_plugins_pack.lineage.document.graph import Graph
from mlflow_plugins_pack.lineage.document.stored import ARTIFACT, graph_from_tags, read
from mlflow_plugins_pack.lineage.document.tags import PREFIX, to_tags

_ATTEMPTS = 4
"""Number of times that datasets are written, should other runs write the same ones at the time."""


def write(
    run_id: str,
    graph: Graph,
    *,
    tracking_uri: str,
    base: Graph | None,
    interim: bool = False,
) -> tuple[Graph, Graph]:
    """Write a run's record, joined with what the run has already; repeating it changes nothing.

    Args:
        run_id: The run.
        graph: What this process saw.
        tracking_uri: Where the run is.
        base: What the run had before, if known; else it is fetched.
        interim: The run goes on: write tags only.

    Returns:
        The record as written, and what the run had before.

    Raises:
        Exception: Whatever MLflow raises; each part is attempted all the same.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    run = client.get_run(run_id)
    if base is None:
        base = read(client, run) or Graph()
    merged = _resolve(client, run, base.union(graph))
    merged = logged_datasets.merged(merged, logged_datasets.of_run(run), _home())
    tags = to_tags(merged)
    _write_tags(client, run_id, tags)
    if interim:
        # What was read is settled, what is being written is not.
        _write_datasets(client, run_id, _hashed_inputs(merged))
        return merged, base
    parts: list[Callable[[], None]] = [
        lambda: _tag_models(client, run, tags),
        lambda: _tag_search_children(client, run, merged, tags),
        lambda: _tag_versions(client, run_id, tags),
    ]
    if merged.inputs or merged.outputs or merged.upstream_runs or merged.upstream_models:
        parts.insert(0, lambda: _write_datasets(client, run_id, _listed(tags)))
        parts.insert(1, lambda: _write_artifact(client, run_id, merged))
    failures = []
    for part in parts:
        try:
            part()
        except Exception as exc:  # noqa: BLE001  # re-raised below
            failures.append(exc)
    if failures:
        raise failures[0]
    return merged, base


def _home() -> str:
    """Return the home folder if records have ``~`` in its place, or else an empty text."""
    from mlflow_plugins_pack.errors import ConfigurationError

    try:
        is_redacted = settings.LINEAGE_REDACT.get()
    except ConfigurationError:
        is_redacted = True
    return os.path.expanduser("~") if is_redacted else ""  # noqa: PTH111


def _write_tags(client: Any, run_id: str, tags: dict[str, str]) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(k, v) for k, v in tags.items()], synchronous=True)


def mark(run_id: str, coverage: dict[str, Any], tracking_uri: str) -> None:
    """Write to a run without a record what its capture covers.

    Raises:
        Exception: Whatever MLflow raises.
    """
    from mlflow import MlflowClient

    tags = to_tags(Graph(facts={"coverage": coverage}))
    kept = {key: tags[key] for key in (f"{PREFIX}schema", f"{PREFIX}coverage")}
    _write_tags(MlflowClient(tracking_uri), run_id, kept)


def _tag_models(client: Any, run: Any, tags: dict[str, str]) -> None:
    """Copy the run's lineage to the models that it logged: they outlive it in the registry."""
    for model_id in _logged_models(run):
        client.set_logged_model_tags(model_id, tags)


def _tag_versions(client: Any, run_id: str, tags: dict[str, str]) -> None:
    """Copy the run's lineage to the versions that were registered while it was active."""
    if "mlflow.tracking._model_registry.client" not in sys.modules:
        return
    for version in client.search_model_versions(f"run_id='{run_id}'"):
        _tag_version(client, version, tags)


TAGS_OF_VERSIONS = tuple(
    PREFIX + name for name in ("inputs", "truncated", "upstream.runs", "upstream.models", "digest")
)
"""What a model version is given: what it was made from. The rest stays at its run."""


def _tag_version(client: Any, version: Any, tags: dict[str, str]) -> None:
    if f"{PREFIX}digest" in tags and f"{PREFIX}digest" not in (version.tags or {}):
        # The digest comes last: where it is, the others are.
        for key in TAGS_OF_VERSIONS:
            if key in tags:
                client.set_model_version_tag(version.name, version.version, key, tags[key])


def tag_newest_version(registry_uri: str, name: str) -> None:
    """Copy the lineage of the run that made it to the newest version of a model, if it ended.

    Args:
        registry_uri: Where the model is.
        name: The registered model.

    Raises:
        Exception: Whatever MLflow raises.
    """
    from mlflow import MlflowClient

    client = MlflowClient(registry_uri=registry_uri)
    quoted = '"' if "'" in name else "'"
    found = client.search_model_versions(
        f"name={quoted}{name}{quoted}", max_results=1, order_by=["version_number DESC"]
    )
    for version in found:
        run_id = version.run_id
        if not run_id and getattr(version, "model_id", None):
            run_id = client.get_logged_model(version.model_id).source_run_id
        if run_id:
            _tag_version(client, version, client.get_run(run_id).data.tags)


def _resolve(client: Any, run: Any, graph: Graph) -> Graph:
    """Name the runs behind logged models that were fetched, and leave out what is its own."""
    runs, models = [*graph.upstream_runs], []
    own = {f"models:/{model_id}" for model_id in _logged_models(run)}
    for model in graph.upstream_models:
        if "/" in model.removeprefix("models:/"):
            models.append(model)
        elif model not in own:
            # A logged model that is gone stays named.
            try:
                found = client.get_logged_model(model.removeprefix("models:/"))
                runs.append(str(found.source_run_id))
            except Exception:  # noqa: BLE001
                models.append(model)
    others = dict.fromkeys(run_id for run_id in runs if run_id not in ("", run.info.run_id))
    return replace(graph, upstream_runs=tuple(others), upstream_models=tuple(models))


def _logged_models(run: Any) -> list[str]:
    outputs = getattr(run, "outputs", None)
    return [str(m.model_id) for m in getattr(outputs, "model_outputs", None) or ()]


def _tag_search_children(client: Any, run: Any, graph: Graph, tags: dict[str, str]) -> None:
    """Copy the parent's lineage to the child runs of a hyper-parameter search.

    Autologging makes them through the client, after the fit, so they have no window of their own.
    """
    if not {"mlflow.sklearn", "sklearn.model_selection"} <= set(sys.modules):
        return
    token = None
    while True:
        page = client.search_runs(
            [run.info.experiment_id],
            f"tags.`mlflow.parentRunId` = '{run.info.run_id}'",
            max_results=1000,
            page_token=token,
        )
        for child in page:
            if f"{PREFIX}inputs" not in child.data.tags and child.info.status != "RUNNING":
                _write_tags(client, child.info.run_id, tags)
                if graph.inputs:
                    _write_datasets(client, child.info.run_id, _listed(tags))
        token = page.token
        if not token:
            return


def _listed(tags: dict[str, str]) -> Graph:
    return graph_from_tags({k.removeprefix(PREFIX): v for k, v in tags.items()})


def _hashed_inputs(graph: Graph) -> Graph:
    return Graph(inputs=tuple(entry for entry in graph.inputs if entry.digest))


def _write_datasets(client: Any, run_id: str, listed: Graph) -> None:
    """Log what the tags list as datasets, by which searches find the run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    made = [
        DatasetInput(
            Dataset(row.name, row.digest, row.source_type, row.source, profile=row.profile),
            [InputTag("mlflow.data.context", row.context), InputTag(logged_datasets.OWN, "true")],
        )
        for row in datasets.datasets(listed)
    ]
    for attempt in range(_ATTEMPTS if made else 0):
        try:
            client.log_inputs(run_id, datasets=made)
            return
        except Exception:
            # MLflow looks whether it has a dataset and then inserts it: of two runs that end at the
            # same time and read the same file, one fails. The next time, it is there.
            if attempt == _ATTEMPTS - 1:
                raise


def _write_artifact(client: Any, run_id: str, graph: Graph) -> None:
    folder, name = ARTIFACT.split("/")
    with tempfile.TemporaryDirectory(prefix="lineage-") as temporary:
        path = Path(temporary) / name
        path.write_text(json.dumps(graph.to_json()) + "\n", encoding="ascii")
        client.log_artifact(run_id, str(path), folder)
