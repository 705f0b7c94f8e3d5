"""The commands by which people ask for approval, vote, withdraw votes and cancel requests."""

from __future__ import annotations

from typing import Any

from mlflow_plugins_pack.approvals.commands.runner import Command, CommandRunner, Read, Work
from mlflow_plugins_pack.approvals.content.evidence import Evidence
from mlflow_plugins_pack.approvals.domain import messages
from mlflow_plugins_pack.approvals.domain.request_states import State
from mlflow_plugins_pack.approvals.enforcement import apply, break_glass, requests, requirements
from mlflow_plugins_pack.approvals.enforcement.change import (
    Decision,
    EvidenceOutdatedError,
    Outcome,
    Preview,
    ProposedChange,
)
from mlflow_plugins_pack.approvals.ledger import comments, grants, votes
from mlflow_plugins_pack.approvals.ledger.requests import last_request
from mlflow_plugins_pack.approvals.policy import eligibility
from mlflow_plugins_pack.errors import (
    InvalidCommandError,
    NoOpenRequestError,
    NotAnApproverError,
    SelfApprovalError,
)


class VotingCommands:
    """Requests and votes.

    Args:
        runner: Runs the commands.
    """

    def __init__(self, runner: CommandRunner) -> None:
        self._runner = runner
        self._governance = runner.enforcer.governance
        self._loop = runner.enforcer.loop

    def request(self, command: Command) -> None:
        """Ask for approval; asking again while a request is open only adds the comment."""

        def work(decision: Decision) -> Outcome[Any]:
            ledger, change, request = decision.ledger, decision.change, decision.open_request
            if request is not None:
                if command.text:
                    comments.add(
                        ledger,
                        change.version,
                        command.text,
                        target=change.target,
                        request_id=request.id,
                    )
                return Outcome()
            refuse_holder(change)
            return self._apply_if_auto(requests.file(decision, comment=command.text))

        self._run(command, work, verb="asking for approval", read_files=self._loop.whole_evidence)

    def approve(self, command: Command) -> None:
        """Approve the open request; approving twice counts once."""

        def work(decision: Decision) -> Outcome[Any]:
            if decision.open_request is None:
                if _approved_before(decision):
                    return Outcome()
                raise _nothing_open(decision)
            user = _eligible(decision)
            change, evidence = decision.change, decision.evidence
            if decision.request.awaits_digest and evidence is None:
                raise EvidenceOutdatedError
            decision = requests.bind(decision)
            if decision.request.awaits_digest and evidence is not None:
                raise requests.digesting(change, evidence)
            ban = eligibility.ban(decision.ledger.policy.defaults, decision.request, user)
            if ban is not None:
                is_of_run = ban is eligibility.Ban.RUN_USER
                run_id = change.version.run_id
                raise SelfApprovalError(
                    messages.self_approval(
                        user=user,
                        role=messages.run_in_the_name_of(run_id) if is_of_run else ban.value,
                        target=change.target,
                        name=change.version.name,
                        request_id=decision.request.short_id,
                    )
                )
            if (refusal := requests.changed_since(decision)) is not None:
                return Outcome(refusal=refusal)
            votes.cast(decision.ledger, decision.request, "approve", command.text)
            decision = requests.advance(decision)
            if decision.request.action == "review":
                break_glass.end_review(decision)
                return Outcome()
            return self._apply_if_auto(decision)

        def read_files(change: ProposedChange, preview: Preview) -> Evidence | None:
            is_auto = self._governance.policy().defaults.apply == "auto"
            return self._loop.vote_evidence(change, preview, is_last=is_auto)

        self._run(command, work, verb="approving", read_files=read_files)

    def withdraw(self, command: Command) -> None:
        """Withdraw one's own approval while the request is pending."""

        def work(decision: Decision) -> Outcome[Any]:
            if decision.open_request is None:
                raise _nothing_open(decision)
            ledger, change, request = decision.ledger, decision.change, decision.request
            if request.state is State.APPROVED:
                raise InvalidCommandError(
                    messages.too_late_to_withdraw(**change.about(), request_id=request.short_id)
                )
            if not votes.withdraw(ledger, request, command.text):
                raise NoOpenRequestError(
                    messages.nothing_to_withdraw(
                        user=ledger.actor or "",
                        target=change.target,
                        name=change.version.name,
                        request_id=request.short_id,
                    )
                )
            requests.advance(decision)
            return Outcome()

        self._runner.run(command, work, verb="withdrawing")

    def reject(self, command: Command) -> None:
        """Reject the open request; one eligible approver is enough."""

        def work(decision: Decision) -> Outcome[Any]:
            ledger, change, request = decision.ledger, decision.change, decision.open_request
            if request is None:
                last = last_request(ledger.session, change.version, change.target)
                if last is not None and last.state is State.REJECTED:
                    return Outcome()
                raise _nothing_open(decision)
            user = _eligible(decision)
            votes.cast(ledger, request, "reject", command.text)
            apply.close(ledger, change.version, request, State.REJECTED, _by(user, command.text))
            if request.action == "review":
                # The version still holds the target without approval: it is drift now.
                grants.revoke(ledger, change.version, change.target)
            return Outcome()

        self._runner.run(command, work, verb="rejecting")

    def cancel(self, command: Command) -> None:
        """Cancel the open request; its requester may, until another user has voted."""

        def work(decision: Decision) -> Outcome[Any]:
            if decision.open_request is None:
                raise _nothing_open(decision)
            ledger, request = decision.ledger, decision.request
            if request.action == "review" or ledger.actor != request.requester:
                raise NotAnApproverError(
                    messages.not_the_requester(
                        request_id=request.short_id, requester=request.requester
                    )
                )
            if any(vote.approver != request.requester for vote in ledger.votes(request)):
                # The first to ask owns the request; that must not give them the others' votes.
                raise NotAnApproverError(
                    messages.votes_were_cast(**decision.change.about(), request_id=request.short_id)
                )
            reason = _by(ledger.actor, command.text)
            apply.close(ledger, decision.change.version, request, State.CANCELLED, reason)
            return Outcome()

        self._runner.run(command, work, verb="cancelling")

    def _run(self, command: Command, work: Work, *, verb: str, read_files: Read) -> None:
        """Run a command by which a request may become approved, and be applied at once."""
        self._runner.run(command, work, verb=verb, read_files=read_files, then=self._apply_if_auto)

    def _apply_if_auto(self, decision: Decision) -> Outcome[Any]:
        is_auto = self._governance.policy().defaults.apply == "auto"
        request = decision.open_request
        if not is_auto or request is None or request.state is not State.APPROVED:
            return Outcome()
        evidence = decision.evidence
        if evidence is not None and evidence.digest is None:
            return Outcome()  # approved; the stock call applies it once the files are hashed again
        _, basis = requirements.rules_of(decision.ledger, decision.change, decision.request)
        if requirements.obstacle(decision, basis) is not None:
            return Outcome()  # approved; the stock call applies it once nothing is in the way
        return requests.settle(decision)


