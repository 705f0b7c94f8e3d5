"""How a command about one version and target is carried out, whatever it is.

Look at what it is about, read the version's bytes if the command goes by them, and then do its work
in one transaction: lock the model, look again, find the open request. If what was looked at has
changed in between, start over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.content.evidence import Evidence
from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.domain import messages
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.enforcement.change import (
    EvidenceOutdatedError,
    Outcome,
    ProposedChange,
    word_for,
)
from mlflow_plugins_pack.approvals.enforcement.enforcer import Enforcer
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.ledger.requests import Request
from mlflow_plugins_pack.approvals.ledger.snapshot import SnapshotReader
from mlflow_plugins_pack.errors import (
    IdentityRequiredError,
    InvalidCommandError,
    NoOpenRequestError,
    RegistryBusyError,
)

MAX_COMMENT_LENGTH = 5000

Work = Callable[[Ledger, ProposedChange, "Request | None", "Evidence | None"], "Outcome[Any]"]
"""What a command does under the lock, with the change that the open request, if any, is about."""


class Handling:
    """Carries out commands on one store.

    Args:
        enforcer: Enforces the policy.
    """

    def __init__(self, enforcer: Enforcer) -> None:
        self._enforcer = enforcer

    def carry_out(
        self,
        name: str,
        version: int,
        target: Target,
        work: Work,
        *,
        verb: str | None,
        needs_bytes: bool = False,
    ) -> None:
        """Do a command's work in one transaction.

        Args:
            name: The model or prompt.
            version: Its version.
            target: As the caller wrote it.
            work: May run several times.
            verb: What the command does, for the refusal of nobody; None: nobody may do it too.
            needs_bytes: Whether the work goes by the version's bytes.

        Raises:
            ApprovalError: What the work refused, or that nothing could be worked on.
        """
        enforcer = self._enforcer
        for _ in range(8):
            change = enforcer.transactions.read(
                lambda s: self._change(enforcer.snapshot_reader(s), name, version, target)
            )
            if verb is not None and enforcer.actor() is None:
                what = f"{verb} version {version} for {change.target} of '{name}'"
                raise IdentityRequiredError(messages.identity_required(what))
            evidence = enforcer.evidence(change) if needs_bytes else None
            try:
                outcome = enforcer.transactions.write(
                    lambda s, e=evidence: self._transact(s, name, version, target, work, e)  # type: ignore[misc]
                )
            except EvidenceOutdatedError:
                # The policy changed to ``apply: auto`` a moment ago, or the files are not read yet.
                needs_bytes = True
                continue
            if outcome is None:
                continue
            if verb is not None:
                enforcer.sync_lock(change.version, change.target)
            if outcome.refusal is not None:
                raise outcome.refusal
            return
        raise RegistryBusyError(
            f"'{name}' kept changing while it was looked at. Nothing was changed. Try again."
        )

    def _change(
        self, read_snapshot: SnapshotReader, name: str, version: int, target: Target
    ) -> ProposedChange:
        snapshot = read_snapshot(name, version, target)
        found = snapshot.version
        if found is None:
            raise NoOpenRequestError(
                f"there is no version {version} of '{name}'. {messages.UNCHANGED} "
                "Check the name and the number."
            )
        protection = self._enforcer.protection(found, target)
        if protection is None:
            raise InvalidCommandError(messages.nothing_protected(target=target, name=found.name))
        rule, protected = protection
        # A look-alike from before the policy is asked about under its own name.
        if any(request.version_uid == found.uid for request, _ in snapshot.waiting or ()):
            protected = target
        if protected != target:
            snapshot = read_snapshot(name, version, protected)
        stage = protected.name if protected.kind == "stage" else None
        return ProposedChange("promote", protected, found, rule, snapshot, stage=stage)

    def _transact(
        self,
        session: Session,
        name: str,
        version: int,
        target: Target,
        work: Work,
        evidence: Evidence | None,
    ) -> Outcome[Any] | None:
        mlflow_tables.lock_model(session, self._enforcer.workspace(), name)
        change = self._change(self._enforcer.snapshot_reader(session), name, version, target)
        if evidence is not None and evidence.uid != change.version.uid:
            return None
        if evidence is not None and evidence.digest is None:
            evidence = self._enforcer.readings.by_now(session, change.version, evidence)
        ledger = self._enforcer.ledger(session, change.snapshot)
        request = self._open(ledger, change) or self._open(ledger, change, review=True)
        if request is not None:
            change = replace(
                change,
                action="demote" if request.action == "demote" else "promote",
                stage=request.stage,
                archive_existing=request.archive_existing,
            )
        return work(ledger, change, request, evidence)

    @staticmethod
    def _open(ledger: Ledger, change: ProposedChange, *, review: bool = False) -> Request | None:
        """Return the open request, or the open review, unless its time has run out just now."""
        request = ledger.open_request(change.version, change.target, review=review)
        if request is None:
            return None
        before = request.state
        request = ledger.expire_if_due(request)
        if request.state is before:
            return request
        text = f"{word_for(request, request.state)}: {request.reason}"
        mlflow_tables.show(ledger.session, mlflow_tables.shown(change.version, change.target, text))
        if review:
            ledger.ungrant(change.version, change.target)
        return None
