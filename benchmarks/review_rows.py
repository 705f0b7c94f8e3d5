"""Inserts models, runs and requests into a registry's database directly: to log them takes hours.

The rows are those that MLflow and the pack write. The first models' versions have files, too.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.lineage_rows import entry

WITH_FILES = 10
"""So many of the models have versions with files."""
_INPUTS = 4
_STEPS = 50


@dataclass
class Filled:
    """What was inserted.

    Attributes:
        models: The names of the models.
        requests: Ids of requests whose versions have files, each of another model.
        runs: Ids of the runs of these versions.
    """

    models: list[str]
    requests: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)


class _Rows:
    """Rows on their way into a database, by table."""

    def __init__(self, connection: Any) -> None:
        import sqlalchemy

        self._connection = connection
        self._tables = sqlalchemy.MetaData()
        self._tables.reflect(connection)
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._datasets: dict[tuple[str, str], str] = {}

    def add(self, table: str, **row: Any) -> None:
        """Add a row; what the table has no column for is left out."""
        columns = self._tables.tables[table].c
        kept = {name: value for name, value in row.items() if name in columns}
        waiting = self._rows.setdefault(table, [])
        waiting.append(kept)
        if len(waiting) == 10_000:
            self._write(table)

    def add_dataset(self, made: Any, experiment: int, run_id: str) -> None:
        """Add a dataset that a run read, or wrote."""
        key = (made.name, made.digest)
        if key not in self._datasets:
            self._datasets[key] = uuid.uuid4().hex
            self.add(
                "datasets",
                dataset_uuid=self._datasets[key],
                experiment_id=experiment,
                name=made.name,
                digest=made.digest,
                dataset_source_type=made.source_type,
                dataset_source=made.source,
                dataset_profile=made.profile,
            )
        logged = uuid.uuid4().hex
        self.add(
            "inputs",
            input_uuid=logged,
            source_type="DATASET",
            source_id=self._datasets[key],
            destination_type="RUN",
            destination_id=run_id,
            step=0,
        )
        self.add("input_tags", input_uuid=logged, name="mlflow.data.context", value=made.context)

    def flush(self) -> None:
        """Write what is left."""
        for table in self._rows:
            self._write(table)

    def _write(self, table: str) -> None:
        if self._rows[table]:
            self._connection.execute(self._tables.tables[table].insert(), self._rows[table])
        self._rows[table] = []


def fill(
    database: str, artifacts: Path, *, models: int, requests: int, runs: int, prefix: str = "bench"
) -> Filled:
    """Insert models, their holders of ``prod``, and open requests, into a registry's database.

    Args:
        database: Its URI; the tables are there.
        artifacts: Where its server has artifacts.
        models: How many; each has a version that holds ``prod``.
        requests: How many, spread over the models, each for another version.
        runs: How many, at least one for each version.
        prefix: How the models' names begin.
    """
    import sqlalchemy

    made = Filled([f"{prefix}-{number:04}" for number in range(models)])
    engine = sqlalchemy.create_engine(database)
    with engine.begin() as connection:
        rows = _Rows(connection)
        now = int(time.time() * 1000)
        experiment = 1_000_000 + random.Random(prefix).randrange(1_000_000)
        rows.add(
            "experiments",
            experiment_id=experiment,
            name=f"{prefix} {experiment}",
            artifact_location=f"mlflow-artifacts:/{experiment}",
            lifecycle_stage="active",
            creation_time=now,
            last_update_time=now,
            workspace="default",
        )
        # Each version has a run; the rest are runs that came to nothing.
        versions = list(_versions(made.models, requests))
        log = _AuditLog(connection, rows)
        for name in made.models:
            about = {"name": name, "workspace": "default"}
            rows.add("registered_models", creation_time=now, last_updated_time=now, **about)
            rows.add("registered_model_aliases", alias="prod", version=1, **about)
        first = ""
        for number in range(max(runs, len(versions))):
            run_id = uuid.uuid4().hex
            uri = f"mlflow-artifacts:/{experiment}/{run_id}/artifacts"
            first = run_id if number % 20 == 0 else first
            name, version = versions[number] if number < len(versions) else ("", 0)
            has_files = bool(name) and name in made.models[:WITH_FILES]
            _add_run(rows, run_id, number, experiment, uri, now, first, has_steps=has_files)
            if name:
                request = _add_version(rows, log, name, version, run_id, f"{uri}/model", now)
                if has_files:
                    _write_files(artifacts / str(experiment) / run_id / "artifacts/model", run_id)
                    if version == 2:
                        made.requests.append(request)
                        made.runs.append(run_id)
        rows.flush()
        log.flush()
    engine.dispose()
    return made


def _versions(names: list[str], requests: int) -> Iterator[tuple[str, int]]:
    for name in names:
        yield name, 1
    for number in range(requests):
        yield names[number % len(names)], 2 + number // len(names)


def _add_run(
    rows: _Rows,
    run_id: str,
    number: int,
    experiment: int,
    uri: str,
    now: int,
    first: str,
    *,
    has_steps: bool,
) -> None:
    from mlflow_plugins_pack.lineage.document.datasets import datasets
    from mlflow_plugins_pack.lineage.document.graph import Graph
    from mlflow_plugins_pack.lineage.document.tags import to_tags

    rows.add(
        "runs",
        run_uuid=run_id,
        name=f"train {number}",
        experiment_id=experiment,
        user_id="alice",
        status="FINISHED",
        start_time=now + number,
        end_time=now + number + 1,
        lifecycle_stage="active",
        source_type="LOCAL",
        artifact_uri=uri,
    )
    inputs = tuple(entry("train", (number * 7 + k * 131) % 2_000) for k in range(_INPUTS))
    upstream = (first,) if first != run_id else ()
    graph = Graph(inputs=inputs, outputs=(entry("scores", number),), upstream_runs=upstream)
    tags = {**to_tags(graph), "mlflow.source.name": "train.py", "mlflow.user": "alice"}
    for key, value in tags.items():
        rows.add("tags", key=key, value=value, run_uuid=run_id)
    for made in datasets(graph):
        rows.add_dataset(made, experiment, run_id)
    rows.add("params", key="depth", value=str(number % 9), run_uuid=run_id)
    about = {"timestamp": now, "is_nan": False, "run_uuid": run_id}
    for key, value in (("auc", 0.9 + number % 97 / 1000), ("loss", number % 89 / 100)):
        last = _STEPS if key == "loss" and has_steps else 0
        rows.add("latest_metrics", key=key, value=value, step=last, **about)
        for step in range(last + 1):
            rows.add("metrics", key=key, value=value + (last - step) / 100, step=step, **about)


def _add_version(
    rows: _Rows, log: _AuditLog, name: str, version: int, run_id: str, source: str, now: int
) -> str:
    """Insert a version that holds ``prod``, or one with a request; return the request's id."""
    from mlflow_plugins_pack.approvals.domain.identifiers import open_key, version_uid
    from mlflow_plugins_pack.approvals.domain.targets import Target

    about = {"workspace": "default", "name": name, "version": version}
    rows.add(
        "model_versions",
        creation_time=now,
        last_updated_time=now,
        current_stage="None",
        source=source,
        storage_location=source,
        run_id=run_id,
        status="READY",
        **about,
    )
    rows.add("model_version_tags", key="team", value="fraud", **about)
    uid = version_uid("default", name, version, now, source, source, run_id)
    target, request, is_holder = Target("alias", "prod"), uuid.uuid4().hex, version == 1
    digest = f"sha256:{uid}"
    rows.add(
        "mpp_request",
        id=request,
        version_uid=uid,
        target=target.key,
        action="promote",
        state="APPLIED" if is_holder else "PENDING",
        requester="alice",
        creator="alice",
        run_user="alice",
        comment="please look at **this one**",
        digest=digest,
        holder_version=None if is_holder else 1,
        archive_existing=0,
        policy="production",
        policy_sha256="0" * 64,
        created_at=now + version,
        updated_at=now + version,
        expires_at=now + 14 * 86_400_000,
        open_key=None if is_holder else open_key("default", uid, target),
        **about,
    )
    about |= {"target": target.key, "request_id": request}
    if is_holder:
        rows.add(
            "mpp_grant",
            version_uid=uid,
            digest=digest,
            granted_by="alice",
            granted_at=now,
            **about,
        )
        log.add("APPLIED", after='{"action":"promote","approvers":["bob","dave"]}', **about)
    else:
        log.add("REQUESTED", after="{}", **about)
        rows.add(
            "mpp_decision",
            request_id=request,
            approver="dave",
            verdict="approve",
            decided_at=now + version,
        )
        rows.add(
            "mpp_comment",
            id=uuid.uuid4().hex,
            version_uid=uid,
            author="carol",
            text="Why is the *loss* higher?",
            created_at=now,
            **about,
        )
    return request


