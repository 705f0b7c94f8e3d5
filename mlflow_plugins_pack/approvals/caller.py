"""The verified caller of a request: only what an authenticating server verified counts.

Handlers run inside a Flask request, also under uvicorn, so a store can ask there. Never from tags,
bodies, headers or ``request.authorization``: those are not verified. The review app, which runs
outside Flask, names the caller that it has verified with `acting_as`.
"""

from __future__ import annotations

import contextlib
import logging
import unicodedata
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

from mlflow_plugins_pack.identity.settings import Identity

if TYPE_CHECKING:
    from mlflow_plugins_pack.identity.resolvers import Caller


def current_user(settings: Identity) -> str | None:
    """Return the name of the signed-in caller, or None.

    Args:
        settings: Where the policy allows it to come from.
    """
    caller = current_caller(settings)
    return None if caller is None else caller.user


def current_caller(settings: Identity) -> Caller | None:
    """Return the signed-in caller with the groups that the source vouches for, or None.

    Args:
        settings: Where the policy allows it to come from.
    """
    from mlflow_plugins_pack.identity.resolvers import resolve

    acting = _acting.get()
    found = resolve(settings) if acting is None else acting[0]
    if found is not None and _is_reserved(found.user):
        # Under such a name the audit log has what a server does by itself.
        _logger.warning("The caller %r is treated as anonymous: the name is reserved.", found.user)
        return None
    return found


def _is_reserved(name: str) -> bool:
    return unicodedata.normalize("NFKC", name).casefold().startswith(SYSTEM)


_acting: ContextVar[tuple[Caller | None] | None] = ContextVar("mpp_acting", default=None)


@contextlib.contextmanager
def acting_as(caller: Caller | None) -> Iterator[None]:
    """Let the block act for a caller that the review app has verified; None: for no one."""
    token = _acting.set((caller,))
    try:
        yield
    finally:
        _acting.reset(token)


_logger = logging.getLogger(__name__)

SYSTEM = "system:"
"""What the names begin with under which servers and operators act without being signed in."""

_for_server: ContextVar[bool] = ContextVar("mpp_for_server", default=False)


@contextlib.contextmanager
def for_server() -> Iterator[None]:
    """Let the block reach what a server's request reaches: it is a server's own work."""
    token = _for_server.set(True)
    try:
        yield
    finally:
        _for_server.reset(token)


def in_server() -> bool:
    """Return whether this code runs inside a server's request, or is a server's own work."""
    import flask

    return bool(flask.has_request_context()) or _for_server.get()
