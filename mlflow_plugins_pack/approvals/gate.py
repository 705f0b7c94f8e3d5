"""Decides whether a change of a protected alias or stage may happen, and makes it happen.

First what is slow (reading the version's bytes) without holding anything; then one write
transaction that locks the model, looks again, decides, lets stock MLflow write, and records. If
what was looked at has changed in between, it starts over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals import (
    digest,
    guards,
    identity,
    judgement,
    messages,
    registry,
)
from mlflow_plugins_pack.approvals.ledger import (
    Ledger,
    Request,
    last_request,
    open_request,
    rivals,
    votes,
)
from mlflow_plugins_pack.approvals.names import Target
from mlflow_plugins_pack.approvals.policy import Policy, PolicyRule
from mlflow_plugins_pack.approvals.policy_source import PolicySource
from mlflow_plugins_pack.approvals.registry import Version
from mlflow_plugins_pack.approvals.transactions import Transactions
from mlflow_plugins_pack.approvals.workflow import State, Tally, tally
from mlflow_plugins_pack.errors import (
    ApprovalError,
    ApprovalRequiredError,
    ChecksFailedError,
    HolderChangedError,
    IdentityRequiredError,
    RegistryBusyError,
    StaleApprovalError,
)

T = TypeVar("T")

_START_OVER = 8
_REFUSAL_LOG_SECONDS = 60.0
_MAX_REMEMBERED = 10_000


@dataclass(frozen=True)
class Act:
    """A change of a protected target.

    Attributes:
        action: ``promote``: the version becomes the target; ``demote``: it ceases to be.
        target: As the policy spells it.
        version: The version the request is about.
        rule: The policy that protects the target.
        stage: For stages, the stage that the version is to move to.
        archive_existing: Whether the others in that stage are archived by the same call.
    """

    action: Literal["promote", "demote"]
    target: Target
    version: Version
    rule: PolicyRule
    stage: str | None = None
    archive_existing: bool = False


class Free(Enum):
    """Answer of a plan for what no policy protects, whatever else happens meanwhile."""

    FREE = "free"


FREE = Free.FREE
Plan = Callable[[Session], "Act | Free | None"]
"""Reads what a call would do: to a protected target, to nothing protected (`FREE`), or nothing
that is a change as things are (None), which must be asked again under the lock."""


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a transaction that committed came to: a value, or a refusal to raise now."""

    value: T | None = None
    refusal: ApprovalError | None = None
    filed: bool = False


@dataclass(frozen=True)
class Evidence:
    """What was read before the transaction, which is too slow to read inside it."""

    uid: str
    digest: str
    run_user: str | None


class LookAgainError(Exception):
    """The transaction needs evidence that was not taken, or was taken of something else."""


