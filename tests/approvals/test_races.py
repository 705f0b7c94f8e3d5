"""Several processes with several threads on one registry: nothing lost, nothing done twice.

The default is small; ``RACE_SIZE=4x16x40 pytest tests/approvals/test_races.py`` has 4 processes of
16 threads make 40 calls each.
"""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals import audit, drift, history, inspection, tables
from mlflow_plugins_pack.approvals.plugin import build_store
from mlflow_plugins_pack.approvals.workflow import State
from tests import servers
from tests.approvals import racing
from tests.approvals.acting import signed_in

PROCESSES, THREADS, ROUNDS = map(int, os.environ.get("RACE_SIZE", "2x6x12").split("x"))


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def registry(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Any]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'mlflow.db'}"
    else:
        url = request.getfixturevalue(request.param).new_database()
    (tmp_path / "policy.yaml").write_text(racing.POLICY)
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(tmp_path / "policy.yaml"))
    store = build_store(f"approval-{url}")
    with signed_in("alice"):
        for name in racing.MODELS:
            store.create_registered_model(name)
            for version in racing.VERSIONS:
                folder = tmp_path / f"{name}-{version}"
                folder.mkdir()
                (folder / "weights").write_text(folder.name)
                store.create_model_version(name, str(folder))
    return url, store


@pytest.mark.timeout(1800)
def test_nothing_is_lost_and_nothing_done_twice(registry: tuple[str, Any], tmp_path: Path) -> None:
    url, store = registry
    environment = servers.clean_environment(
        MLFLOW_PACK_APPROVALS_POLICY=str(tmp_path / "policy.yaml"),
        MLFLOW_PACK_LINEAGE_ENABLED="false",
    )
    start_at = time.time() + 10
    command = [sys.executable, "-m", "tests.approvals.racing", url]
    racers = [
        subprocess.Popen(
            [*command, *map(str, (seed, THREADS, ROUNDS, start_at))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=Path(__file__).parents[2],
        )
        for seed in range(PROCESSES)
    ]
    found = []
    for racer in racers:
        output, problems = racer.communicate(timeout=1700)
        assert racer.returncode == 0, problems.decode()
        found.append(json.loads(output))
    assert [problem for one in found for problem in one["broken"]] == []
    outcomes: collections.Counter[str] = collections.Counter()
    for one in found:
        outcomes.update(one["outcomes"])
    calls = sum(outcomes.values())
    slowest = max(one["seconds"] for one in found)
    sys.stdout.write(f"\n{url.split(':')[0]}: {calls} calls in {slowest:.0f} s: {dict(outcomes)}\n")
    assert calls == PROCESSES * THREADS * ROUNDS
    _check(store, {tuple(vote) for one in found for vote in one["voted"]})


def _check(store: Any, voted: set[tuple[Any, ...]]) -> None:
    with store.engine.connect() as connection:
        entries = inspection.audit_entries(connection)
        requests = inspection.requests_in(connection)
        decisions = connection.execute(sa.select(tables.decisions)).all()
        assert audit.verify(connection).is_intact

    # Each request that was applied was applied once.
    applied = collections.Counter(e["request_id"] for e in entries if e["action"] == "APPLIED")
    assert set(applied.values()) <= {1}
    states = {request["id"]: request["state"] for request in requests}
    assert set(applied) == {key for key, state in states.items() if state == State.APPLIED.value}

    # Whoever was told that the vote counts is in the log, and with the request.
    logged = {(e["actor"], e["name"], e["version"]) for e in entries if e["action"] == "VOTED"}
    assert voted <= logged
    kept = {(row.request_id, row.approver) for row in decisions}
    assert {(e["request_id"], e["actor"]) for e in entries if e["action"] == "VOTED"} <= kept

    # At most one request is open for a version and target.
    is_open = collections.Counter(
        (r["model"], r["version"], r["target"])
        for r in requests
        if r["state"] in ("PENDING", "APPROVED")
    )
    assert set(is_open.values()) <= {1}

    # What MLflow has is what the log says, and what was approved.
    policy = store.gate.policy()
    assert store._transactions.read(lambda s: drift.find(s, policy)) == []
    by_log = {(h.model, h.target, h.version) for h in history.holders_at(entries)}
    now = set()
    for name in racing.MODELS:
        for alias, version in store.get_registered_model(name).aliases.items():
            now.add((name, f"alias:{alias}", int(version)))
        for found in store.get_latest_versions(name, ["Production"]):
            now.add((name, "stage:Production", int(found.version)))
    assert now <= by_log
    assert {entry for entry in by_log if entry[1].startswith("alias:")} <= now


def test_a_server_answers_no_500_in_a_race(tmp_path: Path) -> None:
    """The same over HTTP: four workers, and clients that all want the same thing at once."""
    import threading

    (tmp_path / "policy.yaml").write_text(racing.POLICY)
    people = ("bob", "dave", "erin", "zoe")
    with servers.mlflow_server(
        tmp_path,
        registry=f"approval-sqlite:///{tmp_path / 'mlflow.db'}",
        app_name="basic-auth",
        workers=4,
        MLFLOW_PACK_APPROVALS_POLICY=str(tmp_path / "policy.yaml"),
    ) as server:
        for name in people:
            servers.create_user(server, name, servers.PASSWORD)
        servers.make_sign_in_cheap(tmp_path)
        with servers.credentials(*servers.ADMIN):
            client = MlflowClient(server.url, server.url)
            run = client.create_run("0")
            client.log_text(run.info.run_id, "weights", "model/weights.txt")
            client.create_registered_model("gov-a")
            client.create_model_version("gov-a", f"{run.info.artifact_uri}/model", run.info.run_id)
        answers: collections.Counter[int] = collections.Counter()

        def race(user: str) -> None:
            import requests

            with requests.Session() as session:
                session.auth = (user, servers.PASSWORD)
                for _ in range(6):
                    if user in ("bob", "dave"):
                        key, value = "approvals.approve", "prod: fine"
                        path = "model-versions/set-tag"
                        body = {"name": "gov-a", "version": "1", "key": key, "value": value}
                    else:
                        path = "registered-models/alias"
                        body = {"name": "gov-a", "alias": "prod", "version": "1"}
                    url = f"{server.url}/api/2.0/mlflow/{path}"
                    answers[session.post(url, json=body, timeout=120).status_code] += 1

        racers = [threading.Thread(target=race, args=(people[n % 4],)) for n in range(16)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert sum(answers.values()) == 96
        assert set(answers) <= {200, 403, 404}, answers
        with servers.credentials("erin", servers.PASSWORD):
            try:
                client.set_registered_model_alias("gov-a", "prod", "1")
            except MlflowException as exc:
                pytest.fail(exc.message)
            assert client.get_model_version_by_alias("gov-a", "prod").version == "1"
    with inspection.connected(f"sqlite:///{tmp_path / 'mlflow.db'}") as connection:
        applied = inspection.audit_entries(connection, action="APPLIED")
    assert len(applied) == 1
