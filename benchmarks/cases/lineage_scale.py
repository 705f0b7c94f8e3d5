"""Measures questions about lineage on a PostgreSQL server with a million runs.

PostgreSQL makes the rows itself, as the runs of many small pipelines would have left them: of three
runs in a row, each but the first reads what the one before wrote, and the second one is registered.
Every run also reads a file that 40 others read, and one that 400 others read. Each file is asked
about by digest and path, through a stock server; what is measured is a whole question.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.frame import Options, Survey

RUNS = 1_000_000
EXPERIMENTS = 20
MODELS = 1_000
ASKED = 9
"""Times that each question is asked, each time about another run or file."""

_START = 1_700_000_000_000

_ROWS = """
CREATE TEMP TABLE made AS
SELECT i, md5('run' || i) AS run_uuid, 1 + (i / 3) % {experiments} AS experiment,
       {start} + i * 1000 AS started
FROM generate_series(0, {runs} - 1) AS i;

CREATE TEMP TABLE entry AS
SELECT i, kind, name, 'file:///data/' || folder || '/' || name AS uri,
       encode(sha256(convert_to(name, 'UTF8')), 'hex') AS sha
FROM (
    SELECT i, 'read' AS kind, 'common' AS folder, 'common-' || i % ({runs} / 40) || '.csv' AS name
    FROM made
    UNION ALL
    SELECT i, 'read', 'shared', 'shared-' || i % ({runs} / 400) || '.parquet' FROM made
    UNION ALL
    SELECT i, 'read', 'results', 'result-' || (i - 1) || '.csv' FROM made WHERE i % 3 <> 0
    UNION ALL
    SELECT i, 'write', 'results', 'result-' || i || '.csv' FROM made
) AS files;

INSERT INTO runs (run_uuid, name, experiment_id, user_id, status, start_time, end_time,
                  lifecycle_stage, source_type, artifact_uri)
SELECT run_uuid, 'run ' || i, experiment, 'bench', 'FINISHED', started, started + 900, 'active',
       'LOCAL', 'file:///nowhere/' || run_uuid FROM made;

CREATE TEMP TABLE listed AS
SELECT i, kind, '[' || string_agg(
    '{{"u":"' || uri || '","h":"sha256:' || sha || '","n":1000,"m":' || {start} / 1000 + i
    || ',"r":"data","via":"audit","c":"full"}}', ',' ORDER BY uri) || ']' AS entries
FROM entry GROUP BY i, kind;

INSERT INTO tags (key, value, run_uuid)
SELECT CASE kind WHEN 'read' THEN 'lineage.inputs' ELSE 'lineage.outputs' END, entries, run_uuid
FROM listed JOIN made USING (i);
INSERT INTO tags (key, value, run_uuid)
SELECT key, value, run_uuid FROM made CROSS JOIN (VALUES
    ('lineage.schema', '1'), ('mlflow.user', 'bench'), ('mlflow.source.name', 'train.py'),
    ('lineage.coverage', '{{"layers":["audit"],"complete":true}}')) AS fixed (key, value);
INSERT INTO tags (key, value, run_uuid) SELECT 'mlflow.runName', 'run ' || i, run_uuid FROM made;

CREATE TEMP TABLE linked AS
SELECT run_uuid, experiment, kind, name, uri,
       CASE kind WHEN 'read' THEN left(sha, 36) ELSE 'w' || left(sha, 35) END AS digest
FROM entry JOIN made USING (i);
INSERT INTO datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type,
                      dataset_source, dataset_profile)
SELECT DISTINCT md5(experiment || digest), experiment, name, digest, 'local',
       '{{"uri": "' || uri || '"}}', '{{"bytes": 1000}}' FROM linked;
INSERT INTO inputs (input_uuid, source_type, source_id, destination_type, destination_id, step)
SELECT md5(run_uuid || digest), 'DATASET', md5(experiment || digest), 'RUN', run_uuid, 0
FROM linked;
INSERT INTO input_tags (input_uuid, name, value)
SELECT md5(run_uuid || digest), 'mlflow.data.context', kind FROM linked;

INSERT INTO registered_models (name, creation_time, last_updated_time, workspace)
SELECT 'model-' || m, {start}, {start}, 'default' FROM generate_series(0, {models} - 1) AS m;
INSERT INTO model_versions (name, version, creation_time, last_updated_time, user_id, current_stage,
                            source, run_id, status, workspace)
SELECT 'model-' || (i / 3) % {models}, 1 + i / 3 / {models}, started, started, 'bench', 'None',
       'runs:/' || run_uuid || '/model', run_uuid, 'READY', 'default' FROM made WHERE i % 3 = 1;
