"""Removes tags under the reserved prefix that say what the ledger does not.

Anyone could write such tags before the store came into use, or with a stock store on the same
database, and every client of a server would believe them. Only the ledger is believed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database import mlflow_tables, projection_tags
from mlflow_plugins_pack.approvals.database.projection_tags import StoredTag
from mlflow_plugins_pack.approvals.database.tables import decisions, grants, requests
from mlflow_plugins_pack.approvals.database.transactions import Transactions
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.domain.projection import (
    APPROVAL_SUFFIX,
    REQUEST_SUFFIX,
    HolderApproval,
    TargetState,
    TargetStatus,
)
from mlflow_plugins_pack.approvals.domain.tag_names import PROJECTION_PREFIX
from mlflow_plugins_pack.approvals.domain.targets import Target, parse_target
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.policy.models import Policy

_logger = logging.getLogger(__name__)

ACTOR = "system:tags"
_LONGEST_VALUE = 500
"""Of a removed tag's value as the audit log keeps it."""
_FEW = 200
_CLOSED_BY_OTHERS = (TargetState.REPLACED, TargetState.LEFT)


@dataclass(frozen=True)
class _Facts:
    """What the ledger says about the models that have such tags."""

    requests: dict[str, Any]
    voters: dict[str, frozenset[str]]
    grants: dict[tuple[str, str, str, int], Any]
    applied: frozenset[tuple[str, str, str, int]]


def find(
    session: Session, workspace: str | None = None, name: str | None = None
) -> list[StoredTag]:
    """Return the tags that the ledger does not back, of one model or of all."""
    tags = list(projection_tags.stored(session, workspace, name))
    if not tags:
        return []
    facts = _facts(session, tags)
    values = {(tag.workspace, tag.name, tag.version, tag.key): tag.value for tag in tags}
    return [tag for tag in tags if not _is_backed(tag, values, facts)]


def remove(transactions: Transactions, policy: Policy) -> int:
    """Remove the tags that the ledger does not back, and say so in the log and the audit log.

    Returns:
        The number of tags removed.
    """
    suspects = transactions.read(find)
    count = 0
    for workspace, name in sorted({(tag.workspace, tag.name) for tag in suspects}):
        removed = transactions.write(
            lambda s, w=workspace, n=name: _remove_of(s, w, n, policy)  # type: ignore[misc]
        )
        count += len(removed)
        for tag in removed:
            version = "" if tag.version is None else f" version {tag.version}"
            _logger.warning(
                "The tag %s = %r of '%s'%s was removed: no request or approval backs it",
                tag.key,
                tag.value[:_LONGEST_VALUE],
                name,
                version,
            )
    return count


def _remove_of(session: Session, workspace: str, name: str, policy: Policy) -> list[StoredTag]:
    mlflow_tables.lock_model(session, workspace, name)
    found = find(session, workspace, name)
    ledger = Ledger(session, clock.now_ms(), ACTOR, policy)
    for tag in found:
        projection_tags.remove(session, tag)
        ledger.record(
            "UNBACKED_TAG_REMOVED",
            workspace=workspace,
            name=name,
            version=tag.version,
            after={"tag": tag.key[:_LONGEST_VALUE], "value": tag.value[:_LONGEST_VALUE]},
        )
    return found


def _is_backed(
    tag: StoredTag, values: dict[tuple[str, str, int | None, str], str], facts: _Facts
) -> bool:
    if tag.version is None or not tag.key.startswith(PROJECTION_PREFIX):
        return False
    body = tag.key.removeprefix(PROJECTION_PREFIX)
    try:
        if body.endswith(APPROVAL_SUFFIX):
            target = parse_target(body.removesuffix(APPROVAL_SUFFIX))
            approval = HolderApproval.from_json(tag.value)
            return _is_held(facts.grants.get(_place(tag, target)), approval, facts)
        target = parse_target(body.removesuffix(REQUEST_SUFFIX))
        key = f"{PROJECTION_PREFIX}{target.tag}{REQUEST_SUFFIX}"
        text = values[tag.workspace, tag.name, tag.version, key]
        status = TargetStatus.from_json(text)
    except (KeyError, ValueError):
        return False
    if body.endswith(REQUEST_SUFFIX):
        return _is_true(status, _place(tag, target), facts)
    return tag.value == status.text and _is_true(status, _place(tag, target), facts)


def _place(tag: StoredTag, target: Target) -> tuple[str, str, str, int]:
    return tag.workspace, tag.name, target.key, tag.version or 0


def _is_held(grant: Any, approval: HolderApproval, facts: _Facts) -> bool:
    return (
        grant is not None
        and grant.review_by is None
        and grant.digest == approval.digest
        and approval.request_id in facts.requests
    )


def _is_true(status: TargetStatus, place: tuple[str, str, str, int], facts: _Facts) -> bool:
    if status.state in _CLOSED_BY_OTHERS:
        return place in facts.applied and place not in facts.grants
    request = facts.requests.get(status.request_id or "")
    return (
        request is not None
        and (request.workspace, request.name, request.target, request.version) == place
        and (request.state, request.action) == (status.state.value, status.action)
        and facts.voters.get(request.id, frozenset()).issuperset(status.approvers)
    )


def _facts(session: Session, tags: Sequence[StoredTag]) -> _Facts:
    names = sorted({tag.name for tag in tags})
    asked = _rows(session, sa.select(requests), requests.c.name, names)
    held = _rows(session, sa.select(grants), grants.c.name, names)
    approving = sa.select(decisions).where(decisions.c.verdict == "approve")
    ids = [request.id for request in asked]
    voters: dict[str, set[str]] = {}
    for vote in _rows(session, approving, decisions.c.request_id, ids):
        voters.setdefault(vote.request_id, set()).add(vote.approver)
    return _Facts(
        {request.id: request for request in asked},
        {key: frozenset(people) for key, people in voters.items()},
        {(g.workspace, g.name, g.target, g.version): g for g in held},
        frozenset(
            (r.workspace, r.name, r.target, r.version) for r in asked if r.state == "APPLIED"
        ),
    )


def _rows(
    session: Session, query: sa.Select[Any], column: sa.Column[Any], values: Sequence[str]
) -> list[Any]:
    parts: Iterable[Sequence[str]] = (
        values[start : start + _FEW] for start in range(0, len(values), _FEW)
    )
    return [row for part in parts for row in session.execute(query.where(column.in_(part)))]
