"""What a commit protocol asks for, and what a process remembers of a scope; pure.

A protocol is a generator that yields requests and is sent their answers. `store.manifests` answers
them from a backend; the model check answers them from a storage that is a value.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mlflow_plugins_pack.artifacts.format.manifest import Operation
from mlflow_plugins_pack.artifacts.format.view import View
from mlflow_plugins_pack.errors import ArtifactCorruptError

HEAD_SECONDS = 300
"""For so long a process takes what it last saw as an entry's number for a number not joined."""

RETENTION_SECONDS = 3600
"""For so long a joined segment stands before what it holds may be removed."""

T = TypeVar("T")
Decide = Callable[[View | None], Sequence[Operation]]
Protocol = Generator["Request", Any, T]


@dataclass(frozen=True)
class ListNames:
    """Answered with the names of all segments and lock markers of the scope."""


@dataclass(frozen=True)
class ReadSegments:
    """Answered with a list of segments; None in the place of one that does not exist.

    Attributes:
        names: Of the segments.
        are_just_written: Whether one that this process has written lately need not be read: it
            stands where the entry after it was created just now.
    """

    names: tuple[str, ...]
    are_just_written: bool = False


@dataclass(frozen=True)
class Identify:
    """Answered with the identity of a segment, or None if it does not exist."""

    name: str


@dataclass(frozen=True)
class CreateSegment:
    """Create a segment unless one of its name exists; answered with it, or None if another does."""

    name: str
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Confirm:
    """Write the receipt of an entry, with which the locks in it hold."""

    name: str


@dataclass(frozen=True)
class MarkLocked:
    """Write a lock marker."""


@dataclass(frozen=True)
class Clock:
    """Answered with seconds from any start, paused processes and machines included."""


@dataclass(frozen=True)
class NewWriter:
    """Answered with sixteen letters that no other writer has."""


@dataclass(frozen=True)
class ListAges:
    """Answered with the seconds since each segment was written, all by the storage's clock."""


@dataclass(frozen=True)
class Remove:
    """Remove segments."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Wait:
    """Let others go first, the longer the more often this was asked for."""

    attempt: int


Request = (
    ListNames
    | ReadSegments
    | Identify
    | CreateSegment
    | Confirm
    | MarkLocked
    | Clock
    | NewWriter
    | ListAges
    | Remove
    | Wait
)


@dataclass(frozen=True)
class Head:
    """What a process knows of a scope.

    Attributes:
        number: The last call there was.
        seen_at: When that was so, by this process's `Clock`.
        has_locks: Whether a lock may hold at it.
        view: What the scope held then, if that was read.
        seen: Names and identities of segments, the one with the last call at the end, without which
            nothing of this need be so: the storage was set back. They are looked for at the next
            call, and then only the last one is.
    """

    number: int
    seen_at: float
    has_locks: bool
    view: View | None = None
    seen: tuple[tuple[str, bytes], ...] = ()


class MissingSegmentsError(ArtifactCorruptError):
    """Manifest segments are missing although later ones exist.

    Attributes:
        gaps: First and last number of each gap.
    """

    def __init__(self, message: str, gaps: Sequence[tuple[int, int]]) -> None:
        super().__init__(message)
        self.gaps = tuple(gaps)
