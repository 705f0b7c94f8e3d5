"""The checks of a policy: what a version must show besides people's approval; pure.

A check is one class: the key that selects it, what must be read for it, how it is described and
what a version lacks. What cannot be known counts as lacking. To add a check, add a subclass of
`Check`; no other module names the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union
from urllib.parse import unquote

from pydantic import Discriminator, Field, Tag, field_validator

from mlflow_plugins_pack.approvals.domain.matching import (
    LONGEST_NAME,
    fold,
    matches,
    matches_exactly,
)
from mlflow_plugins_pack.approvals.policy.attested import AttestedBy
from mlflow_plugins_pack.approvals.policy.expressions import check_expression, evaluate
from mlflow_plugins_pack.approvals.policy.facts import Need, Subject
from mlflow_plugins_pack.settings import format_duration
from mlflow_plugins_pack.strict_model import Name, Seconds, StrictModel

IsWriter = Callable[["Check", "str | None"], bool]


class Check(StrictModel):
    """A condition on a version.

    Attributes:
        kind: the key that selects the check in the policy file.
        needs: what must be read of the version.
        durations: fields in seconds, for the description.
        is_logged: whether the audit log keeps what the check reads, so that it can be replayed.
    """

    kind: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset()
    durations: ClassVar[frozenset[str]] = frozenset()
    is_logged: ClassVar[bool] = False

    @property
    def watched_tag(self) -> str | None:
        """The version tag whose writes are recorded for this check."""
        return None

    @property
    def principals(self) -> list[str]:
        """The users and ``group:NAME`` whose writes of the tag count; empty: everybody's."""
        return []

    def watches(self, key: str) -> bool:
        """Return whether the check reads a version tag, however its key is spelled."""
        return self.watched_tag is not None and fold(self.watched_tag) == fold(key)

    def problems(self, subject: Subject, is_writer: IsWriter, now_ms: int) -> list[str]:
        """Return what a version lacks, empty if it passes.

        Args:
            subject: The version.
            is_writer: Returns whether a user's write of the tag counts.
            now_ms: Milliseconds since the epoch.
        """
        raise NotImplementedError

    def unlogged(self, tags: Mapping[str, Any]) -> str | None:
        """Return what the audit log lacks to judge the check, or None if it lacks nothing.

        Args:
            tags: The version's tags as far as the log has them.
        """
        if not self.is_logged:
            return f"the check of {self.kind}"
        known = self.watched_tag is None or self.watched_tag in tags
        return None if known else f"the tag '{self.watched_tag}'"

    def describe(self) -> str:
        """Return the check in one line, in the policy file's words."""
        values = self.model_dump(exclude_defaults=True)
        return ", ".join(f"{key}: {self._shown(key, value)}" for key, value in values.items())

    def _shown(self, key: str, value: Any) -> str:
        if key in self.durations:
            return format_duration(value)
        if isinstance(value, bool):
            return str(value).lower()
        return " or ".join(value) if isinstance(value, list) else str(value)


class TagCheck(Check):
    """A version tag must have a value, set by a trusted writer, not too long ago."""

    kind: ClassVar = "tag"
    durations: ClassVar = frozenset({"max_age"})
    is_logged: ClassVar = True

    tag: Annotated[str, Field(min_length=1, max_length=250)]
    equals: str
    writers: list[Name] = []
    max_age: Seconds | None = None

    @property
    def watched_tag(self) -> str | None:
        """The tag."""
        return self.tag

    @property
    def principals(self) -> list[str]:
        """The trusted writers."""
        return self.writers

    def problems(self, subject: Subject, is_writer: IsWriter, now_ms: int) -> list[str]:
        """Return what the version lacks."""
        wanted = f"the tag '{self.tag}' to be '{self.equals}'"
        value, seen = subject.tags.get(self.tag), subject.written(self.tag)
        if seen is not None and seen.value != value:
            seen = None  # written past the server
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


class SignatureCheck(Check):
    """The model must have a signature: the types of its inputs and outputs."""

    kind: ClassVar = "signature"
    needs: ClassVar = frozenset({Need.SIGNATURE})

    signature: Literal["required"]

    def problems(self, subject: Subject, is_writer: IsWriter, now_ms: int) -> list[str]:
        """Return what the version lacks."""
        if subject.facts.has_signature:
            return []
        return ["a model signature, and its MLmodel file has none"]


