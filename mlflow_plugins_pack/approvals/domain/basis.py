"""On what an applied change rests: votes, a rollback, an inherited approval or break-glass; pure.

The audit log and the projection tags keep it as fields; only `Basis.text` words it for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class BasisKind(str, Enum):
    """Why a change was allowed."""

    VOTES = "votes"
    ROLLBACK = "rollback"
    INHERITED = "inherited"
    BREAK_GLASS = "break_glass"


@dataclass(frozen=True)
class Basis:
    """What an approval rests on.

    Attributes:
        kind: Which of the four.
        model: For an inherited approval, the model that it is inherited from.
        version: For an inherited approval, the version of that model.
        attested_by: The fingerprint of the key whose attestation counted in the place of votes.
    """

    kind: BasisKind = BasisKind.VOTES
    model: str | None = None
    version: int | None = None
    attested_by: str | None = None

    def as_fields(self) -> dict[str, Any]:
        """Return the form kept as JSON; `from_fields` reads it."""
        fields: dict[str, Any] = {"kind": self.kind.value}
        if self.kind is BasisKind.INHERITED:
            fields |= {"model": self.model, "version": self.version}
        if self.attested_by is not None:
            fields["attested_by"] = self.attested_by
        return fields

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any] | None) -> Basis:
        """Read what `as_fields` returned; nothing stands for votes.

        Raises:
            ValueError: If the kind is unknown.
        """
        found = fields or {}
        kind = BasisKind(found.get("kind", BasisKind.VOTES.value))
        return cls(kind, found.get("model"), found.get("version"), found.get("attested_by"))

    @property
    def text(self) -> str:
        """The basis in words; empty for votes, which are shown by their count."""
        if self.attested_by is not None:
            return f"attested by {self.attested_by[:19]}"
        return {
            BasisKind.VOTES: "",
            BasisKind.ROLLBACK: "rollback",
            BasisKind.INHERITED: f"inherited from models:/{self.model}/{self.version}",
            BasisKind.BREAK_GLASS: "break-glass",
        }[self.kind]
