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
    if document := _read_artifact(client, run.info.run_id):
        # Tags may be newer: a run that was killed has them from its last interim writing.
        with contextlib.suppress(KeyError, TypeError, ValueError):
            return Graph.from_json(document)
    return from_tags


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
        except ValueError:
            return default
        return value if isinstance(value, type(default)) else default

    def entries(name: str) -> tuple[Entry, ...]:
        found = []
        for value in parsed(name, []):
            with contextlib.suppress(KeyError, TypeError):
                found.append(Entry.from_json(value))
        return tuple(found)

    return Graph(
        inputs=entries("inputs"),
        outputs=entries("outputs"),
        upstream_runs=tuple(map(str, parsed("upstream.runs", []))),
        upstream_models=tuple(map(str, parsed("upstream.models", []))),
        dropped=int(parsed("truncated", {}).get("dropped", 0)),
        facts={k: parsed(k, {}) for k in ("code", "env", "coverage") if k in tags},
    )


def _read_artifact(client: Any, run_id: str) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory(prefix="lineage-") as temporary:
        try:
            folder = ARTIFACT.split("/")[0]
            if ARTIFACT not in [file.path for file in client.list_artifacts(run_id, folder)]:
                return None
            path = client.download_artifacts(run_id, ARTIFACT, temporary)
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except Exception:  # noqa: BLE001  # the tags remain
            return None
    return document if isinstance(document, dict) else None
