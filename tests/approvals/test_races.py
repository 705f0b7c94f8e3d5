"""Many clients at several workers of one server: nothing lost, nothing done twice, no 500.

The default is small; ``RACE_SIZE=4x16x40 pytest -s tests/approvals/test_races.py`` has 4 workers,
16 clients for each of them, and 40 calls from each client, and prints what they came to.
"""

from __future__ import annotations

import collections
import sys
import time
from typing import Any

import pytest
import sqlalchemy as sa

from mlflow_plugins_pack.approvals import audit, drift, history, inspection, tables
from mlflow_plugins_pack.approvals.workflow import State
from tests.approvals import racing
from tests.approvals.conftest import DATABASES
from tests.approvals.sites import CLIENTS, ROUNDS, WORKERS, Site


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("running_site", DATABASES, indirect=True)
def test_nothing_is_lost_and_nothing_done_twice(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # a 503 is to be seen
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
    for name in racing.MODELS:
        for _ in racing.VERSIONS:
            site.version(name)
    printed_before = len(site.server.log.read_text())
    race = racing.Race(site.server.url)
    began = time.monotonic()
    race.run(WORKERS * CLIENTS, ROUNDS)
    seconds = time.monotonic() - began
    calls = sum(race.outcomes.values())
    came_to = dict(sorted(race.outcomes.items()))
    kind = site.store.engine.dialect.name
    sys.stdout.write(f"\n{kind}: {calls} calls in {seconds:.0f} s: {came_to}\n")
    assert calls == WORKERS * CLIENTS * ROUNDS
    assert race.broken == []
    printed = site.server.log.read_text()[printed_before:]
    assert "Traceback" not in printed, printed[-4000:]
    _check(site.store, race.voted)


def _check(store: Any, voted: set[tuple[Any, ...]]) -> None:
    with store.engine.connect() as connection:
        entries = [
            entry
            for entry in inspection.audit_entries(connection)
            if entry["name"] in racing.MODELS
        ]
        requests = [
            request
            for request in inspection.requests_in(connection)
            if request["model"] in racing.MODELS
        ]
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
    strays = store._transactions.read(lambda s: drift.find(s, policy))
    assert [stray for stray in strays if stray.model in racing.MODELS] == []
    by_log = {(h.model, h.target, h.version) for h in history.holders_at(entries)}
    now = set()
    for name in racing.MODELS:
        for alias, version in store.get_registered_model(name).aliases.items():
            now.add((name, f"alias:{alias}", int(version)))
        for found in store.get_latest_versions(name, ["Production"]):
            now.add((name, "stage:Production", int(found.version)))
    assert now <= by_log
    assert {entry for entry in by_log if entry[1].startswith("alias:")} <= now
