"""The commands about comments: added by any caller, changed and deleted by their authors."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.commands.runner import (
    MAX_COMMENT_LENGTH,
    Command,
    CommandRunner,
)
from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.domain import messages, tag_messages
from mlflow_plugins_pack.approvals.enforcement.change import Decision, Outcome
from mlflow_plugins_pack.approvals.ledger import comments
from mlflow_plugins_pack.approvals.ledger.requests import comments_on
from mlflow_plugins_pack.errors import InvalidCommandError, NoOpenRequestError


class CommentCommands:
    """Comments on versions and targets.

    Args:
        runner: Runs the commands.
    """

    def __init__(self, runner: CommandRunner) -> None:
        self._runner = runner

    def add(self, command: Command) -> None:
        """Comment on a version and target, with or without a request."""
        text = _text(command, "comment")

        def work(decision: Decision) -> Outcome[Any]:
            request = decision.open_request
            comments.add(
                decision.ledger,
                decision.change.version,
                text,
                target=decision.change.target,
                request_id=request.id if request else None,
            )
            return Outcome()

        self._runner.run(command, work, verb=None)

    def edit_newest(self, command: Command) -> None:
        """Change one's own newest comment on a version and target."""
        self._change_newest(command, _text(command, "comment.edit"))

    def delete_newest(self, command: Command) -> None:
        """Delete one's own newest comment on a version and target."""
        self._change_newest(command, None)

    def _change_newest(self, command: Command, text: str | None) -> None:
        def work(decision: Decision) -> Outcome[Any]:
            ledger, change = decision.ledger, decision.change
            own = [
                comment["id"]
                for comment in comments_on(ledger.session, change.version.uid)
                if comment["author"] == ledger.actor and comment["target"] == change.target.key
            ]
            if not own or not comments.edit(ledger, own[-1], text):
                raise NoOpenRequestError(
                    messages.no_own_comment(
                        user=ledger.actor or "",
                        target=change.target,
                        name=command.name,
                        version=command.version,
                    )
                )
            return Outcome()

        self._runner.run(command, work, verb="changing a comment on")

    def add_to_version(self, name: str, version: int, text: str) -> str:
        """Comment on a version, whatever its targets, and return the comment's id.

        Raises:
            ApprovalError: If the version does not exist, or the text is empty or too long.
        """
        _check_length(text)
        enforcer = self._runner.enforcer

        def work(session: Session) -> str:
            workspace = enforcer.governance.workspace()
            found = mlflow_tables.find_version(session, workspace, name, version)
            if found is None:
                raise NoOpenRequestError(messages.no_version(name, version))
            return comments.add(enforcer.ledger(session), found, text, target=None, request_id=None)

        return enforcer.transactions.write(work)

    def edit(self, comment_id: str, text: str | None) -> None:
        """Change one's own comment, or delete it.

        Args:
            comment_id: The comment's id.
            text: The new text; None deletes the comment.

        Raises:
            ApprovalError: If the caller has no comment of that id, or the text is too long.
        """
        if text is not None:
            _check_length(text)
        enforcer = self._runner.enforcer

        def work(session: Session) -> None:
            if not comments.edit(enforcer.ledger(session), comment_id, text):
                raise NoOpenRequestError(
                    messages.no_comment(comment_id=comment_id, user=enforcer.governance.actor())
                )

        enforcer.transactions.write(work)


def _check_length(text: str) -> None:
    if not 0 < len(text) <= MAX_COMMENT_LENGTH:
        problem = f"a comment has 1 to {MAX_COMMENT_LENGTH} characters"
        raise InvalidCommandError(tag_messages.command_malformed("comment", problem))


def _text(command: Command, name: str) -> str:
    if not command.text:
        raise InvalidCommandError(tag_messages.command_malformed(name, "the text is missing"))
    return command.text