class _AuditLog:
    """Continues a database's audit log, each entry with its hash."""

    def __init__(self, connection: Any, rows: _Rows) -> None:
        import sqlalchemy as sa

        from mlflow_plugins_pack.approvals.database.tables import audit_head

        self._connection, self._rows = connection, rows
        self._seq, self._hash = connection.execute(
            sa.select(audit_head.c.seq, audit_head.c.hash)
        ).one()

    def add(self, action: str, **values: Any) -> None:
        """Add an entry."""
        from mlflow_plugins_pack.approvals.database.tables import audit
        from mlflow_plugins_pack.approvals.ledger import audit_log

        self._seq += 1
        entry: dict[str, Any] = dict.fromkeys(audit.c.keys())
        entry |= {"seq": self._seq, "created_at": int(time.time() * 1000), "actor": "alice"}
        entry |= {"action": action, "prev_hash": self._hash, **values}
        self._hash = entry["hash"] = audit_log.entry_hash(entry)
        self._rows.add("mpp_audit", **entry)

    def flush(self) -> None:
        """Move the log's head."""
        import sqlalchemy as sa

        from mlflow_plugins_pack.approvals.database.tables import audit_head

        self._connection.execute(sa.update(audit_head).values(seq=self._seq, hash=self._hash))


def _write_files(folder: Path, run_id: str) -> None:
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text(
        f"flavors: {{}}\nrun_id: {run_id}\nsignature:\n"
        """  inputs: '[{"type": "double", "name": "amount"}]'\n"""
    )
    (folder / "requirements.txt").write_text("scikit-learn==1.5.0\nmlflow\n")
    (folder / "weights").write_text(run_id * 100)
