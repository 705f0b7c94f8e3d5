"""Makes an approved change in the caller's transaction, and records all that follows from it."""

from __future__ import annotations

from collections.abc import Callable

from mlflow_plugins_pack.approvals.database import batched_writes, mlflow_tables
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.domain.request_states import State
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.enforcement.change import ProposedChange, T, VoteStatus, word_for
from mlflow_plugins_pack.approvals.guards import install
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.ledger.requests import Request


def apply(
    ledger: Ledger,
    change: ProposedChange,
    request: Request,
    write: Callable[[], T],
    status: VoteStatus,
    line: str,
    *,
    review_by: int | None = None,
) -> T:
    """Let stock MLflow write, and record the change and all that follows from it."""
    session, version, target = ledger.session, change.version, change.target
    before = change.holder
    guarded = change.snapshot.is_guarded
    with install.admitted(session, version.workspace, version.name, installed=guarded):
        value = write()
    with batched_writes.together(session):
        ledger.move(request, State.APPLIED)
        ledger.record(
            "APPLIED",
            version,
            target=target.key,
            request_id=request.id,
            before={"holder": before.version if before else None},
            after={
                "action": change.action,
                "holder": version.version if change.action == "promote" else None,
                "digest": request.digest,
                "approvers": status.people,
                "basis": status.basis,
                "stage": change.stage,
            },
        )
        promoted = change.action == "promote"
        tags = [
            mlflow_tables.shown(version, target, line),
            mlflow_tables.shown_digest(version, target, request.digest if promoted else None),
        ]
        if promoted:
            ledger.grant(request, version, exclusive=target.kind == "alias", review_by=review_by)
            if target.kind == "alias" and before is not None and before.uid != version.uid:
                text = f"REPLACED by version {version.version}"
                tags += [
                    mlflow_tables.shown(before, target, text),
                    mlflow_tables.shown_digest(before, target, None),
                ]
        else:
            ledger.ungrant(version, target)
        mlflow_tables.show(session, *tags)
    if version.stage != "None" and target.key != f"stage:{version.stage}":
        _leave(ledger, version, Target("stage", version.stage), change, request)
    if change.archive_existing and target.kind == "stage":
        for other in change.snapshot.holders:
            if other.uid != version.uid:
                _leave(ledger, other, target, change, request)
    for rival in ledger.rivals(request, version, target):
        found = mlflow_tables.find_version(session, rival.workspace, rival.name, rival.version)
        reason = f"request {request.short_id} was applied"
        close(ledger, found, rival, State.SUPERSEDED, reason)
    return value


def _leave(
    ledger: Ledger, version: Version, target: Target, change: ProposedChange, request: Request
) -> None:
    """Record that an approved change moved a version out of another protected stage."""
    rules = ledger.policy.rules_about(
        version.workspace,
        version.name,
        is_prompt=version.is_prompt,
        has_files=version.has_files,
    )
    if change.target.kind != "stage" or not any(rule.protected(target) for rule in rules):
        return
    ledger.ungrant(version, target)
    ledger.record(
        "SYSTEM_TRANSITION",
        version,
        target=target.key,
        request_id=request.id,
        before={"stage": target.name},
        after={"by": change.version.version, "stage": change.stage},
    )
    text = (
        f"REPLACED by version {change.version.version}"
        if version.uid != change.version.uid
        else f"LEFT for {change.stage}"
    )
    mlflow_tables.show(
        ledger.session,
        mlflow_tables.shown(version, target, text),
        mlflow_tables.shown_digest(version, target, None),
    )


def close(
    ledger: Ledger,
    version: Version | None,
    request: Request,
    state: State,
    reason: str,
) -> None:
    """Close a request and show it; the version may be gone."""
    ledger.move(request, state, reason)
    if version is not None and version.uid == request.version_uid:
        word = word_for(request, state)
        line = mlflow_tables.shown(version, request.target, f"{word}: {reason}")
        mlflow_tables.show(ledger.session, line)