class LineageCheck(Check):
    """The run must have recorded its inputs, and they must be allowed.

    Attributes:
        lineage: ``required``; or ``complete``: capture must have seen all that the run read.
        inputs_under: patterns of which every data and model input must match one, case included.
        inputs_never: patterns that no input of any kind may match, in any case.
        clean_git: whether the code must be exactly that of a commit.
    """

    kind: ClassVar = "lineage"
    needs: ClassVar = frozenset({Need.LINEAGE})

    lineage: Literal["required", "complete"]
    inputs_under: list[Name] = []
    inputs_never: list[Name] = []
    clean_git: bool = False

    def problems(self, subject: Subject, is_writer: IsWriter, now_ms: int) -> list[str]:
        """Return what the version lacks."""
        known = subject.facts.lineage
        if known is None:
            return ["recorded lineage, and its run has none"]
        found = []
        data = [e for e in known.inputs if e.get("r", "data") in ("data", "model")]
        if not data:
            found.append("recorded lineage, and its run recorded no input data")
        if self.lineage == "complete" and known.lacks:
            found.append(f"complete lineage, and the run's is {', '.join(known.lacks)}")
        wants_all = self.inputs_under or self.inputs_never or self.lineage == "complete"
        if wants_all and not known.is_complete:
            found.append("the whole list of inputs, and the run's is shortened or cannot be read")
        if any(len(_uri(entry)) > LONGEST_NAME for entry in known.inputs):
            return [f"inputs with URIs of at most {LONGEST_NAME} characters"]
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
    # A path with '..' in it, in any spelling, is under no folder.
    uri = _uri(entry)
    climbs = ".." in unquote(uri).split("/")
    return not climbs and matches_exactly(pattern, uri)


class ExpressionCheck(Check):
    """A CEL expression over metrics, params and tags, and the current holder's, must be true."""

    kind: ClassVar = "expr"
    needs: ClassVar = frozenset({Need.MEASUREMENTS, Need.HOLDER})

    expr: Annotated[str, Field(min_length=1, max_length=4000)]

    @field_validator("expr")
    @classmethod
    def _compiles(cls, value: str) -> str:
        return check_expression(value)

    def problems(self, subject: Subject, is_writer: IsWriter, now_ms: int) -> list[str]:
        """Return what the version lacks."""
        holder = subject.holder.variables() if subject.holder is not None else None
        found = evaluate(self.expr, {**subject.variables(), "holder": holder})
        if found is True:
            return []
        why = "it is false" if found is False else f"it has no value: {found}"
        return [f"{self.expr}, and {why}"]


class AttestedCheck(Check):
    """Another server must have approved exactly these bytes, and a listed key have signed that.

    Attributes:
        attested_by: the attestations that count.
        approvers: the number of people who must have approved it there; 0: only the origin counts.
    """

    kind: ClassVar = "attested_by"

    attested_by: AttestedBy
    approvers: int = Field(default=1, ge=0, le=100)

    def problems(self, subject: Subject, is_writer: IsWriter, now_ms: int) -> list[str]:
        """Return what the version lacks."""
        why = self.attested_by.problem(
            name=subject.name,
            digest=subject.digest,
            tags=subject.tags,
            approvers=self.approvers,
            now_ms=now_ms,
        )
        return (
            [] if why is None else [f"an attestation by {self.attested_by.describe()}, and {why}"]
        )

    def describe(self) -> str:
        """Return the check in one line."""
        return f"attested_by: {self.attested_by.describe()}, approvers: {self.approvers}"


def _kind(value: Any) -> str:
    kinds = [check.kind for check in Check.__subclasses__()]
    keys = value if isinstance(value, dict) else vars(value)
    # In brackets, or messages could not tell it from the key of the same name.
    return f"({next((kind for kind in kinds if kind in keys), kinds[0])})"


if TYPE_CHECKING:
    AnyCheck = Check
else:
    AnyCheck = Annotated[
        Union[  # noqa: UP007 - the members are known only now
            tuple(Annotated[check, Tag(f"({check.kind})")] for check in Check.__subclasses__())
        ],
        Discriminator(_kind),
    ]
"""The check that a mapping in the policy file stands for."""


def problems(
    checks: Iterable[Check], subject: Subject, is_writer: IsWriter, now_ms: int
) -> list[str]:
    """Return what a version lacks, empty if it passes every check; see `Check.problems`."""
    return [text for check in checks for text in check.problems(subject, is_writer, now_ms)]
