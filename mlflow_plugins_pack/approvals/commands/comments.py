"""Comments on versions and targets: made, changed and deleted by those who wrote them."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.commands.runner import MAX_COMMENT_LENGTH, Handling
from mlflow_plugins_pack.approvals.content.evidence import Evidence
from mlflow_plugins_pack.approvals.domain import messages
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.enforcement.change import Outcome, ProposedChange
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.ledger.requests import Request, comments_on
from mlflow_plugins_pack.errors import InvalidCommandError, NoOpenRequestError


class Commenting(Handling):
    """The commands about comments."""

    def comment(self, name: str, version: int, target: Target, text: str | None = None) -> None:
        """Comment on a version and target, with or without a request."""
        if not text:
            raise InvalidCommandError(messages.command_malformed("comment", "the text is missing"))

        def work(
            ledger: Ledger,
            change: ProposedChange,
            request: Request | None,
            _evidence: Evidence | None,
        ) -> Outcome[Any]:
            request_id = request.id if request else None
            ledger.comment(change.version, text, target=change.target, request_id=request_id)
            return Outcome()

        self.carry_out(name, version, target, work, verb=None)

    def comment_edit(self, name: str, version: int, target: Target, text: str | None) -> None:
        """Change one's own newest comment on a version and target."""
        if not text:
            problem = "the text is missing"
            raise InvalidCommandError(messages.command_malformed("comment.edit", problem))
        self._change_comment(name, version, target, text)

    def comment_delete(
        self, name: str, version: int, target: Target, _text: str | None = None
    ) -> None:
        """Delete one's own newest comment on a version and target."""
        self._change_comment(name, version, target, None)

    def _change_comment(self, name: str, version: int, target: Target, text: str | None) -> None:
        def work(
            ledger: Ledger,
            change: ProposedChange,
            _request: Request | None,
            _evidence: Evidence | None,
        ) -> Outcome[Any]:
            mine = [
                comment["id"]
                for comment in comments_on(ledger.session, change.version.uid)
                if comment["author"] == ledger.actor and comment["target"] == change.target.key
            ]
            if not mine or not ledger.edit_comment(mine[-1], text):
                raise NoOpenRequestError(
                    messages.no_own_comment(
                        user=ledger.actor or "", target=change.target, name=name, version=version
                    )
                )
            return Outcome()

        self.carry_out(name, version, target, work, verb="changing a comment on")

    def edit_comment(self, comment_id: str, text: str | None) -> None:
        """Change one's own comment, or delete it.

        Args:
            comment_id: Which.
            text: What it says from now on; None: it is deleted.

        Raises:
            ApprovalError: If there is no such comment of the caller's, or the text is too long.
        """
        if text is not None and not 0 < len(text) <= MAX_COMMENT_LENGTH:
            problem = f"a comment has 1 to {MAX_COMMENT_LENGTH} characters"
            raise InvalidCommandError(messages.command_malformed("comment", problem))
        enforcer = self._enforcer

        def work(session: Session) -> None:
            if not enforcer.ledger(session).edit_comment(comment_id, text):
                raise NoOpenRequestError(
                    messages.no_comment(comment_id=comment_id, user=enforcer.actor())
                )

        enforcer.transactions.write(work)
