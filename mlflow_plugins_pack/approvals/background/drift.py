"""Finds protected targets changed without approval: by raw SQL, imports, restored backups, moves.

MLflow's tables say which version holds a protected target; ``mpp_grant`` says which one may; the
audit log says who approved that. Where the three differ, the server was bypassed, or the target was
set before the policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.content import digest
from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.database.tables import audit, grants, requests
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.domain.request_states import State, due_state
from mlflow_plugins_pack.approvals.domain.targets import Target, parse_target
from mlflow_plugins_pack.approvals.policy.models import Policy
from mlflow_plugins_pack.errors import DigestUnavailableError


class DriftKind(str, Enum):
    """The kinds of difference from what was approved."""

    UNAPPROVED = "unapproved"
    """A version holds it without approval."""
    REMOVED = "removed"
    """An approved holder lost it without approval."""
    CHANGED = "changed"
    """The holder is not what was approved."""
    UNAUDITED = "unaudited"
    """A grant has no entry in the audit log."""
    UNREVIEWED = "unreviewed"
    """A break-glass change was not approved in time."""


@dataclass(frozen=True)
class DriftFinding:
    """One difference between what holds a protected target and what was approved.

    Attributes:
        workspace: The model's workspace.
        model: The model's name.
        version: The version that holds the target now, or held it.
        target: The protected target as people type it.
        kind: How it differs.
        why: The same in a sentence for people.
    """

    workspace: str
    model: str
    version: int
    target: str
    kind: DriftKind
    why: str

    def as_row(self) -> dict[str, Any]:
        """Return it as a plain row."""
        return {**asdict(self), "kind": self.kind.value}


def find(session: Session, policy: Policy, now_ms: int | None = None) -> list[DriftFinding]:
    """Return every difference about targets that the policy protects.

    Args:
        session: To read with.
        policy: In force.
        now_ms: Milliseconds since the epoch; None: now.
    """
    now_ms = now_ms or clock.now_ms()
    holders = {
        (version.workspace, version.name, target.key, version.version): (target, version)
        for target, version in mlflow_tables.every_holding(session)
        if _is_protected(policy, target, version)
    }
    granted = {(g.workspace, g.name, g.target, g.version): g for g in _grants(session)}
    findings = [
        finding
        for key, (target, version) in holders.items()
        if (finding := _judge(session, target, version, granted.get(key), now_ms)) is not None
    ]
    replaced = {
        (s.workspace, s.model, s.target) for s in findings if s.kind == DriftKind.UNAPPROVED
    }
    models = set(mlflow_tables.all_models(session))
    for key, grant in granted.items():
        target = parse_target(grant.target)
        place = (grant.workspace, grant.name, target.tag)
        # An alias that points elsewhere is reported once, as the holder without approval.
        if key in holders or (target.kind == "alias" and place in replaced):
            continue
        if _could_protect(policy, target, grant.workspace, grant.name):
            there = (grant.workspace, grant.name) in models
            why = f"version {grant.version} was approved for it and lost it without approval" + (
                "" if there else ": the model was deleted, renamed or moved"
            )
            findings.append(
                DriftFinding(*place[:2], grant.version, target.tag, DriftKind.REMOVED, why)
            )
    findings += _unreviewed_demotions(session, policy, now_ms)
    return sorted(findings, key=lambda s: (s.workspace, s.model, s.target, s.version))


def _is_protected(policy: Policy, target: Target, version: Version) -> bool:
    rules = policy.rules_about(
        version.workspace, version.name, is_prompt=version.is_prompt, has_files=version.has_files
    )
    return any(rule.protected(target) for rule in rules)


def _could_protect(policy: Policy, target: Target, workspace: str, name: str) -> bool:
    rules = policy.rules_that_may(workspace, name)
    return any(rule.protected(target) is not None for rule in rules)


def _judge(
    session: Session, target: Target, version: Version, grant: Any, now_ms: int
) -> DriftFinding | None:
    def finding(kind: DriftKind, why: str) -> DriftFinding:
        return DriftFinding(version.workspace, version.name, version.version, target.tag, kind, why)

    if grant is None:
        return finding(DriftKind.UNAPPROVED, f"version {version.version} holds it without approval")
    if not grant.is_audited:
        return finding(DriftKind.UNAUDITED, "a grant has no entry in the audit log")
    if grant.version_uid != version.uid:
        return finding(
            DriftKind.CHANGED, "its source or run was changed, or it was registered again"
        )
    if grant.review_by is not None and grant.review_by <= now_ms:
        return finding(
            DriftKind.UNREVIEWED, "break-glass was used, and its review was not approved in time"
        )
    if version.is_prompt and not version.has_files:
        try:
            now = digest.version_digest(version, mlflow_tables.version_tags(session, version))
        except DigestUnavailableError:
            now = None
        if now != grant.digest:
            return finding(DriftKind.CHANGED, "its text is not the one that was approved")
    return None


_REVIEWED = requests.alias("reviewed")
_LATER = requests.alias("later")
# Of what was taken away there is no grant to go by, but its review; it is forgotten about once a
# later change of the target was approved.
_REVIEWS_OF_DEMOTIONS = sa.select(_REVIEWED).where(
    _REVIEWED.c.action == "review",
    _REVIEWED.c.holder_uid.is_(None),
    _REVIEWED.c.state.in_((State.PENDING.value, State.REJECTED.value, State.EXPIRED.value)),
    ~sa.select(sa.literal(1))
    .where(
        _LATER.c.workspace == _REVIEWED.c.workspace,
        _LATER.c.name == _REVIEWED.c.name,
        _LATER.c.target == _REVIEWED.c.target,
        _LATER.c.action != "review",
        _LATER.c.state == State.APPLIED.value,
        _LATER.c.updated_at > _REVIEWED.c.created_at,
    )
    .exists(),
)


def _unreviewed_demotions(session: Session, policy: Policy, now_ms: int) -> Iterator[DriftFinding]:
    for review in session.execute(_REVIEWS_OF_DEMOTIONS):
        target = parse_target(review.target)
        found = mlflow_tables.find_version(session, review.workspace, review.name, review.version)
        if found is None or found.uid != review.version_uid:
            continue
        state = due_state(State(review.state), now_ms, review.expires_at, None)
        if state is State.PENDING or not _is_protected(policy, target, found):
            continue
        rejected = f"its review was rejected {review.reason or ''}".rstrip()
        what = rejected if state is State.REJECTED else "its review was not approved in time"
        why = f"{review.requester} took it away by break-glass, and {what}"
        yield DriftFinding(
            found.workspace, found.name, found.version, target.tag, DriftKind.UNREVIEWED, why
        )


def _grants(session: Session) -> Iterator[Any]:
    """Yield the grants, each with whether the log has an entry by that request for that target."""
    entry = (
        sa.select(sa.literal(1))
        .where(
            audit.c.request_id == grants.c.request_id,
            audit.c.workspace == grants.c.workspace,
            audit.c.name == grants.c.name,
            audit.c.target == grants.c.target,
            audit.c.version == grants.c.version,
        )
        .exists()
    )
    yield from session.execute(sa.select(grants, entry.label("is_audited")))
