"""Makes emergency changes without approval, and ends the reviews that follow them."""

from __future__ import annotations

from typing import Any

from mlflow_plugins_pack.approvals.database import projection_tags
from mlflow_plugins_pack.approvals.domain.basis import Basis, BasisKind
from mlflow_plugins_pack.approvals.domain.projection import HolderApproval
from mlflow_plugins_pack.approvals.domain.request_states import State, tally
from mlflow_plugins_pack.approvals.enforcement import apply, requests, requirements
from mlflow_plugins_pack.approvals.enforcement.change import (
    Decision,
    EvidenceOutdatedError,
    VoteStatus,
)
from mlflow_plugins_pack.approvals.ledger import grants


def break_glass(decision: Decision, reason: str | None) -> Any:
    """Make a change without approval, and file its review.

    Args:
        decision: The decision; its open request, if any, is superseded.
        reason: Why, in the caller's words.

    Returns:
        What stock MLflow's write returned.
    """
    ledger, change, found = decision.ledger, decision.change, decision.evidence
    terms, version = change.rule.break_glass, change.version
    if terms is None or (found is None and change.action == "promote"):
        raise EvidenceOutdatedError
    if found is not None and found.digest is None:
        raise requests.digesting(change, found)
    if (waiting := ledger.open_request(version, change.target)) is not None:
        why = "break-glass was used"
        apply.close(ledger, version, waiting, State.SUPERSEDED, why)
    decision = requests.file_uncounted(decision, comment=reason)
    why = f"break-glass by {ledger.actor}" + (f": {reason}" if reason else "")
    approved = ledger.move(decision.request, State.APPROVED, why, recorded_as="BREAK_GLASS")
    value = apply.apply(
        decision.with_request(approved),
        VoteStatus(tally((), ()), [], Basis(BasisKind.BREAK_GLASS)),
        review_by=ledger.now_ms + terms.expires_after * 1000,
    )
    review = ledger.file(
        version,
        change.target,
        action="review",
        policy_name=change.rule.name,
        digest=found.digest if found else None,
        file_marks=found.file_marks if found else None,
        holder=version if change.action == "promote" else None,
        stage=None,
        archive_existing=False,
        run_user=found.run_user if found else None,
        comment=reason,
        expires_after=terms.expires_after,
    )
    requests.show_votes(ledger, change, review)
    return value


def end_review(decision: Decision) -> None:
    """Close the review of a break-glass change once enough people have approved it."""
    ledger, change, review = decision.ledger, decision.change, decision.request
    if review.state is not State.APPROVED:
        return
    review = ledger.move(review, State.APPLIED)
    status = requirements.vote_status(ledger, change, review)
    ledger.record(
        "BREAK_GLASS_REVIEWED",
        change.version,
        target=change.target.key,
        request_id=review.id,
        after={"action": "review", "approvers": status.approvers},
    )
    grants.confirm(ledger, change.version, change.target)
    tags = [*projection_tags.status_tags(change.version, change.target, status.shown(review))]
    if review.holder_uid == change.version.uid:
        approval = HolderApproval(review.id, review.digest)
        tags.append(projection_tags.approval_tag(change.version, change.target, approval))
    projection_tags.show(ledger.session, *tags)
