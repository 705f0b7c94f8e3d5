"""Decides whether a change of a protected alias or stage may happen, and makes it happen.

First what is slow (reading the version's bytes) without holding anything; then one write
transaction that locks the model, looks again, decides, lets stock MLflow write, and records. If
what was looked at has changed in between, it starts over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals import caller as identity
from mlflow_plugins_pack.approvals.content import digest, evidence, file_locks
from mlflow_plugins_pack.approvals.content.digest import whole_digest
from mlflow_plugins_pack.approvals.content.digest_jobs import Readings
from mlflow_plugins_pack.approvals.content.evidence import Evidence
from mlflow_plugins_pack.approvals.content.hashing import Underway
from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.database.transactions import Transactions
from mlflow_plugins_pack.approvals.domain import messages
from mlflow_plugins_pack.approvals.domain.clock import now_ms
from mlflow_plugins_pack.approvals.domain.request_states import State
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.enforcement import requests
from mlflow_plugins_pack.approvals.enforcement.change import (
    ABSENT,
    EvidenceOutdatedError,
    Outcome,
    Plan,
    Preview,
    ProposedChange,
    T,
)
from mlflow_plugins_pack.approvals.enforcement.refusal_log import RefusalLog
from mlflow_plugins_pack.approvals.guards import install
from mlflow_plugins_pack.approvals.ledger import audit_log, claims, snapshot
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.ledger.requests import (
    Request,
    find_requests,
    is_approved,
    open_request,
)
from mlflow_plugins_pack.approvals.ledger.snapshot import SnapshotReader, TargetSnapshot
from mlflow_plugins_pack.approvals.policy.models import Policy, PolicyRule
from mlflow_plugins_pack.approvals.policy.source import PolicySource
from mlflow_plugins_pack.errors import (
    ApprovalError,
    ApprovalRequiredError,
    ChecksFailedError,
    DigestingError,
    FrozenError,
    IdentityRequiredError,
    RegistryBusyError,
)

_START_OVER = 8
READER = "system:digest"
# Refusals that leave every request as it was, and so every lock.
_CHANGED_NOTHING = (ApprovalRequiredError, ChecksFailedError, DigestingError, FrozenError)


class Enforcer:
    """Enforces the policy for one store."""

    def __init__(
        self, transactions: Transactions, policies: PolicySource, workspace: Callable[[], str]
    ) -> None:
        self.transactions = transactions
        self._policies = policies
        self.workspace = workspace
        self.readings = Readings(transactions, now_ms, self.note_reading)
        self._refusals = RefusalLog(
            lambda **values: transactions.write(
                lambda s: self.ledger(s).record("REFUSED", **values)
            )
        )

    def policy(self) -> Policy:
        """Return the policy in force."""
        return self._policies.current()

    def actor(self) -> str | None:
        """Return the signed-in caller."""
        return identity.current_user(self.policy().file.identity)

    def ledger(self, session: Session, seen: TargetSnapshot | None = None) -> Ledger:
        """Open the ledger for the caller, now; with what was seen under the lock."""
        now = now_ms()
        if seen is not None and seen.log is not None and self.transactions.may_be_bold(session):
            audit_log.expect(session, *seen.log)
        if not (wanted := self._policies.claims()):
            return Ledger(session, now, self.actor(), self.policy(), seen)
        caller = identity.current_caller(self.policy().file.identity)
        # A password says nothing about groups, and takes away none that a token named before.
        vouches = caller is not None and caller.source != "basic_auth"
        if caller is not None and vouches and self.transactions.is_writing(session):
            claims.note(session, caller.user, caller.groups & wanted, now)
        policy = self._policies.current(claims.everybody(session))
        return Ledger(session, now, self.actor(), policy, seen)

    def note_caller(self) -> None:
        """Keep what vouches for the caller, who is about to write what counts by that."""
        if self._policies.claims():
            self.transactions.write(self.ledger)

    # --- governance -------------------------------------------------------------------------

    def rules_about(self, version: Version, name: str | None = None) -> list[PolicyRule]:
        """Return the policies that govern a version, under its own name or another."""
        return self.policy().rules_about(
            version.workspace,
            name or version.name,
            is_prompt=version.is_prompt,
            has_files=version.has_files,
        )

    def protection(
        self, version: Version, target: Target, name: str | None = None
    ) -> tuple[PolicyRule, Target] | None:
        """Return the policy that protects a target of a version, and its spelling of it."""
        for rule in self.rules_about(version, name):
            protected = rule.protected(target)
            if protected is not None:
                return rule, protected
        return None

    def may_protect(self, name: str, target: Target | None) -> bool:
        """Tell without a query whether a policy could protect the target (None: any stage)."""
        return any(
            rule.targets.stages if target is None else rule.protected(target)
            for rule in self.policy().rules_that_may(self.workspace(), name)
        )

    def may_protect_aliases(self, name: str) -> bool:
        """Tell without a query whether a policy could protect an alias of the name."""
        rules = self.policy().rules_that_may(self.workspace(), name)
        return any(rule.targets.aliases for rule in rules)

    def is_consumer(self, name: str) -> bool:
        """Tell without a query whether the caller may get only approved versions of the name."""
        rules = self.policy().rules_that_may(self.workspace(), name)
        if not any(rule.consume for rule in rules):
            return False
        actor = self.actor()
        return any(self.policy().is_consumer(rule, actor) for rule in rules)

    def unapproved_by(self, session: Session, version: Version) -> PolicyRule | None:
        """Return the policy that keeps an unapproved version from the caller, or None."""
        actor = self.actor()
        for rule in self.rules_about(version):
            targets = list(rule.all_targets())
            if self.policy().is_consumer(rule, actor):
                approved = is_approved(session, version, targets, now_ms())
                return None if approved is not None else rule
        return None

    def held(
        self, session: Session, name: str, *, also_as: str | None = None
    ) -> list[tuple[Target, Version]]:
        """Return the protected targets that a model holds now.

        Args:
            session: To read with.
            name: The model.
            also_as: Another name under which policies are asked too.
        """
        found = []
        for target, version in mlflow_tables.holdings(session, self.workspace(), name):
            names = {version.name, also_as or version.name}
            if any(self.protection(version, target, asked) for asked in names):
                found.append((target, version))
        return found

    # --- the change ----------------------------------------------------------------------------

    def perform(self, name: str, plan: Plan, write: Callable[[], T]) -> T:
        """Make a change if it is free or approved; else file a request and refuse.

        Args:
            name: The model.
            plan: Reads what the change would do to protected targets.
            write: Stock MLflow's own write.

        Returns:
            What the write returned.

        Raises:
            ApprovalError: If the change is refused.
        """
        for attempt in range(_START_OVER):
            seen = self.transactions.read(lambda s: self._look(s, plan))
            change = seen.change if isinstance(seen.change, ProposedChange) else None
            found = None
            if change is not None:
                with self.recording(change):
                    self.require_identity(change)
                    # A second round means that the decision does need the bytes.
                    found = self._evidence_for(change, seen, insist=attempt > 0)
            try:
                outcome = self.transactions.write(
                    lambda s, e=found: self._decide(s, name, plan, write, e)  # type: ignore[misc]
                )
            except EvidenceOutdatedError:
                continue
            can_lock = found is None or found.can_lock
            if (
                change is not None
                and can_lock
                and not isinstance(outcome.refusal, _CHANGED_NOTHING)
            ):
                self.sync_lock(change.version, change.target)
            if outcome.refusal is not None:
                outcome.refusal.is_recorded = outcome.filed
                if change is not None:
                    self.record_refusal(
                        outcome.refusal, name, change.version.version, change.target.key
                    )
                raise outcome.refusal
            return outcome.value  # type: ignore[return-value]
        raise RegistryBusyError(
            f"'{name}' kept changing while it was looked at. Nothing was changed. Try again."
        )

    def write_admitted(self, name: str, write: Callable[[], T]) -> T:
        """Make a change that is free, past database guards that cannot see as exactly."""
        if not self.transactions.read(install.are_installed):
            return write()

        def work(session: Session) -> T:
            with install.admitted(session, self.workspace(), name):
                return write()

        return self.transactions.write(work)

    def snapshot_reader(self, session: Session) -> SnapshotReader:
        """Return what sees scenes: at a glance, or in a write transaction, under the lock, all."""
        under_lock = self.transactions.is_writing(session)
        return snapshot.snapshot_reader(session, self.workspace(), under_lock=under_lock)

    def _look(self, session: Session, plan: Plan) -> Preview:
        """Read what the call would do, and what the reading of bytes depends on."""
        change = plan(self.snapshot_reader(session))
        if not isinstance(change, ProposedChange) or change.action == "demote":
            return Preview(change)
        return self._seen(session, change)

    @staticmethod
    def _seen(session: Session, change: ProposedChange) -> Preview:
        tags = (
            mlflow_tables.version_tags(session, change.version) if change.version.is_prompt else {}
        )
        return Preview(change, tags)

    def sync_lock(self, version: Version, target: Target) -> None:
        """Lock the version's files if it is approved for the target, else let go of them."""
        file_locks.sync(
            version,
            target,
            lambda: self.transactions.read(
                lambda s: is_approved(s, version, [target], now_ms()) is not None
            ),
        )

    def require_identity(self, change: ProposedChange) -> None:
        """Refuse a caller who is nobody."""
        if self.actor() is None:
            verb = "changing" if change.action == "promote" else "taking away"
            raise IdentityRequiredError(
                messages.identity_required(
                    f"{verb} the protected {change.target} of '{change.version.name}'"
                )
            )

    def _evidence_for(
        self, change: ProposedChange, seen: Preview, *, insist: bool
    ) -> Evidence | None:
        """Read the bytes where the decision will need them; a waiting request does not."""
        if change.action == "demote":
            return None
        files = digest.Files(change.version)
        if files.is_quick:
            # Only a request that is to be filed asks for the run's user; then this comes again.
            return self._gather(change, seen, files, with_user=insist)
        request = self.transactions.read(lambda s: open_request(s, change.version, change.target))
        waits = request is not None and request.state is State.PENDING
        waits = waits and not (request is not None and request.awaits_digest)
        if waits and not insist and change.rule.approvals:
            return None
        # A change is made by bytes that were read after it was approved.
        is_approved = request is not None and request.state is State.APPROVED
        since_ms = request.updated_at if request is not None and is_approved else 0
        return self._gather(change, seen, files, since_ms, with_user=insist or request is None)

    def _gather(
        self,
        change: ProposedChange,
        seen: Preview,
        files: digest.Files,
        since_ms: int = 0,
        *,
        with_user: bool = True,
    ) -> Evidence:
        def digest_of(tags: Mapping[str, str | None]) -> str | Underway:
            return self.readings.digest_of(files, tags, since_ms)

        tags = seen.tags or {}
        found = evidence.gather(
            change.version, tags, change.rule.checks, change.holder, digest_of, with_user=with_user
        )
        return replace(found, since_ms=since_ms, can_lock=files.can_lock)

    def evidence(self, change: ProposedChange) -> Evidence:
        """Read a version's bytes and its run; slow, so never inside a transaction."""
        seen = self.transactions.read(lambda s: self._seen(s, change))
        return self._gather(change, seen, digest.Files(change.version))

    def _decide(
        self,
        session: Session,
        name: str,
        plan: Plan,
        write: Callable[[], T],
        found: Evidence | None,
    ) -> Outcome[T]:
        mlflow_tables.lock_model(session, self.workspace(), name)
        change = plan(self.snapshot_reader(session))
        if not isinstance(change, ProposedChange):
            with install.admitted(session, self.workspace(), name):
                value = write()
            if change is ABSENT:  # and there now: it has come since the plan looked
                raise EvidenceOutdatedError
            return Outcome(value)
        if self.actor() is None or (found is not None and found.uid != change.version.uid):
            raise EvidenceOutdatedError
        if found is not None and found.digest is None:
            found = self.readings.by_now(session, change.version, found)
        ledger = self.ledger(session, change.snapshot)
        request = ledger.open_request(change.version, change.target)
        if request is not None:
            request = ledger.expire_if_due(request)
            request = request if request.state.is_open else None
        filed = request is None
        if request is None:
            refusal = requests.after_rejection(session, change, found)
            if refusal is not None:
                return Outcome(refusal=refusal)
            request = requests.file(ledger, change, found, comment=None)
        return requests.settle(ledger, change, request, write, found, filed=filed)

    def note_reading(self, version: Version, digest: str | None, how_far: Underway) -> None:
        """Bind the version's requests to what was read, or show them how far the reading is."""

        def work(session: Session) -> None:
            mlflow_tables.lock_model(session, version.workspace, version.name)
            policy = self.policy()
            if self._policies.claims():
                policy = self._policies.current(claims.everybody(session))
            ledger = Ledger(session, now_ms(), READER, policy)
            for request in find_requests(session, version_uid=version.uid, only_open=True):
                if request.awaits_digest:
                    self._note_reading(ledger, request, digest, how_far)

        self.transactions.write(work)

    def _note_reading(
        self, ledger: Ledger, request: Request, digest: str | None, how_far: Underway
    ) -> None:
        read_snapshot = snapshot.snapshot_reader(ledger.session, request.workspace, under_lock=True)
        seen = read_snapshot(request.name, request.version, request.target)
        found = seen.version
        protection = self.protection(found, request.target) if found is not None else None
        if found is None or found.uid != request.version_uid or protection is None:
            return
        change = ProposedChange(
            "promote", request.target, found, protection[0], seen, request.stage
        )
        if digest is not None:
            tags = mlflow_tables.version_tags(ledger.session, found) if found.is_prompt else {}
            request = ledger.note_digest(request, whole_digest(found, tags, digest))
        requests.advance(ledger, change, request, how_far)

    # --- refusals in the audit log ------------------------------------------------------------

    @contextlib.contextmanager
    def recording(self, change: ProposedChange) -> Iterator[None]:
        """Keep the block's refusals in the audit log, as refusals of a change."""
        try:
            yield
        except ApprovalError as refusal:
            self.record_refusal(
                refusal, change.version.name, change.version.version, change.target.key
            )
            raise

    def record_refusal(
        self, refusal: ApprovalError, name: str, version: object = None, target: str | None = None
    ) -> None:
        """Keep a refusal in the audit log.

        Call it when the refused transaction is undone, or the entry would be undone with it.

        Args:
            refusal: About to be raised; ignored if something closer to its cause has recorded it.
            name: The model, as the caller wrote it.
            version: Its version, as the caller wrote it.
            target: The alias or stage, such as ``alias:prod``.
        """
        self._refusals.record(refusal, self.actor(), self.workspace(), name, version, target)
