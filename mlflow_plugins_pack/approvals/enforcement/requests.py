"""Files requests, counts them out, and applies or closes them, in the transaction of the caller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.content.evidence import Evidence
from mlflow_plugins_pack.approvals.content.hashing import Underway
from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.domain import messages
from mlflow_plugins_pack.approvals.domain.request_states import State, tally
from mlflow_plugins_pack.approvals.enforcement import apply, requirements
from mlflow_plugins_pack.approvals.enforcement.change import (
    EvidenceOutdatedError,
    Outcome,
    ProposedChange,
    T,
    VoteStatus,
    word_for,
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


def after_rejection(
    session: Session, change: ProposedChange, found: Evidence | None
) -> ApprovalError | None:
    """A rejection stands against calls that only repeat themselves."""
    last = last_request(session, change.version, change.target)
    if last is None or last.state is not State.REJECTED or last.action != change.action:
        return None
    if found is not None and found.digest is not None and last.digest != found.digest:
        return None
    return ApprovalRequiredError(
        messages.rejected_before(
            target=change.target,
            name=change.version.name,
            version=change.version.version,
            policy=change.rule.name,
            request_id=last.short_id,
            reason=last.reason or "no reason given",
        )
    )


def file(
    ledger: Ledger, change: ProposedChange, found: Evidence | None, *, comment: str | None
) -> Request:
    """File a request for a change."""
    request = _file(ledger, change, found, comment)
    return advance(ledger, change, request, found.underway if found else None)


def _file(
    ledger: Ledger, change: ProposedChange, found: Evidence | None, comment: str | None
) -> Request:
    if change.action == "promote" and (found is None or not found.knows_user):
        raise EvidenceOutdatedError
    return ledger.file(
        change.version,
        change.target,
        action=change.action,
        policy_name=change.rule.name,
        digest=found.digest if found else None,
        holder=change.holder,
        stage=change.stage,
        archive_existing=change.archive_existing,
        run_user=found.run_user if found else None,
        comment=comment,
    )


def break_glass(
    ledger: Ledger,
    change: ProposedChange,
    write: Callable[[], T],
    found: Evidence | None,
    reason: str | None,
) -> T:
    """Make a change that nobody has approved, and file its review."""
    glass, version = change.rule.break_glass, change.version
    if glass is None or (found is None and change.action == "promote"):
        raise EvidenceOutdatedError
    if found is not None and found.digest is None:
        raise digesting(change, found)
    if (waiting := ledger.open_request(version, change.target)) is not None:
        apply.close(ledger, version, waiting, State.SUPERSEDED, "the glass was broken")
    request = _file(ledger, change, found, reason)
    why = f"{ledger.actor} broke the glass" + (f": {reason}" if reason else "")
    request = ledger.move(request, State.APPROVED, why, recorded_as="BREAK_GLASS")
    review_by = ledger.now_ms + glass.expires_after * 1000
    value = apply.apply(
        ledger,
        change,
        request,
        write,
        VoteStatus(tally((), ()), [], "the glass was broken"),
        "BREAK-GLASS",
        review_by=review_by,
    )
    review = ledger.file(
        version,
        change.target,
        action="review",
        policy_name=change.rule.name,
        digest=found.digest if found else None,
        holder=version if change.action == "promote" else None,
        stage=None,
        archive_existing=False,
        run_user=found.run_user if found else None,
        comment=reason,
        expires_after=glass.expires_after,
    )
    advance(ledger, change, review)
    return value


def end_review(ledger: Ledger, change: ProposedChange, review: Request) -> None:
    """Close the review of a broken glass once enough people have approved it afterwards."""
    if review.state is not State.APPROVED:
        return
    ledger.move(review, State.APPLIED)
    status = requirements.status(ledger, change, review)
    after = {"action": "review", "approvers": status.people}
    ledger.record(
        "BREAK_GLASS_REVIEWED",
        change.version,
        target=change.target.key,
        request_id=review.id,
        after=after,
    )
    ledger.confirm_grant(change.version, change.target)
    line = status.line("BREAK-GLASS REVIEWED")
    mlflow_tables.show(ledger.session, mlflow_tables.shown(change.version, change.target, line))


def digesting(change: ProposedChange, found: Evidence) -> DigestingError:
    """Return the refusal of what cannot be done before the bytes are read."""
    version = change.version
    return DigestingError(
        messages.digesting(
            target=change.target,
            name=version.name,
            version=version.version,
            how_far=str(found.underway or "0 %"),
        )
    )


def bind(ledger: Ledger, request: Request, found: Evidence | None) -> Request:
    """Bind a request that was filed while the bytes were being read, once they are read."""
    if request.awaits_digest and found is not None and found.digest is not None:
        return ledger.note_digest(request, found.digest)
    return request


def advance(
    ledger: Ledger, change: ProposedChange, request: Request, underway: Underway | None = None
) -> Request:
    """Count the votes, approve the request if they suffice, and show where it stands."""
    status = requirements.status(ledger, change, request)
    is_known = not request.awaits_digest
    if request.state is State.PENDING and status.tally.is_complete and is_known:
        request = ledger.move(request, State.APPROVED)
    line = status.line(word_for(request, request.state))
    if not is_known:
        line += f", digesting {underway or '0 %'}"
    mlflow_tables.show(ledger.session, mlflow_tables.shown(change.version, request.target, line))
    return request


def settle(
    ledger: Ledger,
    change: ProposedChange,
    request: Request,
    write: Callable[[], T],
    found: Evidence | None,
    *,
    filed: bool,
) -> Outcome[T]:
    """Apply an open request if everything holds, else say why not."""
    version, now = change.version, change.holder
    about: dict[str, Any] = {
        "target": change.target,
        "name": version.name,
        "version": version.version,
    }
    if request.action != change.action or request.holder_uid != (now.uid if now else None):
        apply.close(ledger, version, request, State.STALE, "the holder changed")
        return Outcome(
            refusal=HolderChangedError(
                messages.holder_changed(
                    **about,
                    request_id=request.short_id,
                    before=request.holder_version,
                    now=now.version if now else None,
                )
            )
        )
    request = bind(ledger, request, found)
    known = found.digest if found is not None else None
    if change.action == "promote" and known is not None and request.digest != known:
        return _stale(ledger, change, request, "its files have changed since")
    if change.archive_existing and not request.archive_existing:
        text = messages.archive_not_covered(**about, request_id=request.short_id)
        return Outcome(refusal=ApprovalRequiredError(text))
    status = requirements.status(ledger, change, request)
    count = status.tally
    if not count.is_complete:
        if request.state is State.APPROVED:
            return _stale(ledger, change, request, f"the policy now asks for more ({count})")
        return Outcome(
            refusal=ApprovalRequiredError(
                messages.approval_required(
                    **about,
                    action=change.action,
                    policy=change.rule.name,
                    tally=count,
                    request_id=request.short_id,
                    state=request.state,
                    since_ms=request.created_at,
                    filed=filed,
                    reading=str(found.underway) if found and found.underway else None,
                )
            ),
            filed=filed,
        )
    if change.action == "promote" and found is not None and found.digest is None:
        return Outcome(refusal=digesting(change, found), filed=filed)
    if request.state is State.PENDING:
        request = advance(ledger, change, request)
    if (refusal := requirements.obstacle(ledger, change, status.basis, found)) is not None:
        return Outcome(refusal=refusal)
    word = "APPLIED" if change.action == "promote" else "TAKEN AWAY"
    return Outcome(apply.apply(ledger, change, request, write, status, status.line(word)))


def _stale(ledger: Ledger, change: ProposedChange, request: Request, why: str) -> Outcome[Any]:
    apply.close(ledger, change.version, request, State.STALE, why)
    return Outcome(
        refusal=StaleApprovalError(
            messages.stale(
                target=change.target,
                name=change.version.name,
                version=change.version.version,
                request_id=request.short_id,
                why=why,
            )
        )
    )


def close_all(ledger: Ledger, requests: Sequence[Request], state: State, reason: str) -> None:
    """Close requests whose versions are about to go."""
    for request in requests:
        apply.close(ledger, None, request, state, reason)
