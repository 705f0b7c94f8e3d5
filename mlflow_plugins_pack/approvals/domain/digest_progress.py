"""The part of a version's files that is hashed so far; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_PROBLEM_LENGTH = 500


@dataclass(frozen=True)
class DigestProgress:
    """The progress of a digest that is being computed.

    Attributes:
        bytes_done: Bytes hashed so far.
        bytes_total: Bytes to hash; 0 while that is unknown.
        problem: Why the computation ended without a result, if it did.
    """

    bytes_done: int = 0
    bytes_total: int = 0
    problem: str | None = None

    def as_fields(self) -> dict[str, Any]:
        """Return the form kept as JSON; `from_fields` reads it."""
        fields: dict[str, Any] = {"bytes_done": self.bytes_done, "bytes_total": self.bytes_total}
        if self.problem is not None:
            fields["problem"] = self.problem[:MAX_PROBLEM_LENGTH]
        return fields

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> DigestProgress:
        """Read what `as_fields` returned.

        Raises:
            ValueError: If it is something else.
        """
        done, total = fields.get("bytes_done", 0), fields.get("bytes_total", 0)
        problem = fields.get("problem")
        if (type(done), type(total)) != (int, int) or type(problem) not in (str, type(None)):
            raise ValueError("bytes are counted in integers, and a problem is a text")
        return cls(done, total, problem)

    @property
    def text(self) -> str:
        """The progress in words, such as ``40 %``; never 100 % before there is a result."""
        if self.problem is not None:
            return f"failed: {self.problem[:MAX_PROBLEM_LENGTH]}"
        if not self.bytes_total:
            return "0 %"
        return f"{min(100 * self.bytes_done // self.bytes_total, 99)} %"
