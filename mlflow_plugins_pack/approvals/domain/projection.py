"""What the projection tags of a version say about one target; pure.

A version shows its standing in three tags, which only the registry store writes:

- ``mlflow_approvals.TARGET``: one line for people; no code reads it.
- ``mlflow_approvals.TARGET.request``: the newest request, as JSON (`TargetStatus`).
- ``mlflow_approvals.TARGET.approval``: by which approval the version holds the target, as JSON
  (`HolderApproval`); absent where it does not hold it, or holds it without approval.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from mlflow_plugins_pack.approvals.domain.basis import Basis, BasisKind
from mlflow_plugins_pack.approvals.domain.digest_progress import DigestProgress

REQUEST_SUFFIX = ".request"
APPROVAL_SUFFIX = ".approval"


class TargetState(str, Enum):
    """The state of a version for a target: its newest request's state, or what followed it."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    APPLIED = "APPLIED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    STALE = "STALE"
    SUPERSEDED = "SUPERSEDED"
    REPLACED = "REPLACED"
    """Another version holds the target now."""
    LEFT = "LEFT"
    """The version moved to another stage."""

    @property
    def is_open(self) -> bool:
        """Whether the request can still be voted on, applied or closed."""
        return self in (TargetState.PENDING, TargetState.APPROVED)

    @property
    def is_approved(self) -> bool:
        """Whether enough people approved the request."""
        return self in (TargetState.APPROVED, TargetState.APPLIED)


_PREFIX = {"promote": "", "demote": "DEMOTE ", "review": "BREAK-GLASS REVIEW "}


@dataclass(frozen=True)
class TargetStatus:
    """The status of a version for one target.

    Attributes:
        state: The newest request's state, or what followed it.
        action: ``promote``, ``demote`` or ``review`` (of a break-glass change).
        request_id: The request's id; None where another version's request caused the state.
        votes: Votes that count, if they were counted.
        votes_needed: Votes that the policy asks for, if they were counted.
        approvers: The people whose approval counts.
        basis: What the approval rests on.
        reason: Why the request was closed, for people.
        progress: How far the digest is, while it is being computed.
        by_version: For REPLACED, the version that holds the target now.
        stage: For LEFT, the stage that the version moved to.
    """

    state: TargetState
    action: str = "promote"
    request_id: str | None = None
    votes: int | None = None
    votes_needed: int | None = None
    approvers: tuple[str, ...] = ()
    basis: Basis = field(default_factory=Basis)
    reason: str | None = None
    progress: DigestProgress | None = None
    by_version: int | None = None
    stage: str | None = None

    def to_json(self) -> str:
        """Return the value of the ``.request`` tag; `from_json` reads it."""
        fields: dict[str, Any] = {
            "state": self.state.value,
            "action": self.action,
            "request_id": self.request_id,
            "votes": self.votes,
            "votes_needed": self.votes_needed,
            "approvers": list(self.approvers),
            "basis": self.basis.as_fields(),
            "reason": self.reason,
            "progress": self.progress.as_fields() if self.progress else None,
            "by_version": self.by_version,
            "stage": self.stage,
        }
        return _dumps({key: value for key, value in fields.items() if value not in (None, [])})

    @classmethod
    def from_json(cls, text: str) -> TargetStatus:
        """Read the value of a ``.request`` tag.

        Raises:
            ValueError: If it is not one.
        """
        fields = _loads(text, _STATUS_TYPES)
        progress, approvers = fields.get("progress"), fields.get("approvers", [])
        if not all(isinstance(approver, str) for approver in approvers):
            raise ValueError("an approver is a name")
        return cls(
            state=TargetState(fields.get("state")),
            action=fields.get("action", "promote"),
            request_id=fields.get("request_id"),
            votes=fields.get("votes"),
            votes_needed=fields.get("votes_needed"),
            approvers=tuple(approvers),
            basis=Basis.from_fields(fields.get("basis")),
            reason=fields.get("reason"),
            progress=DigestProgress.from_fields(progress) if progress else None,
            by_version=fields.get("by_version"),
            stage=fields.get("stage"),
        )

    @property
    def text(self) -> str:
        """The line for people, such as ``PENDING 1/2 (bob)``."""
        if self.state is TargetState.REPLACED:
            return f"REPLACED by version {self.by_version}"
        if self.state is TargetState.LEFT:
            return f"LEFT for {self.stage}"
        line = self._word()
        if self.votes is not None:
            line += f" {self.votes}/{self.votes_needed}"
        if self.approvers:
            line += f" ({', '.join(self.approvers)})"
        if self.basis.text and self.basis.kind is not BasisKind.BREAK_GLASS:
            line += f", {self.basis.text}"
        if self.progress is not None:
            line += f", digesting {self.progress.text}"
        return f"{line}: {self.reason}" if self.reason else line

    def _word(self) -> str:
        if self.state is TargetState.APPLIED:
            if self.action == "review":
                return "BREAK-GLASS REVIEWED"
            if self.basis.kind is BasisKind.BREAK_GLASS:
                return "BREAK-GLASS"
            if self.action == "demote":
                return "DEMOTED"
        return _PREFIX.get(self.action, "") + self.state.value


@dataclass(frozen=True)
class HolderApproval:
    """The approval by which a version holds a target.

    Attributes:
        request_id: The request that was applied, or the review of a break-glass change.
        digest: The digest of the content that was approved.
    """

    request_id: str
    digest: str | None

    def to_json(self) -> str:
        """Return the value of the ``.approval`` tag; `from_json` reads it."""
        return _dumps({"request_id": self.request_id, "digest": self.digest})

    @classmethod
    def from_json(cls, text: str) -> HolderApproval:
        """Read the value of an ``.approval`` tag.

        Raises:
            ValueError: If it is not one.
        """
        fields = _loads(text, {"request_id": str, "digest": str})
        if "request_id" not in fields:
            raise ValueError("an approval names its request")
        return cls(fields["request_id"], fields.get("digest"))


def _dumps(fields: dict[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


_STATUS_TYPES: dict[str, type] = {
    "state": str,
    "action": str,
    "request_id": str,
    "votes": int,
    "votes_needed": int,
    "approvers": list,
    "basis": dict,
    "reason": str,
    "progress": dict,
    "by_version": int,
    "stage": str,
}


def _loads(text: str, types: dict[str, type]) -> dict[str, Any]:
    """Read an object whose fields have these types, or are null and then left out.

    Raises:
        ValueError: If it is another value: anyone may have written it.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one error for all
    fields = {key: value for key, value in found.items() if value is not None}
    for key, kind in types.items():
        if key in fields and type(fields[key]) is not kind:
            raise ValueError(f"{key} has the wrong type")
    return fields
