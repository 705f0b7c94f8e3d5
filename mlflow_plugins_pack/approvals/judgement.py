"""Who counts, and whether a version passes the checks; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from mlflow_plugins_pack.approvals.names import fold
from mlflow_plugins_pack.approvals.policy import Defaults, Policy, TagCheck


class Asked(Protocol):
    """What is known about who stands behind a request."""

    @property
    def requester(self) -> str:
        """Who made the request."""

    @property
    def creator(self) -> str | None:
        """Who registered the version, if that was seen."""

    @property
    def run_user(self) -> str | None:
        """Whom the version's run names as its user; the client says so, hence it only bans."""


class Vote(Protocol):
    """One person's vote."""

    @property
    def approver(self) -> str:
        """Whose."""

    @property
    def verdict(self) -> str:
        """``approve`` or ``reject``."""


class WrittenTag(Protocol):
    """Who gave a tag which value, and when."""

    @property
    def value(self) -> str:
        """The value written."""

    @property
    def writer(self) -> str | None:
        """By whom; None: by nobody signed in."""

    @property
    def ts(self) -> int:
        """When, in milliseconds since the epoch."""


def ban(defaults: Defaults, request: Asked, user: str) -> str | None:
    """Return why a person may not approve a request, or None."""
    if not defaults.allow_self_approval and fold(user) == fold(request.requester):
        return "made the request"
    if defaults.prevent_creator_approval:
        if request.creator is not None and fold(user) == fold(request.creator):
            return "registered the version"
        if request.run_user is not None and fold(user) == fold(request.run_user):
            return "made the run the version comes from"
    return None


def approvers(defaults: Defaults, request: Asked, votes: Iterable[Vote]) -> list[str]:
    """Return the people whose approval counts, in the order of the votes."""
    return [
        vote.approver
        for vote in votes
        if vote.verdict == "approve" and ban(defaults, request, vote.approver) is None
    ]


def check_problems(
    policy: Policy,
    checks: Iterable[TagCheck],
    tags: Mapping[str, str | None],
    written: Callable[[str], WrittenTag | None],
    now_ms: int,
) -> list[str]:
    """Return what a version lacks, empty if it passes.

    Args:
        policy: In force.
        checks: To pass.
        tags: The version's tags as they are.
        written: Who last wrote a tag, if that was seen.
        now_ms: Milliseconds since the epoch.
    """
    problems = []
    for check in checks:
        wanted = f"the tag '{check.tag}' to be '{check.equals}'"
        value, seen = tags.get(check.tag), written(check.tag)
        if seen is not None and seen.value != value:
            seen = None  # somebody went around the server
        if value is None:
            problems.append(f"{wanted}, and it is not set")
        elif value != check.equals:
            problems.append(f"{wanted}, and it is '{value}'")
        elif check.writers and (seen is None or not policy.is_writer(check, seen.writer)):
            problems.append(f"{wanted}, set by {' or '.join(check.writers)}, and it was not")
        elif check.max_age is not None and (
            seen is None or now_ms - seen.ts > check.max_age * 1000
        ):
            problems.append(f"{wanted}, set within {check.max_age} s, and it is older")
    return problems
