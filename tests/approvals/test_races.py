"""Many clients at several workers of one server: nothing lost, nothing done twice, no 500.

The default is small; ``RACE_SIZE=4x16x40 pytest -s tests/approvals/test_races.py`` has 4 workers,
16 clients for each of them, and 40 calls from each client, and prints what they came to.
"""

from __future__ import annotations

import collections
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlflow_plugins_pack.approvals import audit, drift, history, inspection, tables
from mlflow_plugins_pack.approvals.plugin import build_store
from mlflow_plugins_pack.approvals.workflow import State
from tests import servers
from tests.approvals import racing
from tests.approvals.acting import signed_in

WORKERS, CLIENTS, ROUNDS = map(int, os.environ.get("RACE_SIZE", "2x8x8").split("x"))


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def registry(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Any]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'registry.db'}"
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


@pytest.mark.timeout(3600)
def test_nothing_is_lost_and_nothing_done_twice(
    registry: tuple[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, store = registry
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # a 503 is to be seen
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
    with servers.mlflow_server(
        tmp_path,
        registry=f"approval-{url}",
        app_name="basic-auth",
        workers=WORKERS,
        MLFLOW_PACK_APPROVALS_POLICY=str(tmp_path / "policy.yaml"),
        MLFLOW_AUTH_CONFIG_PATH=str(servers.write_auth_config(tmp_path, "MANAGE")),
    ) as server:
        for name in racing.PEOPLE:
            servers.create_user(server, name, servers.PASSWORD)
        servers.make_sign_in_cheap(tmp_path)
        race = racing.Race(server.url)
        began = time.monotonic()
        race.run(WORKERS * CLIENTS, ROUNDS)
        seconds = time.monotonic() - began
        printed = server.log.read_text()
    calls = sum(race.outcomes.values())
    came_to = dict(sorted(race.outcomes.items()))
    sys.stdout.write(f"\n{url.split(':')[0]}: {calls} calls in {seconds:.0f} s: {came_to}\n")
    assert calls == WORKERS * CLIENTS * ROUNDS
    assert race.broken == []
    assert "Traceback" not in printed, printed[-4000:]
    _check(store, race.voted)
    store.engine.dispose()


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
