"""The commands that people give, by tag or by the command line, each under its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mlflow_plugins_pack.approvals.commands.break_glass import BreakGlassCommands
from mlflow_plugins_pack.approvals.commands.comments import CommentCommands
from mlflow_plugins_pack.approvals.commands.runner import (
    MAX_COMMENT_LENGTH,
    Command,
    CommandRunner,
)
from mlflow_plugins_pack.approvals.commands.voting import VotingCommands
from mlflow_plugins_pack.approvals.domain import tag_messages
from mlflow_plugins_pack.approvals.domain.tag_names import parse_command
from mlflow_plugins_pack.approvals.enforcement.change import ProposedChange
from mlflow_plugins_pack.approvals.enforcement.enforcer import Enforcer
from mlflow_plugins_pack.errors import ApprovalError, InvalidCommandError

_ABOUT_A_REQUEST = frozenset({"approve", "withdraw", "reject", "cancel"})


class Commands:
    """The commands of one store.

    Args:
        enforcer: Enforces the policy.
        write: Makes an approved change the stock way.

    Attributes:
        comments: The commands about comments.
        by_name: Every command under its name, as in ``approvals.NAME``.
    """

    def __init__(self, enforcer: Enforcer, write: Callable[[ProposedChange], Any]) -> None:
        self._enforcer = enforcer
        runner = CommandRunner(enforcer, write)
        voting, emergency = VotingCommands(runner), BreakGlassCommands(runner)
        self.comments = CommentCommands(runner)
        self.by_name: Mapping[str, Callable[[Command], None]] = {
            "request": voting.request,
            "approve": voting.approve,
            "withdraw": voting.withdraw,
            "reject": voting.reject,
            "cancel": voting.cancel,
            "comment": self.comments.add,
            "comment.edit": self.comments.edit_newest,
            "comment.delete": self.comments.delete_newest,
            "break_glass": emergency.promote,
            "break_glass.demote": emergency.demote,
        }

    def run(self, command: str, name: str, version: int, value: str) -> None:
        """Run the command of a tag.

        Args:
            command: A key of `by_name`.
            name: The model or prompt.
            version: Its version.
            value: ``TARGET: text``, or ``TARGET #REQUEST: text``.

        Raises:
            ApprovalError: If it is refused; nothing was changed unless the message says so.
        """
        try:
            target, request_id, text = parse_command(value)
        except ValueError as exc:
            raise InvalidCommandError(tag_messages.command_malformed(command, str(exc))) from exc
        if request_id is not None and command not in _ABOUT_A_REQUEST:
            problem = "it takes no request's id"
            raise InvalidCommandError(tag_messages.command_malformed(command, problem))
        self.give(command, Command(name, version, target, text or None, request_id))

    def give(self, name: str, command: Command) -> None:
        """Run a command; the audit log keeps a refusal.

        Args:
            name: A key of `by_name`.
            command: What it is about.

        Raises:
            ApprovalError: If it is refused; nothing was changed unless the message says so.
        """
        if len(command.text or "") > MAX_COMMENT_LENGTH:
            problem = f"the text is longer than {MAX_COMMENT_LENGTH} characters"
            raise InvalidCommandError(tag_messages.command_malformed(name, problem))
        try:
            self.by_name[name](command)
        except ApprovalError as refusal:
            self._enforcer.record_refusal(
                refusal, command.name, command.version, command.target.key
            )
            raise