class Gate:
    """Enforces the policy for one store."""

    def __init__(
        self, transactions: Transactions, policies: PolicySource, workspace: Callable[[], str]
    ) -> None:
        self.transactions = transactions
        self._policies = policies
        self.workspace = workspace
        self._refusals: dict[tuple[Any, ...], float] = {}

    def policy(self) -> Policy:
        """Return the policy in force."""
        return self._policies.current()

    def actor(self) -> str | None:
        """Return the signed-in caller."""
        return identity.current_user(self.policy().file.identity)

    def ledger(self, session: Session) -> Ledger:
        """Open the ledger for the caller, now."""
        return Ledger(session, now_ms(), self.actor(), self.policy())

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
        for is_prompt in (False, True):
            rule = self.policy().rule_for(self.workspace(), name, is_prompt=is_prompt)
            if rule is None:
                continue
            if rule.targets.stages if target is None else rule.protected(target):
                return True
        return False

    def may_protect_aliases(self, name: str) -> bool:
        """Tell without a query whether a policy could protect an alias of the name."""
        kinds = (self.policy().rule_for(self.workspace(), name, is_prompt=k) for k in (False, True))
        return any(rule is not None and rule.targets.aliases for rule in kinds)

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
        for target, version in registry.holdings(session, self.workspace(), name):
            names = {version.name, also_as or version.name}
            if any(self.protection(version, target, asked) for asked in names):
                found.append((target, version))
        return found

    # --- the act ----------------------------------------------------------------------------

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
            act, request, tags = self.transactions.read(lambda s: self._look(s, plan))
            if isinstance(act, Free):
                return self.write_admitted(name, write)
            if act is None:
                evidence = None
            else:
                self.require_identity(act)
                # A second round means that the decision does need the bytes.
                evidence = self._evidence_for(act, request, tags, insist=attempt > 0)
            try:
                outcome = self.transactions.write(
                    lambda s, e=evidence: self._decide(s, name, plan, write, e)  # type: ignore[misc]
                )
            except LookAgainError:
                continue
            if outcome.refusal is not None:
                if act is not None and not outcome.filed:
                    self.log_refusal(act, outcome.refusal)
                raise outcome.refusal
            return outcome.value  # type: ignore[return-value]
        raise RegistryBusyError(
            f"'{name}' kept changing while it was looked at. Nothing was changed. Try again."
        )

    def write_admitted(self, name: str, write: Callable[[], T]) -> T:
        """Make a change that is free, past database guards that cannot see as exactly."""
        if not self.transactions.read(guards.are_installed):
            return write()

        def work(session: Session) -> T:
            with guards.admitted(session, self.workspace(), name):
                return write()

        return self.transactions.write(work)

    @staticmethod
    def _look(
        session: Session, plan: Plan
    ) -> tuple[Act | Free | None, Request | None, dict[str, str | None]]:
        """Read what the call would do, and what the reading of bytes depends on."""
        act = plan(session)
        if not isinstance(act, Act) or act.action == "demote":
            return act, None, {}
        request = open_request(session, act.version, act.target)
        return act, request, _content_tags(session, act.version)

    def require_identity(self, act: Act) -> None:
        """Refuse a caller who is nobody."""
        if self.actor() is None:
            verb = "changing" if act.action == "promote" else "taking away"
            refusal = IdentityRequiredError(
                messages.identity_required(
                    f"{verb} the protected {act.target} of '{act.version.name}'"
                )
            )
            self.log_refusal(act, refusal)
            raise refusal

    def _evidence_for(
        self, act: Act, request: Request | None, tags: dict[str, str | None], *, insist: bool
    ) -> Evidence | None:
        """Read the bytes where the decision will need them; a waiting request does not."""
        if act.action == "demote":
            return None
        waits = request is not None and request.state is State.PENDING
        if waits and not insist and not digest.is_cheap(act.version) and act.rule.approvals:
            return None
        return _evidence(act.version, tags)

    def evidence(self, version: Version) -> Evidence:
        """Read a version's bytes and its run's user; slow, so never inside a transaction."""
        return _evidence(version, self.transactions.read(lambda s: _content_tags(s, version)))

    def _decide(
        self,
        session: Session,
        name: str,
        plan: Plan,
        write: Callable[[], T],
        evidence: Evidence | None,
    ) -> Outcome[T]:
        registry.lock_model(session, self.workspace(), name)
        act = plan(session)
        if not isinstance(act, Act):
            with guards.admitted(session, self.workspace(), name):
                return Outcome(write())
        if self.actor() is None or (evidence is not None and evidence.uid != act.version.uid):
            raise LookAgainError
        ledger = self.ledger(session)
        request = open_request(session, act.version, act.target)
        if request is not None:
            request = ledger.expire_if_due(request)
            request = request if request.state.is_open else None
        filed = request is None
        if request is None:
            refusal = self._after_rejection(session, act, evidence)
            if refusal is not None:
                return Outcome(refusal=refusal)
            request = self.file(ledger, act, evidence, comment=None)
        return self.settle(ledger, act, request, write, evidence, filed=filed)

    def _after_rejection(
        self, session: Session, act: Act, evidence: Evidence | None
    ) -> ApprovalError | None:
        """A rejection stands against calls that only repeat themselves."""
        last = last_request(session, act.version, act.target)
        if last is None or last.state is not State.REJECTED or last.action != act.action:
            return None
        if evidence is not None and last.digest != evidence.digest:
            return None
        return ApprovalRequiredError(
            messages.rejected_before(
                target=act.target,
                name=act.version.name,
                version=act.version.version,
                policy=act.rule.name,
                request_id=last.short_id,
                reason=last.reason or "no reason given",
            )
        )

    def file(
        self, ledger: Ledger, act: Act, evidence: Evidence | None, *, comment: str | None
    ) -> Request:
        """File a request for an act."""
        if act.action == "promote" and evidence is None:
            raise LookAgainError
        request = ledger.file(
            act.version,
            act.target,
            action=act.action,
            policy_name=act.rule.name,
            digest=evidence.digest if evidence else None,
            holder=self._holder(ledger.session, act),
            stage=act.stage,
            archive_existing=act.archive_existing,
            run_user=evidence.run_user if evidence else None,
            comment=comment,
        )
        return self.advance(ledger, act, request)

    @staticmethod
    def _holder(session: Session, act: Act) -> Version | None:
        return registry.holder(session, act.version.workspace, act.version.name, act.target)

    def advance(self, ledger: Ledger, act: Act, request: Request) -> Request:
        """Count the votes, approve the request if they suffice, and show where it stands."""
        count, people = self._count(ledger.session, act, request)
        if request.state is State.PENDING and count.is_complete:
            request = ledger.move(request, State.APPROVED)
        word = request.state.value
        word = word if request.action == "promote" else f"DEMOTE {word}"
        registry.project(ledger.session, act.version, request.target, _line(word, count, people))
        return request

    def settle(
        self,
        ledger: Ledger,
        act: Act,
        request: Request,
        write: Callable[[], T],
        evidence: Evidence | None,
        *,
        filed: bool,
    ) -> Outcome[T]:
        """Apply an open request if everything holds, else say why not."""
        session, version = ledger.session, act.version
        about: dict[str, Any] = {
            "target": act.target,
            "name": version.name,
            "version": version.version,
        }
        now = self._holder(session, act)
        if request.action != act.action or request.holder_uid != (now.uid if now else None):
            self.close(ledger, version, request, State.STALE, "the holder changed")
            return Outcome(
                refusal=HolderChangedError(
                    messages.holder_changed(
                        **about,
                        request_id=request.short_id,
                        before=request.holder_version,
                        now=now.version if now else None,
                    )
                )
            )
        if act.action == "promote" and evidence is not None and request.digest != evidence.digest:
            return self._stale(ledger, act, request, "its files have changed since")
        if act.archive_existing and not request.archive_existing:
            text = messages.archive_not_covered(**about, request_id=request.short_id)
            return Outcome(refusal=ApprovalRequiredError(text))
        count, people = self._count(session, act, request)
        if not count.is_complete:
            if request.state is State.APPROVED:
                return self._stale(ledger, act, request, f"the policy now asks for more ({count})")
            return Outcome(
                refusal=ApprovalRequiredError(
                    messages.approval_required(
                        **about,
                        action=act.action,
                        policy=act.rule.name,
                        tally=count,
                        request_id=request.short_id,
                        state=request.state,
                        since_ms=request.created_at,
                        filed=filed,
                    )
                ),
                filed=filed,
            )
        if request.state is State.PENDING:
            request = self.advance(ledger, act, request)
        if act.action == "promote":
            if evidence is None:
                raise LookAgainError
            if problems := self.check_problems(ledger, act.rule, version):
                text = messages.checks_failed(**about, policy=act.rule.name, problems=problems)
                return Outcome(refusal=ChecksFailedError(text))
        line = _line("APPLIED" if act.action == "promote" else "TAKEN AWAY", count, people)
        return Outcome(self._apply(ledger, act, request, write, line, people, now))

    def _stale(self, ledger: Ledger, act: Act, request: Request, why: str) -> Outcome[Any]:
        self.close(ledger, act.version, request, State.STALE, why)
        return Outcome(
            refusal=StaleApprovalError(
                messages.stale(
                    target=act.target,
                    name=act.version.name,
                    version=act.version.version,
                    request_id=request.short_id,
                    why=why,
                )
            )
        )

    def _apply(
        self,
        ledger: Ledger,
        act: Act,
        request: Request,
        write: Callable[[], T],
        line: str,
        people: list[str],
        before: Version | None,
    ) -> T:
        session, version, target = ledger.session, act.version, act.target
        archived = (
            registry.in_stage(session, version.workspace, version.name, target.name)
            if act.archive_existing and target.kind == "stage"
            else []
        )
        with guards.admitted(session, version.workspace, version.name):
            value = write()
        ledger.move(request, State.APPLIED)
        ledger.record(
            "APPLIED",
            version,
            target=target.key,
            request_id=request.id,
            before={"holder": before.version if before else None},
            after={
                "action": act.action,
                "holder": version.version if act.action == "promote" else None,
                "digest": request.digest,
                "approvers": people,
                "stage": act.stage,
            },
        )
        registry.project(session, version, target, line)
        if act.action == "promote":
            ledger.grant(request, version, exclusive=target.kind == "alias")
            if target.kind == "alias" and before is not None and before.uid != version.uid:
                text = f"REPLACED by version {version.version}"
                registry.project(session, before, target, text)
        else:
            ledger.ungrant(version, target, version.version)
        if version.stage != "None" and target.key != f"stage:{version.stage}":
            self._leave(ledger, version, Target("stage", version.stage), act, request)
        for other in archived:
            if other.uid != version.uid:
                self._leave(ledger, other, target, act, request)
        for rival in rivals(session, request, version, target):
            found = registry.find_version(session, rival.workspace, rival.name, rival.version)
            reason = f"request {request.short_id} was applied"
            self.close(ledger, found, rival, State.SUPERSEDED, reason)
        return value

    def _leave(
        self, ledger: Ledger, version: Version, target: Target, act: Act, request: Request
    ) -> None:
        """Record that an approved change moved a version out of another protected stage."""
        if act.target.kind != "stage" or act.rule.protected(target) is None:
            return
        ledger.ungrant(version, target, version.version)
        ledger.record(
            "SYSTEM_TRANSITION",
            version,
            target=target.key,
            request_id=request.id,
            before={"stage": target.name},
            after={"by": act.version.version, "stage": act.stage},
        )
        registry.project(
            ledger.session,
            version,
            target,
            f"REPLACED by version {act.version.version}"
            if version.uid != act.version.uid
            else f"LEFT for {act.stage}",
        )

    # --- votes and checks -------------------------------------------------------------------

    def ban(self, request: Request, user: str) -> str | None:
        """Return why a person may not approve a request, or None."""
        return judgement.ban(self.policy().defaults, request, user)

    def _count(self, session: Session, act: Act, request: Request) -> tuple[Tally, list[str]]:
        """Count a request's votes under the policy in force."""
        people = judgement.approvers(self.policy().defaults, request, votes(session, request.id))
        return tally(self.policy().rules_for(act.rule, request.action), people), people

    def check_problems(self, ledger: Ledger, rule: PolicyRule, version: Version) -> list[str]:
        """Return what the policy's checks miss, empty if they pass."""
        if not rule.checks:
            return []
        tags = registry.version_tags(ledger.session, version)
        return judgement.check_problems(
            ledger.policy,
            rule.checks,
            tags,
            lambda tag: ledger.check_tag(version, tag),
            ledger.now_ms,
        )

    def close(
        self,
        ledger: Ledger,
        version: Version | None,
        request: Request,
        state: State,
        reason: str,
    ) -> None:
        """Close a request and show it; the version may be gone."""
        ledger.move(request, state, reason)
        if version is not None and version.uid == request.version_uid:
            word = state.value if request.action == "promote" else f"DEMOTE {state.value}"
            registry.project(ledger.session, version, request.target, f"{word}: {reason}")

    def close_all(
        self, ledger: Ledger, requests: Sequence[Request], state: State, reason: str
    ) -> None:
        """Close requests whose versions are about to go."""
        for request in requests:
            self.close(ledger, None, request, state, reason)

    # --- refusals in the audit log ------------------------------------------------------------

    def log_refusal(self, act: Act, refusal: ApprovalError) -> None:
        """Record a refusal that changed nothing; each kind at most once a minute per process."""
        self.log_refused(act.version, act.target, refusal)

    def log_refused(self, version: Version, target: Target | None, refusal: ApprovalError) -> None:
        """Record a refusal about a version."""
        key = (self.actor(), refusal.code, version.uid, target)
        now = time.monotonic()
        if now - self._refusals.get(key, -_REFUSAL_LOG_SECONDS) < _REFUSAL_LOG_SECONDS:
            return
        if len(self._refusals) >= _MAX_REMEMBERED:
            self._refusals.clear()
        self._refusals[key] = now
        self.transactions.write(
            lambda s: self.ledger(s).record(
                "REFUSED",
                version,
                target=target.key if target else None,
                after={"code": refusal.code},
            )
        )


def now_ms() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _line(word: str, count: Tally, people: list[str]) -> str:
    """Return what a projection tag says."""
    return f"{word} {count.have}/{count.need}" + (f" ({', '.join(people)})" if people else "")


def _content_tags(session: Session, version: Version) -> dict[str, str | None]:
    return registry.version_tags(session, version) if version.is_prompt else {}


def _evidence(version: Version, tags: dict[str, str | None]) -> Evidence:
    found = digest.version_digest(version, tags)
    return Evidence(version.uid, found, identity.run_user(version.run_id))
