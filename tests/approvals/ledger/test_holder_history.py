"""Holders at any time, derived from the log."""

from __future__ import annotations

import json
from typing import Any

from mlflow_plugins_pack.approvals.ledger.holder_history import holders_at


def entry(
    ts: int, what: str, version: int | None, target: str | None, /, **after: Any
) -> dict[str, Any]:
    return {
        "created_at": ts,
        "action": what,
        "workspace": "default",
        "name": "m",
        "version": version,
        "target": target,
        "actor": "erin",
        "request_id": f"r{ts}",
        "after": json.dumps(after) if after else None,
    }


PROD, STAGE = "alias:prod", "stage:Production"
LOG = [
    entry(5, "REQUESTED", 1, PROD, action="promote"),
    entry(10, "APPLIED", 1, PROD, action="promote", approvers=["bob"], digest="sha256:1"),
    entry(20, "APPLIED", 1, STAGE, action="promote"),
    entry(30, "APPLIED", 2, PROD, action="promote", approvers=["carol"]),
    entry(40, "APPLIED", 2, STAGE, action="promote"),
    entry(50, "SYSTEM_TRANSITION", 1, STAGE, by=2),
    entry(60, "APPLIED", 2, PROD, action="demote"),
    entry(70, "VERSION_DELETED", 2, None),
    entry(80, "APPLIED", 3, PROD, action="promote"),
    entry(90, "MODEL_DELETED", None, None),
]


def held(at: int | None) -> list[tuple[str, int]]:
    return [(h.target, h.version) for h in holders_at(LOG, at)]


def test_each_moment_has_its_holders() -> None:
    assert held(9) == []
    assert held(10) == [(PROD, 1)]
    assert held(25) == [(PROD, 1), (STAGE, 1)]
    assert held(45) == [(PROD, 2), (STAGE, 1), (STAGE, 2)]
    assert held(55) == [(PROD, 2), (STAGE, 2)]
    assert held(65) == [(STAGE, 2)]
    assert held(75) == []
    assert held(85) == [(PROD, 3)]
    assert held(None) == []


def test_a_holding_says_who_approved_it() -> None:
    (holding,) = holders_at(LOG, 15)
    assert holding.approvers == ("bob",)
    assert (holding.since, holding.actor, holding.request_id) == (10, "erin", "r10")
    assert holding.digest == "sha256:1"
