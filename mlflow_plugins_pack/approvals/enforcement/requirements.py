"""Decides what a change needs under the policy in force, and what of it is met.

Votes, rollbacks and inherited approvals decide whether it is approved; freeze windows, the required
origin and the checks decide whether it may be made now.
"""

from __future__ import annotations

from typing import Any

from mlflow_plugins_pack.approvals.content.evidence import Evidence
from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.domain import messages
from mlflow_plugins_pack.approvals.domain.attestation import ATTESTATION_TAG, unseal
from mlflow_plugins_pack.approvals.domain.basis import Basis, BasisKind
from mlflow_plugins_pack.approvals.domain.matching import matches
from mlflow_plugins_pack.approvals.domain.request_states import Rule, tally
from mlflow_plugins_pack.approvals.enforcement.change import (
    Decision,
    EvidenceOutdatedError,
    ProposedChange,
    VoteStatus,
)
from mlflow_plugins_pack.approvals.ledger import check_tags
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.ledger.requests import (
    Request,
    find_requests,
    held_before,
    is_approved,
)
from mlflow_plugins_pack.approvals.policy import checks, eligibility, freeze_windows
from mlflow_plugins_pack.approvals.policy.facts import Subject
from mlflow_plugins_pack.approvals.policy.models import ApprovalRule, PolicyRule
from mlflow_plugins_pack.errors import ApprovalError, ChecksFailedError, FrozenError


def vote_status(ledger: Ledger, change: ProposedChange, request: Request) -> VoteStatus:
    """Count a request's votes under the policy in force."""
    people = eligibility.approvers(ledger.policy.defaults, request, ledger.votes(request))
    rules, basis = rules_of(ledger, change, request)
    return VoteStatus(tally(rules, people), people, basis)


def rules_of(
    ledger: Ledger, change: ProposedChange, request: Request
) -> tuple[tuple[Rule, ...], Basis]:
    """Return the approvals that a request needs, and on what basis."""
    policy = ledger.policy
    if request.action == "promote":
        if _is_rollback(ledger, change, request):
            return policy.rollback_rules(change.rule), Basis(BasisKind.ROLLBACK)
        if (source := _inherits(ledger, change, request)) is not None:
            return (), Basis(BasisKind.INHERITED, source.name, source.version)
    if request.action == "promote" and (attested := _attested(ledger, change, request)):
        needed, key = attested
        return policy.promote_rules(needed), Basis(attested_by=key)
    return policy.rules_of(change.rule, request.action), Basis()


def _attested(
    ledger: Ledger, change: ProposedChange, request: Request
) -> tuple[PolicyRule, str] | None:
    """Return the policy without the approvals that an attestation stands for, and its key."""
    if all(part.attested_by is None for part in change.rule.approvals):
        return None
    tags = mlflow_tables.version_tags(ledger.session, change.version)

    def is_met(part: ApprovalRule) -> bool:
        return part.attested_by is not None and not part.attested_by.problem(
            name=change.version.name,
            digest=request.digest,
            tags=tags,
            approvers=part.count,
            now_ms=ledger.now_ms,
        )

    needed = change.rule.without_approvals(is_met)
    if needed == change.rule:
        return None
    return needed, unseal(str(tags[ATTESTATION_TAG])).fingerprint


def _is_rollback(ledger: Ledger, change: ProposedChange, request: Request) -> bool:
    """Return whether the version held the target recently, with the same bytes."""
    rollback = change.rule.rollback
    if rollback is None:
        return False
    earlier = held_before(ledger.session, change.version, change.target)
    if earlier is None or request.digest is None or earlier.request.digest != request.digest:
        return False
    # Where the end of its tenure is unknown, the beginning is the safe choice.
    until = earlier.request.updated_at if earlier.until is None else earlier.until
    return ledger.now_ms - until <= rollback.within * 1000


def _inherits(ledger: Ledger, change: ProposedChange, request: Request) -> Version | None:
    """Return the approved version that this one is a copy of, if the policy trusts it."""
    if not change.rule.inherit_from:
        return None
    source = mlflow_tables.copied_from(ledger.session, change.version)
    if source is None or not any(matches(p, source.name) for p in change.rule.inherit_from):
        return None
    approved = is_approved(ledger.session, source, [change.target], ledger.now_ms)
    if approved is None or approved != request.digest:
        return None
    # No more than a rollback target is what break-glass promoted and no one has reviewed yet.
    waiting = find_requests(
        ledger.session, version_uid=source.uid, target=change.target, only_open=True
    )
    return None if any(other.action == "review" for other in waiting) else source


def obstacle(decision: Decision, basis: Basis) -> ApprovalError | None:
    """Return what else keeps an approved change from being made now, or None.

    Args:
        decision: The decision, in the transaction that would make the change.
        basis: On what ground the change is approved.
    """
    ledger, change, found = decision.ledger, decision.change, decision.evidence
    about: dict[str, Any] = {"target": change.target, "name": change.version.name}
    if basis.kind is BasisKind.ROLLBACK:
        if found is None:
            raise EvidenceOutdatedError
        return None
    if (window := freeze_windows.closed(change.rule.freeze, ledger.now_ms)) is not None:
        text = messages.frozen(
            **about,
            policy=change.rule.name,
            cron=window.cron,
            tz=window.tz,
            until_ms=window.reopens(ledger.now_ms),
        )
        return FrozenError(text)
    if change.action == "demote":
        return None
    if found is None:
        raise EvidenceOutdatedError
    if problems := _check_problems(ledger, change, found):
        text = messages.checks_failed(**change.about(), policy=change.rule.name, problems=problems)
        return ChecksFailedError(text)
    return None


def _check_problems(ledger: Ledger, change: ProposedChange, found: Evidence) -> list[str]:
    """Return the problems that the policy's checks find."""
    rule, version, session = change.rule, change.version, ledger.session
    problems = []
    if rule.from_ is not None:
        held = mlflow_tables.holdings(session, version.workspace, version.name)
        mine = [(target.kind, target.name) for target, v in held if v.uid == version.uid]
        problems += rule.from_.problems(mine)
    if not rule.checks:
        return problems
    holder, other = change.holder, None
    if holder is not None and holder.uid != version.uid:
        if found.holder_uid != holder.uid:
            raise EvidenceOutdatedError
        tags = mlflow_tables.version_tags(session, holder)
        other = Subject(holder.version, tags, found.holder)
    subject = Subject(
        version.version,
        mlflow_tables.version_tags(session, version),
        found.facts,
        lambda tag: check_tags.find(ledger, version, tag),
        other,
        version.name,
        found.digest,
    )
    return problems + checks.problems(rule.checks, subject, ledger.policy.is_writer, ledger.now_ms)
