"""The words the enforcer speaks in: what a call would do, where it stands, what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Literal, TypeVar

from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.domain.request_states import State, Tally
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.ledger.requests import Request
from mlflow_plugins_pack.approvals.ledger.snapshot import SnapshotReader, TargetSnapshot
from mlflow_plugins_pack.approvals.policy.models import PolicyRule
from mlflow_plugins_pack.errors import ApprovalError

T = TypeVar("T")


@dataclass(frozen=True)
class ProposedChange:
    """A change of a protected target.

    Attributes:
        action: ``promote``: the version becomes the target; ``demote``: it ceases to be.
        target: As the policy spells it.
        version: The version the request is about.
        rule: The policy that protects the target.
        stage: For stages, the stage that the version is to move to.
        archive_existing: Whether the others in that stage are archived by the same call.
        snapshot: The version and the target's holders as they were when this was planned.
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
        """The version that the target stands for before the change."""
        return self.snapshot.holder


class Absent(Enum):
    """Answer of a plan about a version that is not there: stock MLflow refuses it in its words."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT
Plan = Callable[[SnapshotReader], "ProposedChange | Absent | None"]
"""Sees what a call would do: to a protected target, to a version that is not there (`ABSENT`), or
nothing that needs approval as things are (None). What it says is asked again under the lock."""


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a transaction that committed came to: a value, or a refusal to raise now."""

    value: T | None = None
    refusal: ApprovalError | None = None
    filed: bool = False


@dataclass(frozen=True)
class VoteStatus:
    """How far a request has come.

    Attributes:
        tally: The votes against the rules that count for it.
        people: Whose approval counts.
        basis: Why other rules count than for any promotion: ``rollback``, or the version that the
            approval is inherited from.
    """

    tally: Tally
    people: list[str]
    basis: str | None = None

    def line(self, word: str) -> str:
        """Return what a projection tag says."""
        line = f"{word} {self.tally.have}/{self.tally.need}"
        line += f" ({', '.join(self.people)})" if self.people else ""
        return f"{line}, {self.basis}" if self.basis else line


@dataclass(frozen=True)
class Preview:
    """What was read of the registry before anything slow.

    Attributes:
        change: What the call would do.
        tags: The version's, where they are its content.
    """

    change: ProposedChange | Absent | None
    tags: dict[str, str | None] | None = None


class EvidenceOutdatedError(Exception):
    """The transaction needs evidence that was not taken, or was taken of something else."""


def word_for(request: Request, state: State) -> str:
    """Return how a projection tag names a request's state."""
    prefix = {"demote": "DEMOTE ", "review": "BREAK-GLASS REVIEW "}.get(request.action, "")
    return prefix + state.value
