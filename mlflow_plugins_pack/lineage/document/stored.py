"""Reading a run's record back: from the full document, or from the tags that stand for it."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

from mlflow_plugins_pack.lineage.document.graph import Entry, Graph
from mlflow_plugins_pack.lineage.document.tags import PREFIX

ARTIFACT = "lineage/lineage.json"


def read(client: Any, run: Any) -> Graph | None:
    """Return the record that a run has.

    Args:
        client: An `MlflowClient` of the server that has the run.
        run: The run, as `get_run` gives it.

    Returns:
        The full document's graph, or the tags' if there is none; None if the run has neither.
    """
    tags = {k.removeprefix(PREFIX): v for k, v in run.data.tags.items() if k.startswith(PREFIX)}
    if "inputs" not in tags:
        return None
    from_tags = graph_from_tags(tags)
    if not (from_tags.inputs or from_tags.outputs):
        return from_tags
    if document := _read_artifact(client, run):
        # Tags may be newer: a run that was killed has them from its last interim writing.
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
            return Graph.from_json(document)
    return from_tags


def listed(client: Any, run: Any) -> Graph | None:
    """Return all that a record lists; the tags are enough unless they are shortened.

    Args:
        client: An `MlflowClient` of the server that has the run.
        run: The run, as `get_run` or a search gives it.
    """
    if f"{PREFIX}truncated" in run.data.tags:
        return read(client, run)
    return from_run(run) if f"{PREFIX}inputs" in run.data.tags else None


def from_run(run: Any) -> Graph:
    """Return what a run's tags tell."""
    return graph_from_tags(
        {k.removeprefix(PREFIX): v for k, v in run.data.tags.items() if k.startswith(PREFIX)}
    )


def coverage_of(run: Any) -> dict[str, Any]:
    """Return what a run's tag says of its coverage; empty if it says nothing."""
    tags = {"coverage": run.data.tags.get(f"{PREFIX}coverage", "{}")}
    found: dict[str, Any] = graph_from_tags(tags).facts["coverage"]
    return found


def graph_from_tags(tags: dict[str, str]) -> Graph:
    """Return what tags tell, given without their prefix; what is broken counts as absent."""

    def parsed(name: str, default: Any) -> Any:
        try:
            value = json.loads(tags.get(name, "")) if name in tags else default
        except (ValueError, RecursionError):
            return default
        return value if isinstance(value, type(default)) else default

    def entries(name: str) -> tuple[Entry, ...]:
        found = []
        for value in parsed(name, []):
            with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
                found.append(Entry.from_json(value))
        return tuple(found)

    def names(name: str) -> tuple[str, ...]:
        return tuple(found for found in parsed(name, []) if isinstance(found, str))

    dropped = parsed("truncated", {}).get("dropped", 0)
    return Graph(
        inputs=entries("inputs"),
        outputs=entries("outputs"),
        upstream_runs=names("upstream.runs"),
        upstream_models=names("upstream.models"),
        dropped=dropped if isinstance(dropped, int) else 0,
        facts={k: parsed(k, {}) for k in ("code", "env", "coverage") if k in tags},
    )


def _read_artifact(client: Any, run: Any) -> dict[str, Any] | None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with tempfile.TemporaryDirectory(prefix="lineage-") as temporary:
        path = Path(temporary) / "lineage.json"
        try:
            # A server answers 500 for a file that it does not have, and clients try that again.
            folder = ARTIFACT.split("/")[0]
            listed = client.list_artifacts(run.info.run_id, folder)
            if ARTIFACT not in [file.path for file in listed]:
                return None
            repository = get_artifact_repository(
                run.info.artifact_uri, tracking_uri=client.tracking_uri
            )
            # Every repository has this method, and it is the one that shows no progress bar.
            repository._download_file(ARTIFACT, str(path))
            document = json.loads(path.read_text(encoding="utf-8"))
        except Exception:  # noqa: BLE001  # the tags remain
            return None
    return document if isinstance(document, dict) else None
