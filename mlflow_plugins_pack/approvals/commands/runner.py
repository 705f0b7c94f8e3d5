"""Runs a command about one version and target, whatever the command is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.content.evidence import Evidence
from mlflow_plugins_pack.approvals.domain import messages
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.enforcement import apply
from mlflow_plugins_pack.approvals.enforcement.change import (
    Absent,
    Decision,
    Outcome,
    Preview,
    ProposedChange,
)
from mlflow_plugins_pack.approvals.enforcement.enforcer import Enforcer
from mlflow_plugins_pack.approvals.ledger import grants
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.ledger.requests import Request
from mlflow_plugins_pack.approvals.ledger.snapshot import SnapshotReader
from mlflow_plugins_pack.errors import (
    DigestUnavailableError,
    IdentityRequiredError,
    InvalidCommandError,
    NoOpenRequestError,
)

_logger = logging.getLogger(__name__)

MAX_COMMENT_LENGTH = 5000


@dataclass(frozen=True)
class Command:
    """A command as it was given.

    Attributes:
        name: The model or prompt.
        version: Its version.
        target: The target as the caller wrote it.
        text: The comment or reason, if any.
        request_id: The request that the caller has seen, or the beginning of its id; None:
            whichever is open.
    """

    name: str
    version: int
    target: Target
    text: str | None = None
    request_id: str | None = None


Work = Callable[[Decision], Outcome[Any]]
"""What a command does, under the lock; it may run several times."""
Read = Callable[[ProposedChange, Preview], "Evidence | None"]
"""Reads the files that a command depends on."""


class CommandRunner:
    """Runs commands on one store.

    Args:
        enforcer: Enforces the policy.
        write: Makes an approved change the stock way.
    """

    def __init__(self, enforcer: Enforcer, write: Callable[[ProposedChange], Any]) -> None:
        self.enforcer = enforcer
        self._write = write

    def run(
        self,
        command: Command,
        work: Work,
        *,
        verb: str | None,
        read_files: Read | None = None,
        then: Work | None = None,
    ) -> None:
        """Do a command's work in one transaction.

        Args:
            command: The command.
            work: What it does.
            verb: What it does in words, for the refusal of callers who are not signed in; None:
                they may do it too.
            read_files: Reads the version's files, if the work depends on them.
            then: What is done once the files are locked, where the work has asked for that.

        Raises:
            ApprovalError: If the work refused, or if the version or target does not exist.
        """
        enforcer = self.enforcer

        def plan(read_snapshot: SnapshotReader) -> ProposedChange:
            return self._plan(read_snapshot, command)

        def gather(preview: Preview, insist: bool) -> Evidence | None:
            change = _change(preview.change)
            if verb is not None and enforcer.governance.actor() is None:
                what = f"{verb} version {command.version} for {change.target} of '{command.name}'"
                raise IdentityRequiredError(messages.identity_required(what))
            # Without need, where the policy changed to ``apply: auto`` a moment ago.
            if insist:
                return enforcer.loop.whole_evidence(change, preview)
            return read_files(change, preview) if read_files is not None else None

        def decide(
            session: Session,
            change: ProposedChange | Absent | None,
            evidence: Evidence | None,
        ) -> Outcome[Any]:
            decision = self._decision(session, _change(change), evidence)
            return work(_about_seen(decision, command.request_id))

        preview, _, outcome = enforcer.loop.run(command.name, plan, gather, decide)
        if outcome.must_lock and then is not None:
            try:
                return self.run(command, then, verb=verb, read_files=enforcer.loop.whole_evidence)
            except DigestUnavailableError as exc:
                # Approved and recorded; the stock call that makes the change says the same.
                _logger.warning("'%s' is approved and not applied: %s", command.name, exc)
                return None
        if verb is not None:
            change = _change(preview.change)
            enforcer.file_locks.sync(change.version, change.target)
        if outcome.refusal is not None:
            raise outcome.refusal
        return None

    def _plan(self, read_snapshot: SnapshotReader, command: Command) -> ProposedChange:
        target = command.target
        known = read_snapshot(command.name, command.version, target)
        version = known.version
        if version is None:
            raise NoOpenRequestError(messages.no_version(command.name, command.version))
        protection = self.enforcer.governance.protection(version, target)
        if protection is None:
            raise InvalidCommandError(messages.nothing_protected(target=target, name=version.name))
        rule, protected = protection
        # A look-alike from before the policy is asked about under its own name.
        if any(request.version_uid == version.uid for request, _ in known.waiting or ()):
            protected = target
        if protected != target:
            known = read_snapshot(command.name, command.version, protected)
        stage = protected.name if protected.kind == "stage" else None
        return ProposedChange("promote", protected, version, rule, known, stage=stage)

    def _decision(
        self, session: Session, change: ProposedChange, evidence: Evidence | None
    ) -> Decision:
        ledger = self.enforcer.ledger(session, change.snapshot)
        request = _open(ledger, change) or _open(ledger, change, review=True)
        if request is not None:
            change = replace(
                change,
                action="demote" if request.action == "demote" else "promote",
                stage=request.stage,
                archive_existing=request.archive_existing,
            )
        decision = Decision(ledger, change, evidence, _never, request)
        return self.decision_about(decision, change)

    def decision_about(self, decision: Decision, change: ProposedChange) -> Decision:
        """Return the decision about another change, with the write that makes it."""
        return replace(decision, change=change, write=lambda: self._write(change))


def _never() -> Any:
    raise AssertionError("a decision is made about a change")


def _change(change: ProposedChange | Absent | None) -> ProposedChange:
    if not isinstance(change, ProposedChange):
        raise AssertionError("a command's plan returns a change or raises")  # noqa: TRY004
    return change


def _about_seen(decision: Decision, request_id: str | None) -> Decision:
    """Leave out an open request that has taken the place of the one that the caller has seen."""
    request = decision.open_request
    if request_id is None or request is None or request.id.startswith(request_id):
        return decision
    return replace(decision, open_request=None)


def _open(ledger: Ledger, change: ProposedChange, *, review: bool = False) -> Request | None:
    """Return the open request, or the open review, unless its time has run out just now."""
    request = ledger.open_request(change.version, change.target, review=review)
    if request is None:
        return None
    before = request.state
    request = ledger.expire_if_due(request)
    if request.state is before:
        return request
    apply.show_closed(ledger, change.version, request)
    if review:
        grants.revoke(ledger, change.version, change.target)
    return None
