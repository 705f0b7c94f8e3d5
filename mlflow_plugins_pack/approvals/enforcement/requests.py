"""Files requests, counts their votes, and applies or closes them, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.content.evidence import Evidence
from mlflow_plugins_pack.approvals.database import projection_tags
from mlflow_plugins_pack.approvals.domain import messages, review_pages
from mlflow_plugins_pack.approvals.domain.digest_progress import DigestProgress
from mlflow_plugins_pack.approvals.domain.request_states import State, Tally
from mlflow_plugins_pack.approvals.enforcement import apply, requirements
from mlflow_plugins_pack.approvals.enforcement.change import (
    Decision,
    EvidenceOutdatedError,
    Outcome,
    ProposedChange,
)
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.ledger.requests import Request, last_request
from mlflow_plugins_pack.errors import (
    ApprovalError,
    ApprovalRequiredError,
    DigestingError,
    HolderChangedError,
    StaleApprovalError,
)
from mlflow_plugins_pack.settings import REVIEW_URL


def after_rejection(
    session: Session, change: ProposedChange, found: Evidence | None
) -> ApprovalError | None:
    """Return the refusal of a call that repeats a rejected request, or None."""
    last = last_request(session, change.version, change.target)
    if last is None or last.state is not State.REJECTED or last.action != change.action:
        return None
    if last.archive_existing != change.archive_existing:
        return None  # the call asks for something else than what was rejected
    if found is not None and found.digest is not None and last.digest != found.digest:
        return None
    return ApprovalRequiredError(
        messages.rejected_before(
            **change.about(),
            policy=change.rule.name,
            request_id=last.short_id,
            reason=last.reason or "no reason given",
        )
    )


def file(decision: Decision, *, comment: str | None) -> Decision:
    """File a request for the change and count its votes: it may need none."""
    decision = file_uncounted(decision, comment=comment)
    evidence = decision.evidence
    return advance(decision, evidence.progress if evidence else None)


def file_uncounted(decision: Decision, *, comment: str | None) -> Decision:
    """File a request for the change."""
    change, found = decision.change, decision.evidence
    if change.action == "promote" and (found is None or not found.knows_user):
        raise EvidenceOutdatedError
    request = decision.ledger.file(
        change.version,
        change.target,
        action=change.action,
        policy_name=change.rule.name,
        digest=found.digest if found else None,
        file_marks=found.file_marks if found else None,
        holder=change.holder,
        stage=change.stage,
        archive_existing=change.archive_existing,
        run_user=found.run_user if found else None,
        comment=comment,
    )
    return decision.with_request(request, is_filed=True)


def digesting(change: ProposedChange, found: Evidence) -> DigestingError:
    """Return the refusal of what cannot be done before the files are hashed."""
    progress = found.progress or DigestProgress()
    return DigestingError(
        messages.digesting(**change.about(), how_far=progress.text),
        progress=progress.as_fields(),
    )


def bind(decision: Decision) -> Decision:
    """Bind a request that was filed before its files were hashed, if they are by now."""
    request, found = decision.request, decision.evidence
    if request.awaits_digest and found is not None and found.digest is not None:
        bound = decision.ledger.note_digest(request, found.digest, found.file_marks)
        return decision.with_request(bound)
    return decision


def changed_since(decision: Decision) -> ApprovalError | None:
    """Return why no vote counts any more, or None: a vote is for the bytes that are there now."""
    request, found = decision.request, decision.evidence
    if found is None or request.digest is None or found.digest == request.digest:
        return None
    if found.digest is None:
        return digesting(decision.change, found) if found.may_differ else None
    if request.action != "review":
        return _stale(decision, "its files have changed since")
    change = decision.change
    return StaleApprovalError(
        messages.review_of_other_files(**change.about(), request_id=request.short_id)
    )


def advance(decision: Decision, progress: DigestProgress | None = None) -> Decision:
    """Count the votes, approve the request if they suffice, and show where it stands."""
    return decision.with_request(
        show_votes(decision.ledger, decision.change, decision.request, progress)
    )


def show_votes(
    ledger: Ledger,
    change: ProposedChange,
    request: Request,
    progress: DigestProgress | None = None,
) -> Request:
    """Do as `advance` does, where there is a request but no decision about it."""
    status = requirements.vote_status(ledger, change, request)
    is_known = not request.awaits_digest
    if request.state is State.PENDING and status.tally.is_complete and is_known:
        request = ledger.move(request, State.APPROVED)
    shown = status.shown(request, None if is_known else progress or DigestProgress())
    projection_tags.show(
        ledger.session, *projection_tags.status_tags(change.version, request.target, shown)
    )
    return request


def settle(decision: Decision) -> Outcome[Any]:
    """Apply the open request if everything holds, else return why not."""
    change, found = decision.change, decision.evidence
    holder_uid = change.holder.uid if change.holder else None
    if (decision.request.action, decision.request.holder_uid) != (change.action, holder_uid):
        return Outcome(refusal=_holder_changed(decision))
    decision = bind(decision)
    digest = found.digest if found is not None else None
    if change.action == "promote" and digest is not None and decision.request.digest != digest:
        return Outcome(refusal=_stale(decision, "its files have changed since"))
    if change.archive_existing and not decision.request.archive_existing:
        request_id = decision.request.short_id
        text = messages.archive_not_covered(**change.about(), request_id=request_id)
        return Outcome(refusal=ApprovalRequiredError(text))
    status = requirements.vote_status(decision.ledger, change, decision.request)
    if not status.tally.is_complete:
        if decision.request.state is State.APPROVED:
            why = f"the policy now asks for more ({status.tally})"
            return Outcome(refusal=_stale(decision, why))
        return Outcome(refusal=_lacks_votes(decision, status.tally), is_filed=decision.is_filed)
    if change.action == "promote" and found is not None and digest is None:
        return Outcome(refusal=digesting(change, found), is_filed=decision.is_filed)
    if decision.request.state is State.PENDING:
        decision = advance(decision)
    if (obstacle := requirements.obstacle(decision, status.basis)) is not None:
        return Outcome(refusal=obstacle)
    if decision.must_lock:
        return Outcome(is_filed=decision.is_filed, must_lock=True)
    return Outcome(apply.apply(decision, status))


def _holder_changed(decision: Decision) -> HolderChangedError:
    change, request = decision.change, decision.request
    apply.close(decision.ledger, change.version, request, State.STALE, "the holder changed")
    return HolderChangedError(
        messages.holder_changed(
            **change.about(),
            request_id=request.short_id,
            before=request.holder_version,
            now=change.holder.version if change.holder else None,
        )
    )


def _lacks_votes(decision: Decision, tally: Tally) -> ApprovalError:
    change, request, found = decision.change, decision.request, decision.evidence
    progress = found.progress if found is not None else None
    page = review_pages.request_page(REVIEW_URL.get(), request.id, request.workspace)
    return ApprovalRequiredError(
        messages.approval_required(
            **change.about(),
            action=change.action,
            policy=change.rule.name,
            tally=tally,
            request_id=request.short_id,
            state=request.state,
            since_ms=request.created_at,
            filed=decision.is_filed,
            reading=progress.text if progress else None,
            page=page,
        ),
        request_id=request.id,
        **({"request_url": page} if page else {}),
        **({"progress": progress.as_fields()} if progress else {}),
    )


def _stale(decision: Decision, why: str) -> StaleApprovalError:
    change, request = decision.change, decision.request
    apply.close(decision.ledger, change.version, request, State.STALE, why)
    return StaleApprovalError(
        messages.stale(**change.about(), request_id=request.short_id, why=why)
    )


def close_all(ledger: Ledger, requests: Sequence[Request], state: State, reason: str) -> None:
    """Close requests whose versions are about to be deleted."""
    for request in requests:
        apply.close(ledger, None, request, state, reason)