def refuse_holder(change: ProposedChange) -> None:
    """Refuse a command that would make a version what it is already."""
    if change.holder is not None and change.holder.uid == change.version.uid:
        raise InvalidCommandError(messages.already_holder(**change.about()))


def _by(user: str | None, text: str | None) -> str:
    return f"by {user}" + (f": {text}" if text else "")


def _eligible(decision: Decision) -> str:
    """Return the caller's name if a rule counts their vote."""
    ledger, change = decision.ledger, decision.change
    rules, _ = requirements.rules_of(ledger, change, decision.request)
    user = ledger.actor or ""
    if not any(user in rule.members for rule in rules):
        raise NotAnApproverError(
            messages.not_an_approver(
                user=user,
                target=change.target,
                name=change.version.name,
                policy=change.rule.name,
                groups=[rule.group for rule in rules],
            )
        )
    return user


def _approved_before(decision: Decision) -> bool:
    """Return whether the caller approved the last request, and it was applied."""
    ledger, change = decision.ledger, decision.change
    last = last_request(ledger.session, change.version, change.target)
    if last is None or last.state is not State.APPLIED:
        return False
    own = [v for v in ledger.votes(last) if v.approver == ledger.actor]
    return bool(own) and own[0].verdict == "approve"


def _nothing_open(decision: Decision) -> NoOpenRequestError:
    change = decision.change
    last = last_request(decision.ledger.session, change.version, change.target)
    if last is not None and last.state.is_open:
        return NoOpenRequestError(
            messages.another_request(**change.about(), request_id=last.short_id)
        )
    return NoOpenRequestError(
        messages.no_open_request(
            **change.about(),
            last=last.state if last else None,
            reason=last.reason if last else None,
        )
    )
