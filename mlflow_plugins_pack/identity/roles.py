"""Expands group members that stand for users: basic-auth's roles, and claims of tokens."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from cachetools import TTLCache

_logger = logging.getLogger(__name__)
ROLE = "role:"
CLAIM = "claim:"
DEFAULT_WORKSPACE = "default"
KEEP_SECONDS = 3.0
MAX_ROLES = 1024


def members_of_role(role: str) -> frozenset[str]:
    """Return the names of the users who have a role; empty outside the basic-auth app.

    Args:
        role: The role's name, or ``WORKSPACE/NAME``: an admin of another workspace may make a
            role of the same name, which must not count here.
    """
    app = sys.modules.get("mlflow.server.auth")
    store = getattr(app, "store", None)
    if store is None:
        return frozenset()
    workspace, _, name = role.rpartition("/")
    workspace = workspace or DEFAULT_WORKSPACE
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        found = {
            user.username
            for user, roles in store.list_users_with_roles()
            if any(held.name == name and held.workspace == workspace for held in roles)
        }
    except (MlflowException, SQLAlchemyError) as exc:
        # Fewer people count then, never more.
        _logger.warning("The members of the role %r cannot be read: %s", role, type(exc).__name__)
        return frozenset()
    return frozenset(found)


class Directory:
    """Expands ``role:NAME`` and ``claim:NAME`` among a group's members.

    The members of a role are cached for 3 seconds.
    """

    def __init__(
        self,
        members: Callable[[str], frozenset[str]] = members_of_role,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._members = members
        self._cached: TTLCache[str, frozenset[str]] = TTLCache(MAX_ROLES, KEEP_SECONDS, clock)
        self._lock = threading.Lock()

    def expand(
        self,
        groups: Mapping[str, Iterable[str]],
        claims: Mapping[str, frozenset[str]] | None = None,
    ) -> dict[str, list[str]]:
        """Return the groups with users only.

        Args:
            groups: The policy's groups.
            claims: The users' claims, by user.
        """
        known = claims or {}
        return {
            name: sorted({person for member in members for person in self._people(member, known)})
            for name, members in groups.items()
        }

    def _people(self, member: str, claims: Mapping[str, frozenset[str]]) -> Iterable[str]:
        if member.startswith(CLAIM):
            wanted = member.removeprefix(CLAIM)
            return [person for person, has in claims.items() if wanted in has]
        if not member.startswith(ROLE):
            return (member,)
        with self._lock:
            people = self._cached.get(member)
        if people is None:
            people = self._members(member.removeprefix(ROLE))
            with self._lock:
                self._cached[member] = people
        return people


def has_roles(groups: Mapping[str, Iterable[str]]) -> bool:
    """Return whether any group's members depend on the basic-auth database."""
    return any(member.startswith(ROLE) for members in groups.values() for member in members)


def claims_in(groups: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """Return the claims that any group's members depend on."""
    return frozenset(
        member.removeprefix(CLAIM)
        for members in groups.values()
        for member in members
        if member.startswith(CLAIM)
    )
