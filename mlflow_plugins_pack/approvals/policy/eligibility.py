"""Decides which votes count towards an approval; pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from mlflow_plugins_pack.approvals.domain.matching import fold
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
        """The user whom the version's run names; the client says so, hence it can only ban."""


class Vote(Protocol):
    """One person's vote."""

    @property
    def approver(self) -> str:
        """The user who voted."""

    @property
    def verdict(self) -> str:
        """``approve`` or ``reject``."""


def ban(defaults: Defaults, request: Asked, user: str) -> str | None:
    """Return why a person may not approve a request, or None."""
    themselves = fold(user) == fold(request.requester)
    if themselves and request.action == "review":
        return "made the break-glass change"
    if themselves and not defaults.allow_self_approval:
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
