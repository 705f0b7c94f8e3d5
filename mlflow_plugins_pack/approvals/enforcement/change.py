"""The types of the enforcement: a proposed change, what it is decided on, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Generic, Literal, TypeVar

from mlflow_plugins_pack.approvals.content.evidence import Evidence
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.domain.basis import Basis
from mlflow_plugins_pack.approvals.domain.digest_progress import DigestProgress
from mlflow_plugins_pack.approvals.domain.projection import TargetState, TargetStatus
from mlflow_plugins_pack.approvals.domain.request_states import Tally
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.ledger.requests import Request
from mlflow_plugins_pack.approvals.ledger.snapshot import SnapshotReader, TargetSnapshot
from mlflow_plugins_pack.approvals.policy.models import PolicyRule
from mlflow_plugins_pack.errors import ApprovalError

T = TypeVar("T")


@dataclass(frozen=True)
class ProposedChange:
    """A change of a protected target that a call asks for.

    Attributes:
        action: ``promote``: the version is to hold the target; ``demote``: it is to lose it.
        target: The target as the policy spells it.
        version: The version that the request is about.
        rule: The policy that protects the target.
        snapshot: The version and the target's holders as they were when the change was planned.
        stage: For stages, the stage that the version is to move to.
        archive_existing: Whether the same call archives the other versions in that stage.
    """

    action: Literal["promote", "demote"]
    target: Target
    version: Version
    rule: PolicyRule
    snapshot: TargetSnapshot
    stage: str | None = None
    archive_existing: bool = False

    @property
    def holder(self) -> Version | None:
        """The version that holds the target before the change."""
        return self.snapshot.holder

    def about(self) -> dict[str, Any]:
        """Return the arguments that most messages share: target, name and version."""
        version = self.version
        return {"target": self.target, "name": version.name, "version": version.version}


class Absent(Enum):
    """The answer of a plan about a version that does not exist, which stock MLflow refuses."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT
Plan = Callable[[SnapshotReader], "ProposedChange | Absent | None"]
"""Reads what a call would do: change a protected target, touch a version that does not exist
(`ABSENT`), or nothing that needs approval (None). It is asked again under the lock."""


@dataclass(frozen=True)
class Preview:
    """What was read of the registry before anything slow is done.

    Attributes:
        change: What the call would do.
        tags: The version's tags, where they are its content.
    """

    change: ProposedChange | Absent | None
    tags: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """Everything that one transaction decides on, under the model's lock.

    Attributes:
        ledger: The ledger of the transaction.
        change: The change, as planned under the lock.
        evidence: What was read of the version; None where the decision needs none so far.
        write: Stock MLflow's own write of the change.
        open_request: The open request (or review) for the change.
        is_filed: Whether that request was filed by this very decision.
    """

    ledger: Ledger
    change: ProposedChange
    evidence: Evidence | None
    write: Callable[[], Any]
    open_request: Request | None = None
    is_filed: bool = False

    @property
    def request(self) -> Request:
        """The open request, where one is known to exist."""
        if self.open_request is None:
            raise AssertionError("this decision has no request")
        return self.open_request

    @property
    def must_lock(self) -> bool:
        """Whether the files must be locked for this request, and read again, before the change.

        Whatever state the request is in by now: the files may have been read while everyone could
        still write them.
        """
        found = self.evidence
        if found is None or not found.can_lock or self.change.action != "promote":
            return False
        return found.locked_for != self.request.id

    def with_request(self, request: Request, *, is_filed: bool | None = None) -> Decision:
        """Return the decision about a request in its latest form."""
        filed = self.is_filed if is_filed is None else is_filed
        return replace(self, open_request=request, is_filed=filed)


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a committed transaction came to: a value, or a refusal to raise now.

    Attributes:
        value: What the call returns.
        refusal: The error that the call raises.
        is_filed: Whether a request was filed.
        must_lock: Whether the change is approved now, and is made by a further decision once its
            files are locked.
    """

    value: T | None = None
    refusal: ApprovalError | None = None
    is_filed: bool = False
    must_lock: bool = False


@dataclass(frozen=True)
class VoteStatus:
    """The votes that a request has, against those that it needs.

    Attributes:
        tally: The votes against the rules that count for it.
        approvers: The people whose approval counts.
        basis: Why these rules count: votes, a rollback, an inherited approval or break-glass.
    """

    tally: Tally
    approvers: list[str]
    basis: Basis = field(default_factory=Basis)

    def shown(self, request: Request, progress: DigestProgress | None = None) -> TargetStatus:
        """Return what the projection tags say about the request."""
        return TargetStatus(
            TargetState(request.state.value),
            request.action,
            request.id,
            votes=self.tally.have,
            votes_needed=self.tally.need,
            approvers=tuple(self.approvers),
            basis=self.basis,
            progress=progress,
        )


class EvidenceOutdatedError(Exception):
    """The transaction needs evidence that was not gathered, or that is about another version."""
