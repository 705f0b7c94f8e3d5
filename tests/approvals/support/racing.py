"""Random calls of random people on one server, and what came of them."""

from __future__ import annotations

import collections
import random
import threading
import traceback
from typing import Any

import sqlalchemy as sa
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.rest_store import RestStore
from mlflow.utils.rest_utils import MlflowHostCreds

from mlflow_plugins_pack.approvals.background import drift
from mlflow_plugins_pack.approvals.database import tables
from mlflow_plugins_pack.approvals.domain.request_states import State
from mlflow_plugins_pack.approvals.ledger import audit_log, holder_history
from mlflow_plugins_pack.approvals.reports import listings
from tests.support import servers

MODELS = ("race-a", "race-b")
VERSIONS = (1, 2)
PEOPLE = ("bob", "carol", "dave", "erin", "zoe")
# The more often a step is named, the more often it is taken.
STEPS = (
    *(("bob", "approve"), ("carol", "approve"), ("dave", "approve")) * 2,
    *(("erin", "request"), ("zoe", "request")),
    ("erin", "cancel"),
    ("carol", "reject"),
    *(("erin", "set"), ("zoe", "set")) * 3,
    ("erin", "unset"),
    ("zoe", "stage"),
    ("zoe", "unstage"),
)


class Race:
    """Threads of stock REST clients that all start at once.

    Attributes:
        outcomes: How often each step came to what.
        voted: Whose vote for what was taken: (user, model, version).
        broken: What no answer may be: a server error, or none at all.
    """

    def __init__(self, url: str) -> None:
        self._stores = {user: _client(url, user) for user in PEOPLE}
        self._lock = threading.Lock()
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.voted: set[tuple[str, str, int]] = set()
        self.broken: list[str] = []

    def run(self, threads: int, rounds: int) -> None:
        """Have so many threads make so many calls each."""
        start = threading.Barrier(threads)

        def calls(seed: int) -> None:
            luck = random.Random(seed)
            start.wait()
            for _ in range(rounds):
                self._step(*luck.choice(STEPS), luck.choice(MODELS), luck.choice(VERSIONS))

        racers = [threading.Thread(target=calls, args=(seed,)) for seed in range(threads)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()

    def _step(self, user: str, step: str, name: str, version: int) -> None:
        came, broke = "done", None
        try:
            self._call(user, step, name, version)
        except MlflowException as exc:
            came = exc.message.partition(": ")[2].partition(":")[0]
            if exc.get_http_status_code() >= 500:
                broke = f"{user} {step} {name}/{version}: {exc.message}"
        except Exception:
            came, broke = "broken", traceback.format_exc()
        with self._lock:
            self.outcomes[f"{step}: {came}"] += 1
            if broke is not None:
                self.broken.append(broke)
            elif (step, came) == ("approve", "done"):
                self.voted.add((user, name, version))

    def _call(self, user: str, step: str, name: str, version: int) -> None:
        store = self._stores[user]
        if step == "set":
            store.set_registered_model_alias(name, "prod", str(version))
        elif step == "unset":
            store.delete_registered_model_alias(name, "prod")
        elif step in ("stage", "unstage"):
            stage = "Production" if step == "stage" else "Archived"
            store.transition_model_version_stage(name, str(version), stage, step == "stage")
        else:
            tag = ModelVersionTag(f"approvals.{step}", "prod: race")
            store.set_model_version_tag(name, str(version), tag)


def _client(url: str, user: str) -> Any:
    # What the stock client talks through; unlike it, each has credentials of its own.
    creds = MlflowHostCreds(url, username=user, password=servers.PASSWORD)
    return RestStore(lambda: creds)


def check(store: Any, voted: set[tuple[str, str, int]]) -> int:
    """Check what a race has left: nothing lost, nothing done twice, all of it in the log.

    Returns:
        The number of requests that were applied.
    """
    with store.engine.connect() as connection:
        entries = [entry for entry in listings.audit_entries(connection) if entry["name"] in MODELS]
        requests = [
            request for request in listings.requests_in(connection) if request["model"] in MODELS
        ]
        decisions = connection.execute(sa.select(tables.decisions)).all()
        assert audit_log.verify(connection).is_intact

    # Each request that was applied was applied once.
    applied = collections.Counter(e["request_id"] for e in entries if e["action"] == "APPLIED")
    assert set(applied.values()) <= {1}
    states = {request["id"]: request["state"] for request in requests}
    assert set(applied) == {key for key, state in states.items() if state == State.APPLIED.value}

    # Each user whose vote was accepted is in the log, and with the request.
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
    policy = store.governance.policy()
    findings = store._transactions.read(lambda s: drift.find(s, policy))
    assert [finding for finding in findings if finding.model in MODELS] == []
    by_log = {(h.model, h.target, h.version) for h in holder_history.holders_at(entries)}
    now = set()
    for name in MODELS:
        for alias, version in store.get_registered_model(name).aliases.items():
            now.add((name, f"alias:{alias}", int(version)))
        for found in store.get_latest_versions(name, ["Production"]):
            now.add((name, "stage:Production", int(found.version)))
    assert now <= by_log
    assert {entry for entry in by_log if entry[1].startswith("alias:")} <= now
    return len(applied)
