"""Records that could not be written to their run, kept on this machine until they can.

Each is one JSON file in `folder`: the run's id, its tracking URI
without credentials, and the graph as `Graph.to_json` writes it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from mlflow_plugins_pack import base_dirs
from mlflow_plugins_pack.lineage.document.graph import Graph, without_secrets


class KeptRecord(NamedTuple):
    """One record of the queue."""

    run_id: str
    tracking_uri: str
    graph: Graph


def keep(run_id: str, graph: Graph, tracking_uri: str) -> Path | None:
    """Keep a record for `mlflow-pack lineage push`.

    Returns:
        The file, or None if it cannot be written.
    """
    # A run that is resumed may leave several, each of other reads: none replaces another.
    path = folder() / f"{run_id}-{time.time_ns()}-{os.getpid()}.json"
    document = {
        "run_id": run_id,
        "tracking_uri": without_secrets(tracking_uri),
        **graph.to_json(),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(".part")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            json.dump(document, file)
        temporary.replace(path)
    except OSError:
        return None
    return path


def folder() -> Path:
    """Return the folder of records that await `mlflow-pack lineage push`."""
    return Path(base_dirs.state_dir()) / "lineage"


def kept() -> list[Path]:
    """Return the files of all records that are kept."""
    return sorted(folder().glob("*.json"))


def run_id_of(path: Path) -> str:
    """Return the run whose record a file keeps."""
    return path.stem.partition("-")[0]


def load(path: Path) -> KeptRecord:
    """Read a record.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not JSON.
        KeyError: If it lacks the run or the tracking URI.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    return KeptRecord(
        str(document["run_id"]), str(document["tracking_uri"]), Graph.from_json(document)
    )
