"""Makes an approved change in the caller's transaction, and records everything that follows."""

from __future__ import annotations

from typing import Any

from mlflow_plugins_pack.approvals.database import batched_writes, mlflow_tables, projection_tags
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.domain.basis import BasisKind
from mlflow_plugins_pack.approvals.domain.projection import (
    HolderApproval,
    TargetState,
    TargetStatus,
)
from mlflow_plugins_pack.approvals.domain.request_states import State
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.enforcement.change import Decision, VoteStatus
from mlflow_plugins_pack.approvals.guards import install
from mlflow_plugins_pack.approvals.ledger import grants
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.ledger.requests import Request


def apply(decision: Decision, status: VoteStatus, *, review_by: int | None = None) -> Any:
    """Have stock MLflow write, and record the change.

    Args:
        decision: The decision, with its approved request.
        status: The votes it was approved by.
        review_by: For a break-glass change, when its review is due, in ms since the epoch.

    Returns:
        What the write returned.
    """
    ledger, change, request = decision.ledger, decision.change, decision.request
    session, version, target = ledger.session, change.version, change.target
    is_guarded = change.snapshot.is_guarded
    with install.admitted(session, version.workspace, version.name, installed=is_guarded):
        value = decision.write()
    with batched_writes.together(session):
        _record(decision, ledger.move(request, State.APPLIED), status, review_by)
    if version.stage != "None" and target.key != f"stage:{version.stage}":
        _leave_stage(decision, version, Target("stage", version.stage))
    if change.archive_existing and target.kind == "stage":
        for other in change.snapshot.holders:
            if other.uid != version.uid:
                _leave_stage(decision, other, target)
    for rival in ledger.rivals(request, version, target):
        found = mlflow_tables.find_version(session, rival.workspace, rival.name, rival.version)
        reason = f"request {request.short_id} was applied"
        close(ledger, found, rival, State.SUPERSEDED, reason)
    return value


def _record(
    decision: Decision, applied: Request, status: VoteStatus, review_by: int | None
) -> None:
    ledger, change = decision.ledger, decision.change
    version, target, before = change.version, change.target, change.holder
    is_promotion = change.action == "promote"
    ledger.record(
        "APPLIED",
        version,
        target=target.key,
        request_id=applied.id,
        before={"holder": before.version if before else None},
        after={
            "action": change.action,
            "holder": version.version if is_promotion else None,
            "digest": applied.digest,
            "approvers": status.approvers,
            "basis": status.basis.as_fields(),
            "stage": change.stage,
        },
    )
    tags = [*projection_tags.status_tags(version, target, status.shown(applied))]
    # An unreviewed break-glass change is not an approval.
    is_approved = is_promotion and status.basis.kind is not BasisKind.BREAK_GLASS
    approval = HolderApproval(applied.id, applied.digest) if is_approved else None
    tags.append(projection_tags.approval_tag(version, target, approval))
    if is_promotion:
        grants.grant(
            ledger, applied, version, exclusive=target.kind == "alias", review_by=review_by
        )
        if target.kind == "alias" and before is not None and before.uid != version.uid:
            replaced = TargetStatus(TargetState.REPLACED, by_version=version.version)
            tags += projection_tags.status_tags(before, target, replaced)
            tags.append(projection_tags.approval_tag(before, target, None))
    else:
        grants.revoke(ledger, version, target)
    projection_tags.show(ledger.session, *tags)


def _leave_stage(decision: Decision, version: Version, target: Target) -> None:
    """Record that an approved change moved a version out of another protected stage."""
    ledger, change = decision.ledger, decision.change
    rules = ledger.policy.rules_about(
        version.workspace,
        version.name,
        is_prompt=version.is_prompt,
        has_files=version.has_files,
    )
    if change.target.kind != "stage" or not any(rule.protected(target) for rule in rules):
        return
    grants.revoke(ledger, version, target)
    ledger.record(
        "SYSTEM_TRANSITION",
        version,
        target=target.key,
        request_id=decision.request.id,
        before={"stage": target.name},
        after={"by": change.version.version, "stage": change.stage},
    )
    status = TargetStatus(TargetState.LEFT, stage=change.stage)
    if version.uid != change.version.uid:
        status = TargetStatus(TargetState.REPLACED, by_version=change.version.version)
    projection_tags.show(
        ledger.session,
        *projection_tags.status_tags(version, target, status),
        projection_tags.approval_tag(version, target, None),
    )


def close(
    ledger: Ledger, version: Version | None, request: Request, state: State, reason: str
) -> None:
    """Close a request and show that; the version may have been deleted."""
    closed = ledger.move(request, state, reason)
    if version is not None and version.uid == request.version_uid:
        show_closed(ledger, version, closed)


def show_closed(ledger: Ledger, version: Version, request: Request) -> None:
    """Show on the version that its request was closed, and why."""
    state = TargetState(request.state.value)
    status = TargetStatus(state, request.action, request.id, reason=request.reason)
    tags = projection_tags.status_tags(version, request.target, status)
    projection_tags.show(ledger.session, *tags)
