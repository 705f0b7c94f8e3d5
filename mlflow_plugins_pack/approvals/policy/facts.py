"""What is known of a version when checks decide about it; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol


class Need(Enum):
    """Something that a check needs and that is read before any lock is held."""

    MEASUREMENTS = "metrics and parameters of the run and the logged model"
    SIGNATURE = "the signature in the MLmodel file"
    LINEAGE = "the lineage that the run recorded"
    HOLDER = "the same of the version that holds the target now"


class WrittenTag(Protocol):
    """The last write of a tag."""

    @property
    def value(self) -> str | None:
        """The value; None: the tag was deleted."""

    @property
    def writer(self) -> str | None:
        """The user; None: a caller who was not signed in."""

    @property
    def set_at(self) -> int:
        """The time in milliseconds since the epoch."""


@dataclass(frozen=True)
class Lineage:
    """What a version's run has recorded about its inputs.

    Attributes:
        inputs: Entries as in the tag ``lineage.inputs``, or the full list where that is shortened.
        is_complete: Whether no input is missing from the list or hidden behind a folder.
        commit: The code's commit, if it was in a repository.
        is_dirty: Whether the code differed from the commit; None: unknown.
        lacks: What the run's ``lineage.coverage`` says that was not seen, in words; empty if it
            says that all was.
    """

    inputs: tuple[Mapping[str, Any], ...]
    is_complete: bool
    commit: str | None
    is_dirty: bool | None
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What is known of a version; read before any lock is held.

    Attributes:
        metrics: the metrics of its run and its logged model.
        params: their parameters, as text.
        has_signature: whether its ``MLmodel`` has a signature; None: not read, or unreadable.
        lineage: what its run recorded; None: nothing, or it was not read.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    has_signature: bool | None = None
    lineage: Lineage | None = None


@dataclass(frozen=True)
class Subject:
    """A version as the checks see it.

    Attributes:
        version: its number.
        tags: its tags as they are now.
        facts: what was read of it.
        written: returns the last write of a tag, if the server saw it.
        holder: the version that holds the target now, if that is another one.
        name: the name of its model.
        digest: the digest of its content; None while it is not known.
    """

    version: int
    tags: Mapping[str, str | None]
    facts: Facts
    written: Callable[[str], WrittenTag | None] = lambda _: None
    holder: Subject | None = None
    name: str = ""
    digest: str | None = None

    def variables(self) -> dict[str, Any]:
        """Return the variables of an expression."""
        return {
            "version": self.version,
            "metrics": {key: float(value) for key, value in self.facts.metrics.items()},
            "params": dict(self.facts.params),
            "tags": {key: value or "" for key, value in self.tags.items()},
        }
