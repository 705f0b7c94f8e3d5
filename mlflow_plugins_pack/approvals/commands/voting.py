"""Where people ask, vote, withdraw and comment: what the command tags and the command line do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from mlflow_plugins_pack.approvals.commands.comments import Commenting
from mlflow_plugins_pack.approvals.commands.runner import MAX_COMMENT_LENGTH
from mlflow_plugins_pack.approvals.content.evidence import Evidence
from mlflow_plugins_pack.approvals.domain import messages
from mlflow_plugins_pack.approvals.domain.request_states import State
from mlflow_plugins_pack.approvals.domain.tag_names import parse_command
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.enforcement import apply, requests, requirements
from mlflow_plugins_pack.approvals.enforcement.change import (
    EvidenceOutdatedError,
    Outcome,
    ProposedChange,
)
from mlflow_plugins_pack.approvals.enforcement.enforcer import Enforcer
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.ledger.requests import Request, last_request, votes
from mlflow_plugins_pack.approvals.policy import eligibility
from mlflow_plugins_pack.errors import (
    ApprovalError,
    InvalidCommandError,
    NoOpenRequestError,
    NotAnApproverError,
    SelfApprovalError,
)

Writer = Callable[[ProposedChange], Any]


class Commands(Commenting):
    """The people's side of one store.

    Args:
        enforcer: Enforces the policy.
        write: Makes an approved change the stock way; used where the policy says ``apply: auto``.
    """

    def __init__(self, enforcer: Enforcer, write: Writer) -> None:
        super().__init__(enforcer)
        self._write = write

    def command(self, command: str, name: str, version: int, value: str) -> None:
        """Obey a command tag.

        Args:
            command: One of `names.COMMANDS`.
            name: The model or prompt.
            version: Its version.
            value: ``TARGET: text``.

        Raises:
            ApprovalError: If it cannot be obeyed; nothing was changed then, unless it says so.
        """
        try:
            target, text = parse_command(value)
        except ValueError as exc:
            raise InvalidCommandError(messages.command_malformed(command, str(exc))) from exc
        if len(text) > MAX_COMMENT_LENGTH:
            problem = f"the text is longer than {MAX_COMMENT_LENGTH} characters"
            raise InvalidCommandError(messages.command_malformed(command, problem))
        try:
            getattr(self, command.replace(".", "_"))(name, version, target, text or None)
        except ApprovalError as refusal:
            self._enforcer.record_refusal(refusal, name, version, target.key)
            raise

    def request(self, name: str, version: int, target: Target, text: str | None = None) -> None:
        """Ask for approval; asking again while a request is open only adds the comment."""

        def work(
            ledger: Ledger,
            change: ProposedChange,
            request: Request | None,
            evidence: Evidence | None,
        ) -> Outcome[Any]:
            if request is not None:
                if text:
                    ledger.comment(
                        change.version, text, target=change.target, request_id=request.id
                    )
                return Outcome()
            self._refuse_holder(change)
            request = requests.file(ledger, change, evidence, comment=text)
            return self._apply_if_auto(ledger, change, request, evidence)

        self.carry_out(name, version, target, work, verb="asking for approval", needs_bytes=True)

    def approve(self, name: str, version: int, target: Target, text: str | None = None) -> None:
        """Approve the open request; approving twice is approving once."""

        def work(
            ledger: Ledger,
            change: ProposedChange,
            request: Request | None,
            evidence: Evidence | None,
        ) -> Outcome[Any]:
            if request is None:
                if self._approved_already(ledger, change):
                    return Outcome()
                raise self._nothing_open(ledger, change)
            user = self._eligible(ledger, change, request)
            if request.awaits_digest and evidence is None:
                raise EvidenceOutdatedError
            request = requests.bind(ledger, request, evidence)
            if request.awaits_digest and evidence is not None:
                raise requests.digesting(change, evidence)
            role = eligibility.ban(ledger.policy.defaults, request, user)
            if role is not None:
                raise SelfApprovalError(
                    messages.self_approval(
                        user=user,
                        role=role,
                        target=change.target,
                        name=change.version.name,
                        request_id=request.short_id,
                    )
                )
            ledger.vote(request, "approve", text)
            request = requests.advance(ledger, change, request)
            if request.action == "review":
                requests.end_review(ledger, change, request)
                return Outcome()
            return self._apply_if_auto(ledger, change, request, evidence)

        auto = self._enforcer.policy().defaults.apply == "auto"
        self.carry_out(name, version, target, work, verb="approving", needs_bytes=auto)

    def withdraw(self, name: str, version: int, target: Target, text: str | None = None) -> None:
        """Take one's approval back while the request is pending."""

        def work(
            ledger: Ledger,
            change: ProposedChange,
            request: Request | None,
            _evidence: Evidence | None,
        ) -> Outcome[Any]:
            if request is None:
                raise self._nothing_open(ledger, change)
            about: dict[str, Any] = {"target": change.target, "name": change.version.name}
            about["request_id"] = request.short_id
            if request.state is State.APPROVED:
                raise InvalidCommandError(
                    messages.too_late_to_withdraw(**about, version=change.version.version)
                )
            if not ledger.withdraw(request, text):
                raise NoOpenRequestError(
                    messages.nothing_to_withdraw(**about, user=ledger.actor or "")
                )
            requests.advance(ledger, change, request)
            return Outcome()

        self.carry_out(name, version, target, work, verb="withdrawing")

    def break_glass(self, name: str, version: int, target: Target, text: str | None = None) -> None:
        """Promote without approval in an emergency; it must be reviewed afterwards."""
        self._break_glass(name, version, target, text, "promote")

    def break_glass_demote(
        self, name: str, version: int, target: Target, text: str | None = None
    ) -> None:
        """Take a target away without approval in an emergency; it must be reviewed afterwards."""
        self._break_glass(name, version, target, text, "demote")

    def _break_glass(
        self,
        name: str,
        version: int,
        target: Target,
        text: str | None,
        action: Literal["promote", "demote"],
    ) -> None:
        def work(
            ledger: Ledger,
            change: ProposedChange,
            _request: Request | None,
            evidence: Evidence | None,
        ) -> Outcome[Any]:
            glass = change.rule.break_glass
            if glass is None or not ledger.policy.may_break_glass(change.rule, ledger.actor):
                raise NotAnApproverError(
                    messages.no_glass(
                        user=ledger.actor or "",
                        target=change.target,
                        name=change.version.name,
                        policy=change.rule.name,
                        group=glass.group if glass else None,
                    )
                )
            if glass.require_reason and not text:
                raise InvalidCommandError(messages.glass_reason(target=change.target))
            stage = change.target.name if change.target.kind == "stage" else None
            if action == "promote":
                self._refuse_holder(change)
            elif all(holder.uid != change.version.uid for holder in change.snapshot.holders):
                raise InvalidCommandError(
                    messages.no_holder(target=change.target, name=name, version=version)
                )
            elif stage is not None:
                archived = change.rule.protected(Target("stage", "Archived"))
                stage = "None" if archived is not None else "Archived"
            change = replace(change, action=action, stage=stage, archive_existing=False)
            requests.break_glass(ledger, change, lambda: self._write(change), evidence, text)
            return Outcome()

        needs_bytes = action == "promote"
        self.carry_out(
            name, version, target, work, verb="breaking the glass", needs_bytes=needs_bytes
        )

    def reject(self, name: str, version: int, target: Target, text: str | None = None) -> None:
        """Reject the open request; one eligible approver is enough."""

        def work(
            ledger: Ledger,
            change: ProposedChange,
            request: Request | None,
            _evidence: Evidence | None,
        ) -> Outcome[Any]:
            if request is None:
                last = last_request(ledger.session, change.version, change.target)
                if last is not None and last.state is State.REJECTED:
                    return Outcome()
                raise self._nothing_open(ledger, change)
            user = self._eligible(ledger, change, request)
            ledger.vote(request, "reject", text)
            reason = f"by {user}" + (f": {text}" if text else "")
            apply.close(ledger, change.version, request, State.REJECTED, reason)
            if request.action == "review":
                # The version still holds the target, and nobody has approved that: it is drift.
                ledger.ungrant(change.version, change.target)
            return Outcome()

        self.carry_out(name, version, target, work, verb="rejecting")

    def cancel(self, name: str, version: int, target: Target, text: str | None = None) -> None:
        """Withdraw the open request; only who made it may."""

        def work(
            ledger: Ledger,
            change: ProposedChange,
            request: Request | None,
            _evidence: Evidence | None,
        ) -> Outcome[Any]:
            if request is None:
                raise self._nothing_open(ledger, change)
            if request.action == "review" or ledger.actor != request.requester:
                raise NotAnApproverError(
                    f"request {request.short_id} was made by '{request.requester}', who alone may "
                    f"cancel it; an approver may reject it. {messages.UNCHANGED}"
                )
            reason = f"by {ledger.actor}" + (f": {text}" if text else "")
            apply.close(ledger, change.version, request, State.CANCELLED, reason)
            return Outcome()

        self.carry_out(name, version, target, work, verb="cancelling")

    # --- parts ------------------------------------------------------------------------------

    @staticmethod
    def _refuse_holder(change: ProposedChange) -> None:
        if change.holder is not None and change.holder.uid == change.version.uid:
            raise InvalidCommandError(
                messages.already_holder(
                    target=change.target, name=change.version.name, version=change.version.version
                )
            )

    def _eligible(self, ledger: Ledger, change: ProposedChange, request: Request) -> str:
        rules, _ = requirements.rules_of(ledger, change, request)
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

    @staticmethod
    def _approved_already(ledger: Ledger, change: ProposedChange) -> bool:
        last = last_request(ledger.session, change.version, change.target)
        if last is None or last.state is not State.APPLIED:
            return False
        mine = [v for v in votes(ledger.session, last.id) if v.approver == ledger.actor]
        return bool(mine) and mine[0].verdict == "approve"

    @staticmethod
    def _nothing_open(ledger: Ledger, change: ProposedChange) -> NoOpenRequestError:
        last = last_request(ledger.session, change.version, change.target)
        return NoOpenRequestError(
            messages.no_open_request(
                target=change.target,
                name=change.version.name,
                version=change.version.version,
                last=last.state if last else None,
                reason=last.reason if last else None,
            )
        )

    def _apply_if_auto(
        self, ledger: Ledger, change: ProposedChange, request: Request, evidence: Evidence | None
    ) -> Outcome[Any]:
        auto = self._enforcer.policy().defaults.apply == "auto"
        if not auto or request.state is not State.APPROVED:
            return Outcome()
        if evidence is not None and evidence.digest is None:
            return Outcome()  # approved; the stock call applies it once the files are read again
        _, basis = requirements.rules_of(ledger, change, request)
        if requirements.obstacle(ledger, change, basis, evidence) is not None:
            return Outcome()  # approved; the stock call applies it once nothing is in the way
        return requests.settle(
            ledger, change, request, lambda: self._write(change), evidence, filed=False
        )
