"""The holders of a target over time, from entries of the audit log."""

from __future__ import annotations

import json
from typing import Any

from mlflow_plugins_pack.approvals.reports.holders import tenures


def entry(at: int, what: str, version: int | None, target: str | None, **after: Any) -> Any:
    return {
        "created_at": at,
        "action": what,
        "version": version,
        "target": target,
        "actor": "alice",
        "request_id": f"r{at}",
        "after": json.dumps(after) if after else None,
    }


def spans(entries: list[Any], target: str) -> list[tuple[int | None, int, int | None]]:
    return [(t.version, t.since, t.until) for t in tenures(entries)[target]]


def test_an_alias_has_one_holder_at_a_time() -> None:
    prod = "alias:prod"
    entries = [
        entry(1, "APPLIED", 1, prod, action="promote", approvers=["bob"]),
        entry(2, "APPLIED", 2, prod, action="promote"),
        entry(3, "APPLIED", 2, prod, action="demote"),
        entry(4, "APPLIED", 1, prod, action="promote", basis={"kind": "rollback"}),
        entry(5, "VERSION_DELETED", 2, None),
    ]
    assert spans(entries, prod) == [(1, 4, None), (2, 2, 3), (1, 1, 2)]
    newest, _, oldest = tenures(entries)[prod]
    assert (oldest.approvers, newest.basis, newest.request_id) == (("bob",), "rollback", "r4")
    assert spans([*entries, entry(6, "VERSION_DELETED", 1, None)], prod)[0] == (1, 4, 6)
    assert spans([*entries, entry(6, "MODEL_RENAMED", None, None)], prod)[0] == (1, 4, 6)


def test_a_stage_may_have_several_holders() -> None:
    stage = "stage:Production"
    entries = [
        entry(1, "APPLIED", 1, stage, action="promote"),
        entry(2, "APPLIED", 2, stage, action="promote"),
        entry(3, "SYSTEM_TRANSITION", 1, stage),
        entry(4, "SYSTEM_TRANSITION", 2, "stage:Staging"),
    ]
    assert spans(entries, stage) == [(2, 2, None), (1, 1, 3)]
