"""Measures how long queries take on a server with 10,000 runs.

The runs are real rows of a real tracking database, each with the tags and the dataset that a run
with lineage has; they are inserted directly, since logging ten thousand runs takes an hour.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.frame import Options, Survey
from benchmarks.lineage_rows import entry

RUNS = 10_000
EXPERIMENTS = 20
INPUTS = 12
FILES = 2_000


def fill(database: str, runs: int) -> list[str]:
    """Insert runs into a tracking database that has its tables; return their ids."""
    import sqlalchemy

    from mlflow_plugins_pack.lineage.document.datasets import datasets
    from mlflow_plugins_pack.lineage.document.graph import Graph
    from mlflow_plugins_pack.lineage.document.tags import to_tags

    engine = sqlalchemy.create_engine(database)
    tables = sqlalchemy.MetaData()
    tables.reflect(engine)
    rows: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("experiments", "runs", "tags", "datasets", "inputs", "input_tags")
    }
    now = int(time.time() * 1000)
    for index in range(1, EXPERIMENTS + 1):
        rows["experiments"].append(
            {
                "experiment_id": index,
                "name": f"experiment {index}",
                "artifact_location": f"file:///nowhere/{index}",
                "lifecycle_stage": "active",
                "creation_time": now,
                "last_update_time": now,
                "workspace": "default",
            }
        )
    ids = []
    known: dict[tuple[int, str], str] = {}
    for index in range(runs):
        run_id, experiment = uuid.uuid4().hex, 1 + index % EXPERIMENTS
        ids.append(run_id)
        rows["runs"].append(
            {
                "run_uuid": run_id,
                "name": f"run {index}",
                "experiment_id": experiment,
                "user_id": "bench",
                "status": "FINISHED",
                "start_time": now + index,
                "end_time": now + index + 1,
                "lifecycle_stage": "active",
                "source_type": "LOCAL",
                "artifact_uri": f"file:///nowhere/{experiment}/{run_id}",
            }
        )
        inputs = tuple(entry("train", (index * 7 + k * 131) % FILES) for k in range(INPUTS))
        graph = Graph(inputs=inputs, outputs=(entry("scores", 1_000_000 + index),))
        for key, value in to_tags(graph).items():
            rows["tags"].append({"key": key, "value": value, "run_uuid": run_id})
        for made in datasets(graph):
            dataset = known.get((experiment, made.digest))
            if dataset is None:
                dataset = known[experiment, made.digest] = uuid.uuid4().hex
                rows["datasets"].append(
                    {
                        "dataset_uuid": dataset,
                        "experiment_id": experiment,
                        "name": made.name,
                        "digest": made.digest,
                        "dataset_source_type": made.source_type,
                        "dataset_source": made.source,
                        "dataset_profile": made.profile,
                    }
                )
            source = uuid.uuid4().hex
            rows["inputs"].append(
                {
                    "input_uuid": source,
                    "source_type": "DATASET",
                    "source_id": dataset,
                    "destination_type": "RUN",
                    "destination_id": run_id,
                    "step": 0,
                }
            )
            rows["input_tags"].append(
                {"input_uuid": source, "name": "mlflow.data.context", "value": made.context}
            )
    with engine.begin() as connection:
        for name, values in rows.items():
            table = tables.tables[name]
            kept = [{k: v for k, v in row.items() if k in table.c} for row in values]
            for start in range(0, len(kept), 5_000):
                connection.execute(table.insert(), kept[start : start + 5_000])
    engine.dispose()
    return ids


def _run(options: Options, _only: str) -> str:
    import mlflow

    from mlflow_plugins_pack.lineage.query import api
    from tests.support.servers import mlflow_server

    runs = options.count(RUNS)
    lines = ["| question | answer | seconds |", "|---|---|---|"]

    def timed(question: str, work: Callable[[], Any], words: Callable[[Any], str]) -> None:
        began = time.perf_counter()
        answer = work()
        seconds = time.perf_counter() - began
        lines.append(f"| {question} | {words(answer)} | {seconds:.2f} |")
        options.progress(lines[-1])

    with tempfile.TemporaryDirectory(prefix="search-") as name:
        database = f"sqlite:///{name}/mlflow.db"
        mlflow.MlflowClient(database).search_experiments()
        ids = fill(database, runs)
        with mlflow_server(
            Path(name) / "server", backend=database, MLFLOW_PACK_LINEAGE_ENABLED="false"
        ) as server:
            uri = server.url
            mlflow.MlflowClient(uri).search_experiments()
            one, rare = entry("train", 7), entry("scores", 1_000_000)

            def count(rows: Any) -> str:
                return rows.summary

            def nodes(network: Any) -> str:
                return f"{len(network.nodes)} nodes"

            timed("used-by, a digest", lambda: api.used_by(one.digest, tracking_uri=uri), count)
            timed("used-by, a URI", lambda: api.used_by(one.uri, tracking_uri=uri), count)
            timed(
                "used-by, a file that no run read",
                lambda: api.used_by(rare.digest, tracking_uri=uri),
                count,
            )
            timed("upstream of a run", lambda: api.upstream(ids[0], tracking_uri=uri), nodes)
            timed("downstream of a run", lambda: api.downstream(ids[0], tracking_uri=uri), nodes)
    return f"{runs} runs with {INPUTS} inputs each, SQLite, one server process\n\n" + "\n".join(
        lines
    )


SURVEY = Survey("lineage-search", "questions over a server with 10,000 runs", _run)
