"""Makes an approved change in the caller's transaction, and records all that follows from it."""

from __future__ import annotations

from collections.abc import Callable

from mlflow_plugins_pack.approvals import guards, registry
from mlflow_plugins_pack.approvals.acts import Act, Standing, T, word_for
from mlflow_plugins_pack.approvals.ledger import Ledger, Request, rivals
from mlflow_plugins_pack.approvals.names import Target
from mlflow_plugins_pack.approvals.registry import Version
from mlflow_plugins_pack.approvals.workflow import State


def apply(
    ledger: Ledger,
    act: Act,
    request: Request,
    write: Callable[[], T],
    standing: Standing,
    line: str,
    before: Version | None,
    *,
    review_by: int | None = None,
) -> T:
    """Let stock MLflow write, and record the change and all that follows from it."""
    session, version, target = ledger.session, act.version, act.target
    archived = (
        registry.in_stage(session, version.workspace, version.name, target.name)
        if act.archive_existing and target.kind == "stage"
        else []
    )
    with guards.admitted(session, version.workspace, version.name):
        value = write()
    ledger.move(request, State.APPLIED)
    ledger.record(
        "APPLIED",
        version,
        target=target.key,
        request_id=request.id,
        before={"holder": before.version if before else None},
        after={
            "action": act.action,
            "holder": version.version if act.action == "promote" else None,
            "digest": request.digest,
            "approvers": standing.people,
            "basis": standing.basis,
            "stage": act.stage,
        },
    )
    registry.project(session, version, target, line)
    if act.action == "promote":
        ledger.grant(request, version, exclusive=target.kind == "alias", review_by=review_by)
        if target.kind == "alias" and before is not None and before.uid != version.uid:
            text = f"REPLACED by version {version.version}"
            registry.project(session, before, target, text)
            registry.project_digest(session, before, target, None)
        registry.project_digest(session, version, target, request.digest)
    else:
        ledger.ungrant(version, target, version.version)
        registry.project_digest(session, version, target, None)
    if version.stage != "None" and target.key != f"stage:{version.stage}":
        _leave(ledger, version, Target("stage", version.stage), act, request)
    for other in archived:
        if other.uid != version.uid:
            _leave(ledger, other, target, act, request)
    for rival in rivals(session, request, version, target):
        found = registry.find_version(session, rival.workspace, rival.name, rival.version)
        reason = f"request {request.short_id} was applied"
        close(ledger, found, rival, State.SUPERSEDED, reason)
    return value


def _leave(ledger: Ledger, version: Version, target: Target, act: Act, request: Request) -> None:
    """Record that an approved change moved a version out of another protected stage."""
    rules = ledger.policy.rules_about(
        version.workspace,
        version.name,
        is_prompt=version.is_prompt,
        has_files=version.has_files,
    )
    if act.target.kind != "stage" or not any(rule.protected(target) for rule in rules):
        return
    ledger.ungrant(version, target, version.version)
    registry.project_digest(ledger.session, version, target, None)
    ledger.record(
        "SYSTEM_TRANSITION",
        version,
        target=target.key,
        request_id=request.id,
        before={"stage": target.name},
        after={"by": act.version.version, "stage": act.stage},
    )
    registry.project(
        ledger.session,
        version,
        target,
        f"REPLACED by version {act.version.version}"
        if version.uid != act.version.uid
        else f"LEFT for {act.stage}",
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
        registry.project(ledger.session, version, request.target, f"{word}: {reason}")
