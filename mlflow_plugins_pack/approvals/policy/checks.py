"""What a policy can require of a version besides people's approval; pure.

Each check says what a version lacks, or nothing. What cannot be known counts as lacking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol
from urllib.parse import unquote

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from mlflow_plugins_pack.approvals.domain.matching import matches, matches_exactly
from mlflow_plugins_pack.approvals.domain.targets import check_stages
from mlflow_plugins_pack.approvals.policy.expressions import check_expression, evaluate
from mlflow_plugins_pack.settings import format_duration
from mlflow_plugins_pack.strict_model import Name, Seconds, StrictModel


class WrittenTag(Protocol):
    """Who gave a tag which value, and when."""

    @property
    def value(self) -> str | None:
        """The value written."""

    @property
    def writer(self) -> str | None:
        """By whom; None: by nobody signed in."""

    @property
    def set_at(self) -> int:
        """When, in milliseconds since the epoch."""


@dataclass(frozen=True)
class Lineage:
    """What the version's run has recorded about its inputs.

    Attributes:
        inputs: Entries as in the tag ``lineage.inputs``, or the full list where that is shortened.
        is_complete: Whether no input is missing from the list or hidden behind a folder.
        commit: The code's commit, if it was in a repository.
        is_dirty: Whether the code differed from the commit; None: unknown.
    """

    inputs: tuple[Mapping[str, Any], ...]
    is_complete: bool
    commit: str | None
    is_dirty: bool | None


@dataclass(frozen=True)
class Facts:
    """What is known of a version; read before any lock is held.

    Attributes:
        metrics: Of its run and its logged model.
        params: Likewise, as text.
        has_signature: Whether its ``MLmodel`` has a signature; None: not read, or unreadable.
        lineage: None: its run recorded none, or was not asked.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    has_signature: bool | None = None
    lineage: Lineage | None = None


@dataclass(frozen=True)
class Subject:
    """A version as the checks see it.

    Attributes:
        version: Its number.
        tags: As they are now.
        written: Who last wrote a tag, if that was seen.
        facts: As read.
        holder: The version that holds the target now, if another does.
    """

    version: int
    tags: Mapping[str, str | None]
    facts: Facts
    written: Callable[[str], WrittenTag | None] = lambda _: None
    holder: Subject | None = None

    def variables(self) -> dict[str, Any]:
        """Return what an expression can name."""
        return {
            "version": self.version,
            "metrics": {key: float(value) for key, value in self.facts.metrics.items()},
            "params": dict(self.facts.params),
            "tags": {key: value or "" for key, value in self.tags.items()},
        }


IsWriter = Callable[["TagCheck", "str | None"], bool]


class TagCheck(StrictModel):
    """A version tag that must have a value, set by somebody trusted, not too long ago."""

    tag: Annotated[str, Field(min_length=1, max_length=250)]
    equals: str
    writers: list[Name] = []
    max_age: Seconds | None = None

    def problems(self, subject: Subject, is_writer: IsWriter, now_ms: int) -> list[str]:
        """Return what is lacking."""
        wanted = f"the tag '{self.tag}' to be '{self.equals}'"
        value, seen = subject.tags.get(self.tag), subject.written(self.tag)
        if seen is not None and seen.value != value:
            seen = None  # somebody went around the server
        if value is None:
            return [f"{wanted}, and it is not set"]
        if value != self.equals:
            return [f"{wanted}, and it is '{value}'"]
        if self.writers and (seen is None or not is_writer(self, seen.writer)):
            return [f"{wanted}, set by {' or '.join(self.writers)}, and it was not"]
        if self.max_age is not None and (
            seen is None or now_ms - seen.set_at > self.max_age * 1000
        ):
            return [f"{wanted}, set within {format_duration(self.max_age)}, and it is older"]
        return []


class SignatureCheck(StrictModel):
    """The model must say what it takes and gives."""

    signature: Literal["required"]

    def problems(self, subject: Subject, _is_writer: IsWriter, _now_ms: int) -> list[str]:
        """Return what is lacking."""
        if subject.facts.has_signature:
            return []
        return ["a model signature, and its MLmodel file has none"]


