"""Reads the approved changes of the past from the audit log, with what was known at the time."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.database.tables import audit as audit_table
from mlflow_plugins_pack.approvals.database.tables import policies, user_claims
from mlflow_plugins_pack.approvals.domain.basis import Basis
from mlflow_plugins_pack.approvals.domain.targets import parse_target
from mlflow_plugins_pack.approvals.ledger.holder_history import History
from mlflow_plugins_pack.approvals.ledger.requests import (
    Request,
    find_requests,
    votes,
)
from mlflow_plugins_pack.approvals.policy.models import Policy
from mlflow_plugins_pack.approvals.policy.parse import parse_policy
from mlflow_plugins_pack.approvals.reports.replay import (
    AppliedChange,
    AppliedVote,
    KnownClaims,
    SeenTag,
)
from mlflow_plugins_pack.errors import (
    PolicyInvalidError,
)

# What tells who holds what, and what was known of a version.
_TOLD = ("APPLIED", "SYSTEM_TRANSITION", "VERSION_DELETED", "MODEL_DELETED", "MODEL_RENAMED")


def past_changes(connection: sa.Connection) -> list[AppliedChange]:
    """Return every approved change that was made, oldest first, with what was known then."""
    requested = {request.id: request for request in find_requests(connection)}
    in_force = _policies(connection)
    told = History()
    tags: dict[tuple[str, str], dict[int, dict[str, SeenTag]]] = {}
    changes: list[AppliedChange] = []
    query = (
        sa.select(audit_table)
        .where(audit_table.c.action.in_(("CHECK_TAG_SET", "BREAK_GLASS_REVIEWED", *_TOLD)))
        .order_by(audit_table.c.seq)
    )
    for row in connection.execute(query):
        after = json.loads(row.after or "{}")
        model = (row.workspace, row.name)
        if row.action == "CHECK_TAG_SET":
            seen = SeenTag(after.get("value"), row.actor, row.created_at)
            tags.setdefault(model, {}).setdefault(row.version, {})[after.get("tag", "")] = seen
            continue
        if row.action == "BREAK_GLASS_REVIEWED":
            _note_review(changes, row)
            continue
        if row.action == "MODEL_DELETED":
            tags.pop(model, None)
        request = requested.get(row.request_id) if row.action == "APPLIED" else None
        if request is not None:
            known = tags.get(model, {}).get(row.version, {})
            held = told.held_by(*model, row.version)
            policy = in_force.get(row.policy_sha256)
            changes.append(_applied_change(connection, row, after, request, known, held, policy))
        told.step(dict(row._mapping))
    return changes


def _note_review(changes: list[AppliedChange], row: Any) -> None:
    """Note that the last change of a version's target was approved afterwards."""
    about = (row.workspace, row.name, row.version, row.target)
    for place in range(len(changes) - 1, -1, -1):
        change = changes[place]
        if (change.workspace, change.name, change.version, change.target.key) == about:
            changes[place] = replace(change, is_reviewed=True)
            return


def _applied_change(
    connection: sa.Connection,
    row: Any,
    after: dict[str, Any],
    request: Request,
    tags: dict[str, SeenTag],
    held: frozenset[str],
    policy: Policy | None,
) -> AppliedChange:
    there = mlflow_tables.find_version(connection, row.workspace, row.name, row.version)
    is_same = there is not None and there.uid == request.version_uid
    cast = votes(connection, request.id)
    return AppliedChange(
        workspace=row.workspace,
        name=row.name,
        version=row.version,
        uid=request.version_uid,
        target=request.target,
        action=request.action,
        ts=row.created_at,
        actor=row.actor,
        requester=request.requester,
        requested_at=request.created_at,
        creator=request.creator,
        run_user=request.run_user,
        votes=tuple(AppliedVote(v.approver, v.decided_at) for v in cast if v.verdict == "approve"),
        digest=request.digest,
        basis=Basis.from_fields(after.get("basis")),
        tags=dict(tags),
        held=frozenset(map(parse_target, held)),
        policy=policy,
        is_prompt=there.is_prompt if there is not None and is_same else True,
        has_files=there.has_files if there is not None and is_same else True,
    )


def _policies(connection: sa.Connection) -> dict[str, Policy]:
    """Return the policies that requests were made under, as far as this version can read them."""
    found = {}
    for row in connection.execute(sa.select(policies)):
        with contextlib.suppress(PolicyInvalidError):
            found[row.sha256] = parse_policy(row.text, row.sha256)
    return found


def known_claims(connection: sa.Connection) -> dict[str, KnownClaims]:
    """Return the claims that each person was last seen with, and since when."""
    return {
        row.username: KnownClaims(frozenset(json.loads(row.claims)), row.seen_at)
        for row in connection.execute(sa.select(user_claims))
    }
