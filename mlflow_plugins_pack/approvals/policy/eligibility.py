"""Decides which votes count towards an approval; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Protocol

from mlflow_plugins_pack.approvals.domain.matching import fold
from mlflow_plugins_pack.approvals.domain.request_states import Rule, tally
from mlflow_plugins_pack.approvals.policy.models import Defaults


class Asked(Protocol):
    """The people behind a request."""

    @property
    def action(self) -> str:
        """``promote``, ``demote``, or ``review`` of a break-glass change."""

    @property
    def requester(self) -> str:
        """The user who made the request."""

    @property
    def creator(self) -> str | None:
        """The user who registered the version, if the server saw it."""

    @property
    def run_user(self) -> str | None:
        """The user in whose name the version's run was created.

        The client that creates the run says so, and no call changes it later; it can only ban.
        """


class Vote(Protocol):
    """One person's vote."""

    @property
    def approver(self) -> str:
        """The user who voted."""

    @property
    def verdict(self) -> str:
        """``approve`` or ``reject``."""


class Ban(str, Enum):
    """Why a person may not approve a request; the value completes a sentence about them."""

    EMERGENCY = "made the break-glass change"
    REQUESTER = "made the request"
    CREATOR = "registered the version"
    RUN_USER = "is the user in whose name the version's run was created"


def ban(defaults: Defaults, request: Asked, user: str) -> Ban | None:
    """Return why a person may not approve a request, or None."""
    if _is(user, request.requester):
        if request.action == "review":
            return Ban.EMERGENCY
        if not defaults.allow_self_approval:
            return Ban.REQUESTER
    if defaults.prevent_creator_approval and _is(user, request.creator):
        return Ban.CREATOR
    if defaults.prevent_run_user_approval and _is(user, request.run_user):
        return Ban.RUN_USER
    return None


def _is(user: str, other: str | None) -> bool:
    return other is not None and fold(user) == fold(other)


def approvers(defaults: Defaults, request: Asked, votes: Iterable[Vote]) -> list[str]:
    """Return the people whose approval counts, in the order of the votes."""
    return [
        vote.approver
        for vote in votes
        if vote.verdict == "approve" and ban(defaults, request, vote.approver) is None
    ]


def would_count(
    defaults: Defaults, rules: Sequence[Rule], request: Asked, votes: Sequence[Vote], user: str
) -> bool:
    """Return whether a person's approval would bring a request nearer to what it needs."""
    if ban(defaults, request, user) is not None:
        return False
    people = approvers(defaults, request, votes)
    return tally(rules, [*people, user]).have > tally(rules, people).have


def missing_approvers(
    defaults: Defaults, rules: Sequence[Rule], request: Asked, votes: Sequence[Vote]
) -> list[str]:
    """Return the people whose approval would count in addition to those who approved."""
    members = {member for rule in rules for member in rule.members}
    return sorted(m for m in members if would_count(defaults, rules, request, votes, m))