class LineageCheck(StrictModel):
    """The run must have recorded what it read, and that must be allowed.

    Attributes:
        inputs_under: Every data and model input must match one of these patterns, in its case.
        inputs_never: No input of any kind may match one of these, in any case.
        clean_git: The code must be exactly a commit.
    """

    lineage: Literal["required"]
    inputs_under: list[Name] = []
    inputs_never: list[Name] = []
    clean_git: bool = False

    def problems(self, subject: Subject, _is_writer: IsWriter, _now_ms: int) -> list[str]:
        """Return what is lacking."""
        known = subject.facts.lineage
        if known is None:
            return ["recorded lineage, and its run has none"]
        found = []
        data = [e for e in known.inputs if e.get("r", "data") in ("data", "model")]
        if not data:
            found.append("recorded lineage, and its run recorded no input data")
        if (self.inputs_under or self.inputs_never) and not known.is_complete:
            found.append("the whole list of inputs, and the run's is shortened or cannot be read")
        allowed = ", ".join(self.inputs_under)
        found += [
            f"inputs under {allowed}, and {_uri(entry)} is not"
            for entry in (data if self.inputs_under else [])
            if not any(_is_under(pattern, entry) for pattern in self.inputs_under)
        ]
        found += [
            f"no input like {pattern}, and {_uri(entry)} is"
            for entry in known.inputs
            for pattern in self.inputs_never
            if matches(pattern, _uri(entry)) or matches(pattern, unquote(_uri(entry)))
        ]
        if self.clean_git and (known.commit is None or known.is_dirty is not False):
            state = "has no commit" if known.commit is None else "differs from its commit"
            found.append(f"code of a clean commit, and the run's {state}")
        return found[:5] + ([f"{len(found) - 5} more"] if len(found) > 5 else [])


def _uri(entry: Mapping[str, Any]) -> str:
    return str(entry.get("u", ""))


def _is_under(pattern: str, entry: Mapping[str, Any]) -> bool:
    # A path that climbs is under nothing, however it is written.
    uri = _uri(entry)
    climbs = ".." in unquote(uri).split("/")
    return not climbs and matches_exactly(pattern, uri)


class ExprCheck(StrictModel):
    """A CEL expression over metrics, params and tags, and the current holder's, must be true."""

    expr: Annotated[str, Field(min_length=1, max_length=4000)]

    @field_validator("expr")
    @classmethod
    def _compiles(cls, value: str) -> str:
        return check_expression(value)

    def problems(self, subject: Subject, _is_writer: IsWriter, _now_ms: int) -> list[str]:
        """Return what is lacking."""
        holder = subject.holder.variables() if subject.holder is not None else None
        found = evaluate(self.expr, {**subject.variables(), "holder": holder})
        if found is True:
            return []
        why = "it is false" if found is False else f"it has no value: {found}"
        return [f"{self.expr}, and {why}"]


_KINDS = ("tag", "signature", "lineage", "expr")


def _kind(value: Any) -> str:
    keys = value if isinstance(value, dict) else vars(value)
    # In brackets, or messages could not tell it from the key of the same name.
    return f"({next((kind for kind in _KINDS if kind in keys), 'tag')})"


Check = Annotated[
    Annotated[TagCheck, Tag("(tag)")]
    | Annotated[SignatureCheck, Tag("(signature)")]
    | Annotated[LineageCheck, Tag("(lineage)")]
    | Annotated[ExprCheck, Tag("(expr)")],
    Discriminator(_kind),
]


class From(StrictModel):
    """Where a version must be before it may become the target: one of these."""

    stages: list[str] = []
    aliases: list[Name] = []

    @field_validator("stages")
    @classmethod
    def _stages(cls, value: list[str]) -> list[str]:
        return check_stages(value)

    @model_validator(mode="after")
    def _names_one(self) -> From:
        if not self.stages and not self.aliases:
            raise ValueError("name at least one alias or stage")
        return self

    def problems(self, held: Iterable[tuple[str, str]]) -> list[str]:
        """Return what is lacking.

        Args:
            held: Kind and name of what the version holds now.
        """
        wanted = [("stage", stage) for stage in self.stages]
        wanted += [("alias", alias) for alias in self.aliases]
        holds = list(held)
        for kind, name in wanted:
            if (kind, name) in holds:
                return []
        listed = " or ".join(f"{kind} '{name}'" for kind, name in wanted)
        return [f"the version to be {listed} first, and it is not"]


def problems(
    checks: Iterable[Check], subject: Subject, is_writer: IsWriter, now_ms: int
) -> list[str]:
    """Return what a version lacks, empty if it passes every check.

    Args:
        checks: To pass.
        subject: The version.
        is_writer: Tells whether a user's word counts for a check's tag.
        now_ms: Milliseconds since the epoch.
    """
    return [text for check in checks for text in check.problems(subject, is_writer, now_ms)]
