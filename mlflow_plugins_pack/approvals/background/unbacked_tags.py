"""Removes tags under the reserved prefix that say what the ledger does not.

Anyone could write such tags before the store came into use, or with a stock store on the same
database, and every client of a server would believe them. Only the ledger is believed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database import mlflow_tables, projection_tags
from mlflow_plugins_pack.approvals.database.projection_tags import StoredTag
from mlflow_plugins_pack.approvals.database.tables import decisions, grants, requests
from mlflow_plugins_pack.approvals.database.transactions import Transactions
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.domain.basis import BasisKind
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
    """What the ledger says about the models that have such tags, and what the tags say."""

    values: dict[tuple[str, str, int | None, str], str]
    requests: dict[str, Any]
    voters: dict[str, frozenset[str]]
    grants: dict[tuple[str, str, str, int], Any]
    applied: frozenset[tuple[str, str, str, int]]
    fitted: Callable[[str], str]


def find(
    session: Session, workspace: str | None = None, name: str | None = None
) -> list[StoredTag]:
    """Return the tags that the ledger does not back, of one model or of all."""
    tags = list(projection_tags.stored(session, workspace, name))
    if not tags:
        return []
    facts = _facts(session, tags)
    return [tag for tag in tags if not _is_backed(tag, facts)]


def false_approvals(session: Session, tags: Sequence[StoredTag]) -> list[StoredTag]:
    """Return those of some versions' tags that show an approval which the ledger does not back.

    A tag that shows less than the ledger is not among them: it may be older by a moment.
    """
    versions = sorted({tag.version for tag in tags if tag.version is not None})
    facts = _facts(session, tags, versions)
    return [tag for tag in tags if not _is_backed(tag, facts, may_be_older=True)]


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


def _is_backed(tag: StoredTag, facts: _Facts, *, may_be_older: bool = False) -> bool:
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
        text = facts.values[tag.workspace, tag.name, tag.version, key]
        status = TargetStatus.from_json(text)
    except (KeyError, ValueError):
        return False
    if not body.endswith(REQUEST_SUFFIX) and tag.value != facts.fitted(status.text):
        return False
    if may_be_older:
        return not status.state.is_approved or _is_true(status, _place(tag, target), facts, _LATER)
    return _is_true(status, _place(tag, target), facts)


def _place(tag: StoredTag, target: Target) -> tuple[str, str, str, int]:
    return tag.workspace, tag.name, target.key, tag.version or 0


def _is_held(grant: Any, approval: HolderApproval, facts: _Facts) -> bool:
    return (
        grant is not None
        and grant.review_by is None
        and grant.digest == approval.digest
        and approval.request_id in facts.requests
    )


_LATER = {TargetState.APPROVED: TargetState.APPLIED}


def _is_true(
    status: TargetStatus,
    place: tuple[str, str, str, int],
    facts: _Facts,
    later: Mapping[TargetState, TargetState] = MappingProxyType({}),
) -> bool:
    """Return whether the ledger says the same, or what follows by `later`."""
    if status.state in _CLOSED_BY_OTHERS:
        return place in facts.applied and place not in facts.grants
    request = facts.requests.get(status.request_id or "")
    states = {status.state.value, later.get(status.state, status.state).value}
    return (
        request is not None
        and (request.workspace, request.name, request.target, request.version) == place
        and request.state in states
        and request.action == status.action
        and facts.voters.get(request.id, frozenset()).issuperset(status.approvers)
        and not _hides_break_glass(status, facts.grants.get(place))
    )


def _hides_break_glass(status: TargetStatus, grant: Any) -> bool:
    """Return whether an emergency change that was not reviewed is shown as an approved one."""
    return (
        status.state is TargetState.APPLIED
        and status.action == "promote"
        and status.basis.kind is not BasisKind.BREAK_GLASS
        and grant is not None
        and grant.request_id == status.request_id
        and grant.review_by is not None
    )


def _facts(
    session: Session, tags: Sequence[StoredTag], versions: Sequence[int] | None = None
) -> _Facts:
    """Read what the ledger says about the tags' models, or about some versions of them only."""
    names = sorted({tag.name for tag in tags})

    def about(table: sa.Table) -> list[Any]:
        query = sa.select(table)
        if versions is not None:
            query = query.where(table.c.version.in_(versions))
        return _rows(session, query, table.c.name, names)

    asked, held = about(requests), about(grants)
    approving = sa.select(decisions).where(decisions.c.verdict == "approve")
    ids = [request.id for request in asked]
    voters: dict[str, set[str]] = {}
    for vote in _rows(session, approving, decisions.c.request_id, ids):
        voters.setdefault(vote.request_id, set()).add(vote.approver)
    return _Facts(
        {(tag.workspace, tag.name, tag.version, tag.key): tag.value for tag in tags},
        {request.id: request for request in asked},
        {key: frozenset(people) for key, people in voters.items()},
        {(g.workspace, g.name, g.target, g.version): g for g in held},
        frozenset(
            (r.workspace, r.name, r.target, r.version) for r in asked if r.state == "APPLIED"
        ),
        lambda text: projection_tags.fit(text, projection_tags.charset_of_tags(session)),
    )


def _rows(
    session: Session, query: sa.Select[Any], column: sa.Column[Any], values: Sequence[str]
) -> list[Any]:
    parts: Iterable[Sequence[str]] = (
        values[start : start + _FEW] for start in range(0, len(values), _FEW)
    )
    return [row for part in parts for row in session.execute(query.where(column.in_(part)))]