INSERT INTO registered_model_aliases (name, alias, version, workspace)
SELECT name, 'prod', max(version), 'default' FROM model_versions GROUP BY name;
"""


def fill(database: str, runs: int) -> None:
    """Make the rows of runs in a PostgreSQL database that has MLflow's tables.

    Args:
        database: Its SQLAlchemy URL.
        runs: How many.
    """
    import sqlalchemy

    engine = sqlalchemy.create_engine(database)
    text = _ROWS.format(runs=runs, experiments=EXPERIMENTS, models=MODELS, start=_START)
    with engine.begin() as connection:
        # The rows fit one another: nothing needs to be checked row by row.
        connection.exec_driver_sql("SET session_replication_role = replica")
        connection.exec_driver_sql("SET work_mem = '512MB'")
        for number in range(1, EXPERIMENTS + 1):
            connection.exec_driver_sql(
                "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage,"
                " creation_time, last_update_time, workspace) VALUES"
                f" ({number}, 'experiment {number}', 'file:///nowhere', 'active', {_START},"
                f" {_START}, 'default')"
            )
        for statement in text.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement.replace("%", "%%"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()


def _run(options: Options, _only: str) -> str:
    import mlflow
    import sqlalchemy

    from mlflow_plugins_pack.lineage.query import api, indexes
    from tests.support import servers

    runs = options.count(RUNS)
    lines = ["| question | answer | seconds, median | longest |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory(prefix="scale-") as folder, servers.postgresql() as cluster:
        database = cluster.new_database()
        mlflow.MlflowClient(database).search_experiments()
        began = time.perf_counter()
        fill(database, runs)
        options.progress(f"{runs} runs made in {time.perf_counter() - began:.0f} s")
        with servers.mlflow_server(
            Path(folder) / "server", backend=database, MLFLOW_PACK_LINEAGE_ENABLED="false"
        ) as server:
            for title in ("without", "with"):
                lines.append(f"| **{title} the optional indexes** | | | |")
                for question, ask in _questions(api, server.url, _Names(runs)):
                    lines.append(_measured(question, ask))
                    options.progress(lines[-1])
                indexes.install(sqlalchemy.create_engine(database))
    return f"{runs} runs, PostgreSQL, one server process\n\n" + "\n".join(lines)


class _Names:
    """Names that the rows have: of files, runs and models, spread over all of them."""

    def __init__(self, runs: int) -> None:
        self.runs = runs

    def number(self, turn: int, rest: int) -> int:
        """Return the number of a run in a pipeline: 0 prepares, 1 trains, 2 scores."""
        return self.runs * (turn + 1) // (ASKED + 2) // 3 * 3 + rest

    def file(self, kind: str, number: int) -> str:
        """Return a file's URI."""
        name = {
            "common": "common-{}.csv",
            "shared": "shared-{}.parquet",
            "results": "result-{}.csv",
        }
        return f"file:///data/{kind}/{name[kind].format(number)}"

    def run(self, number: int) -> str:
        """Return a run's id."""
        import hashlib

        return hashlib.md5(f"run{number}".encode(), usedforsecurity=False).hexdigest()


def _digest(uri: str) -> str:
    import hashlib

    return "sha256:" + hashlib.sha256(uri.rpartition("/")[2].encode()).hexdigest()


def _questions(api: Any, url: str, names: _Names) -> list[tuple[str, Callable[[int], Any]]]:
    def about(kind: str, turn: int) -> str:
        return names.file(
            kind, names.number(turn, 0) % (names.runs // (40 if kind == "common" else 400))
        )

    def ask(function: Any, target: Callable[[int], str]) -> Callable[[int], Any]:
        return lambda turn: function(target(turn), tracking_uri=url)

    return [
        (
            "`used-by`, a digest with 40 runs",
            ask(api.used_by, lambda t: _digest(about("common", t))),
        ),
        (
            "`used-by`, a digest with 400 runs",
            ask(api.used_by, lambda t: _digest(about("shared", t))),
        ),
        ("`used-by`, a path with 40 runs", ask(api.used_by, lambda t: about("common", t))),
        (
            "`used-by`, a path that no run read",
            ask(api.used_by, lambda t: f"file:///data/no-{t}.csv"),
        ),
        ("`upstream` of a run", ask(api.upstream, lambda t: names.run(names.number(t, 2)))),
        (
            "`upstream` of an alias",
            ask(api.upstream, lambda t: f"models:/model-{t * 100}@prod"),
        ),
        (
            "`affected` by one result",
            ask(api.affected, lambda t: names.file("results", names.number(t, 0))),
        ),
        ("`affected` by a file with 40 runs", ask(api.affected, lambda t: about("common", t))),
        (
            "`diff` of two versions",
            lambda t: api.diff(
                f"models:/model-{t * 100}/1", f"models:/model-{t * 100}@prod", tracking_uri=url
            ),
        ),
    ]


def _measured(question: str, ask: Callable[[int], Any]) -> str:
    seconds = []
    answer: Any = None
    for turn in range(ASKED):
        began = time.perf_counter()
        answer = ask(turn)
        seconds.append(time.perf_counter() - began)
    found = getattr(answer, "summary", None) or json.dumps(answer.counts())
    return f"| {question} | {found} | {statistics.median(seconds):.2f} | {max(seconds):.2f} |"


SURVEY = Survey("lineage-scale", "questions over a server with 1,000,000 runs (PostgreSQL)", _run)
