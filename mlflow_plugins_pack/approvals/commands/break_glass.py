"""The commands that change a protected target without approval in an emergency."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from mlflow_plugins_pack.approvals.commands.runner import Command, CommandRunner
from mlflow_plugins_pack.approvals.commands.voting import refuse_holder
from mlflow_plugins_pack.approvals.domain import messages
from mlflow_plugins_pack.approvals.domain.targets import ARCHIVED
from mlflow_plugins_pack.approvals.enforcement import break_glass
from mlflow_plugins_pack.approvals.enforcement.change import Decision, Outcome, ProposedChange
from mlflow_plugins_pack.errors import InvalidCommandError, NotAnApproverError


class BreakGlassCommands:
    """Emergency changes, which must be reviewed afterwards.

    Args:
        runner: Runs the commands.
    """

    def __init__(self, runner: CommandRunner) -> None:
        self._runner = runner

    def promote(self, command: Command) -> None:
        """Promote a version without approval."""
        self._run(command, "promote")

    def demote(self, command: Command) -> None:
        """Take a target from a version without approval."""
        self._run(command, "demote")

    def _run(self, command: Command, action: Literal["promote", "demote"]) -> None:
        def work(decision: Decision) -> Outcome[Any]:
            _require_right(decision, command)
            stage = _stage_after(decision.change, command, action)
            change = replace(decision.change, action=action, stage=stage, archive_existing=False)
            break_glass.break_glass(self._runner.decision_about(decision, change), command.text)
            return Outcome()

        loop = self._runner.enforcer.loop
        read_files = loop.whole_evidence if action == "promote" else None
        self._runner.run(command, work, verb="using break-glass on", read_files=read_files)


def _require_right(decision: Decision, command: Command) -> None:
    ledger, change = decision.ledger, decision.change
    terms = change.rule.break_glass
    if terms is None or not ledger.policy.may_break_glass(change.rule, ledger.actor):
        raise NotAnApproverError(
            messages.no_break_glass(
                user=ledger.actor or "",
                target=change.target,
                name=change.version.name,
                policy=change.rule.name,
                group=terms.group if terms else None,
            )
        )
    if terms.require_reason and not command.text:
        raise InvalidCommandError(messages.break_glass_reason(target=change.target))


def _stage_after(change: ProposedChange, command: Command, action: str) -> str | None:
    """Return the stage that the version moves to; None for an alias."""
    is_stage = change.target.kind == "stage"
    if action == "promote":
        refuse_holder(change)
        return change.target.name if is_stage else None
    if all(holder.uid != change.version.uid for holder in change.snapshot.holders):
        raise InvalidCommandError(
            messages.no_holder(target=change.target, name=command.name, version=command.version)
        )
    if not is_stage:
        return None
    archived = change.rule.protected(ARCHIVED)
    return "None" if archived is not None else "Archived"
