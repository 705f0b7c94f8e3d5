"""Decides whether a change of a protected alias or stage may happen, and has it made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals import caller
from mlflow_plugins_pack.approvals.content.digest import DigestResult, whole_digest
from mlflow_plugins_pack.approvals.content.digest_jobs import DigestJobs
from mlflow_plugins_pack.approvals.content.evidence import Evidence
from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.database.transactions import Transactions
from mlflow_plugins_pack.approvals.domain import clock, messages
from mlflow_plugins_pack.approvals.domain.digest_progress import DigestProgress
from mlflow_plugins_pack.approvals.enforcement import requests
from mlflow_plugins_pack.approvals.enforcement.change import (
    ABSENT,
    Absent,
    Decision,
    EvidenceOutdatedError,
    Outcome,
    Plan,
    Preview,
    ProposedChange,
    T,
)
from mlflow_plugins_pack.approvals.enforcement.decision_loop import MAX_ATTEMPTS, DecisionLoop
from mlflow_plugins_pack.approvals.enforcement.file_locks import FileLocks
from mlflow_plugins_pack.approvals.enforcement.governance import Governance
from mlflow_plugins_pack.approvals.enforcement.refusal_log import RefusalLog
from mlflow_plugins_pack.approvals.guards import install
from mlflow_plugins_pack.approvals.ledger import audit_log, claims, snapshot
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.ledger.requests import Request, find_requests
from mlflow_plugins_pack.approvals.ledger.snapshot import TargetSnapshot
from mlflow_plugins_pack.errors import (
    ApprovalError,
    ApprovalRequiredError,
    ChecksFailedError,
    DigestingError,
    FrozenError,
    IdentityRequiredError,
    RegistryBusyError,
)

DIGEST_ACTOR = "system:digest"
# Refusals that leave every request as it was, and so every lock.
_CHANGED_NOTHING = (ApprovalRequiredError, ChecksFailedError, DigestingError, FrozenError)


class Enforcer:
    """Enforces the policy for one store.

    Attributes:
        transactions: The store's transactions.
        governance: The policy in force.
        digest_jobs: Computes the digests of versions' files.
        file_locks: The locks on the files of approved versions.
        loop: Decides changes and commands.
    """

    def __init__(self, transactions: Transactions, governance: Governance) -> None:
        self.transactions = transactions
        self.governance = governance
        self.digest_jobs = DigestJobs(transactions, lambda: clock.now_ms(), self.note_digest)
        self.file_locks = FileLocks(transactions)
        self.loop = DecisionLoop(
            transactions, governance.workspace, self.digest_jobs, self.file_locks
        )
        self._refusals = RefusalLog(
            lambda **values: transactions.write(
                lambda s: self.ledger(s).record("REFUSED", **values)
            )
        )

    def ledger(self, session: Session, known: TargetSnapshot | None = None) -> Ledger:
        """Open the ledger for the caller, at this moment.

        Args:
            session: The session of the transaction.
            known: What was read under the lock already.
        """
        governance, now = self.governance, clock.now_ms()
        if known is not None and known.log is not None and self.transactions.may_be_bold(session):
            audit_log.expect(session, *known.log)
        if not (wanted := governance.policies.claims()):
            return Ledger(session, now, governance.actor(), governance.policy(), known)
        user = caller.current_caller(governance.policy().file.identity)
        # A password says nothing about groups, and takes away none that a token named before.
        has_groups = user is not None and user.source != "basic_auth"
        if user is not None and has_groups and self.transactions.is_writing(session):
            claims.note(session, user.user, user.groups & wanted, now)
        policy = governance.policies.current(claims.everybody(session))
        return Ledger(session, now, governance.actor(), policy, known)

    def note_caller(self) -> None:
        """Record the caller's claims, by which what they are about to write will be judged."""
        if self.governance.policies.claims():
            self.transactions.write(self.ledger)

    # --- changes ------------------------------------------------------------------------------

    def enforce(self, name: str, plan: Plan, write: Callable[[], T]) -> T:
        """Make a change if it is free or approved; else file a request and refuse.

        Args:
            name: The model's name.
            plan: Reads what the change would do to protected targets.
            write: Stock MLflow's own write.

        Returns:
            What the write returned.

        Raises:
            ApprovalError: If the change is refused.
        """
        for _ in range(MAX_ATTEMPTS):
            preview, found, outcome = self.loop.run(
                name,
                plan,
                self._gather,
                lambda s, change, evidence: self._decide(s, name, change, write, evidence),
            )
            if not outcome.must_lock:  # else the next round locks the files before it reads them
                break
        else:
            raise RegistryBusyError(messages.kept_changing(name))
        change, refusal = preview.change, outcome.refusal
        if not isinstance(change, ProposedChange):
            if refusal is not None:
                raise refusal
            return outcome.value  # type: ignore[return-value]
        can_lock = found is None or found.can_lock
        if can_lock and not isinstance(refusal, _CHANGED_NOTHING):
            self.file_locks.sync(change.version, change.target)
        if refusal is not None:
            refusal.is_recorded = outcome.is_filed
            self.record_refusal(refusal, name, change.version.version, change.target.key)
            raise refusal
        return outcome.value  # type: ignore[return-value]

    def _gather(self, preview: Preview, insist: bool) -> Evidence | None:
        change = preview.change
        if not isinstance(change, ProposedChange):
            return None
        with self._recording(change):
            self._require_identity(change)
            return self.loop.evidence_for(change, preview, insist=insist)

    def _decide(
        self,
        session: Session,
        name: str,
        change: ProposedChange | Absent | None,
        write: Callable[[], Any],
        found: Evidence | None,
    ) -> Outcome[Any]:
        if not isinstance(change, ProposedChange):
            with install.admitted(session, self.governance.workspace(), name):
                value = write()
            if change is ABSENT:  # yet the write found it: it was made in between
                raise EvidenceOutdatedError
            return Outcome(value)
        if self.governance.actor() is None:
            raise EvidenceOutdatedError
        ledger = self.ledger(session, change.snapshot)
        request = ledger.open_request(change.version, change.target)
        if request is not None:
            request = ledger.expire_if_due(request)
            request = request if request.state.is_open else None
        decision = Decision(ledger, change, found, write, request)
        if request is None:
            refusal = requests.after_rejection(session, change, found)
            if refusal is not None:
                return Outcome(refusal=refusal)
            decision = requests.file(decision, comment=None)
        return requests.settle(decision)

    def write_admitted(self, name: str, write: Callable[[], T]) -> T:
        """Make a change that needs no approval where the database guards would refuse it."""
        if not self.transactions.read(install.are_installed):
            return write()

        def work(session: Session) -> T:
            with install.admitted(session, self.governance.workspace(), name):
                return write()

        return self.transactions.write(work)

    def _require_identity(self, change: ProposedChange) -> None:
        if self.governance.actor() is None:
            verb = "changing" if change.action == "promote" else "taking away"
            raise IdentityRequiredError(
                messages.identity_required(
                    f"{verb} the protected {change.target} of '{change.version.name}'"
                )
            )

    # --- digests that were computed in the background ------------------------------------------

    def note_digest(
        self, version: Version, result: DigestResult | None, progress: DigestProgress
    ) -> None:
        """Bind the version's requests to its digest, or show them how far the digest is."""

        def work(session: Session) -> None:
            mlflow_tables.lock_model(session, version.workspace, version.name)
            policies = self.governance.policies
            policy = policies.current()
            if policies.claims():
                policy = policies.current(claims.everybody(session))
            ledger = Ledger(session, clock.now_ms(), DIGEST_ACTOR, policy)
            for request in find_requests(session, version_uid=version.uid, only_open=True):
                if request.awaits_digest:
                    self._note_digest(ledger, request, result, progress)

        self.transactions.write(work)

    def _note_digest(
        self,
        ledger: Ledger,
        request: Request,
        result: DigestResult | None,
        progress: DigestProgress,
    ) -> None:
        read = snapshot.snapshot_reader(ledger.session, request.workspace, under_lock=True)
        known = read(request.name, request.version, request.target)
        version = known.version
        if version is None or version.uid != request.version_uid:
            return
        protection = self.governance.protection(version, request.target)
        if protection is None:
            return
        change = ProposedChange(
            "promote", request.target, version, protection[0], known, request.stage
        )
        if result is not None:
            session = ledger.session
            tags = mlflow_tables.version_tags(session, version) if version.is_prompt else {}
            whole = whole_digest(version, tags, result.digest)
            request = ledger.note_digest(request, whole, result.file_marks)
        requests.show_votes(ledger, change, request, progress)

    # --- refusals in the audit log ------------------------------------------------------------

    @contextlib.contextmanager
    def _recording(self, change: ProposedChange) -> Iterator[None]:
        try:
            yield
        except ApprovalError as refusal:
            version = change.version
            self.record_refusal(refusal, version.name, version.version, change.target.key)
            raise

    def record_refusal(
        self, refusal: ApprovalError, name: str, version: object = None, target: str | None = None
    ) -> None:
        """Write a refusal to the audit log.

        Call it after the refused transaction was rolled back, which would remove the entry too.

        Args:
            refusal: The error that is about to be raised; ignored if it was recorded already.
            name: The model's name as the caller wrote it.
            version: The version's number as the caller wrote it.
            target: The alias or stage, such as ``alias:prod``.
        """
        governance = self.governance
        self._refusals.record(
            refusal, governance.actor(), governance.workspace(), name, version, target
        )
