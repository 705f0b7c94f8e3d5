"""Lists requests, comments and audit entries."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database.tables import audit as audit_table
from mlflow_plugins_pack.approvals.database.tables import comments, requests
from mlflow_plugins_pack.approvals.ledger.requests import (
    Request,
    comments_on,
    find_requests,
    votes,
)


def requests_in(connection: sa.Connection, **where: Any) -> list[dict[str, Any]]:
    """Return requests as plain rows, each with its votes."""
    return [_row(connection, request) for request in find_requests(connection, **where)]


def _row(connection: sa.Connection, request: Request) -> dict[str, Any]:
    cast = votes(connection, request.id)
    return {
        "request": request.short_id,
        "id": request.id,
        "workspace": request.workspace,
        "model": request.name,
        "version": request.version,
        "target": request.target.tag,
        "action": request.action,
        "state": request.state.value,
        "reason": request.reason,
        "requester": request.requester,
        "creator": request.creator,
        "run_user": request.run_user,
        "comment": request.comment,
        "digest": request.digest,
        "policy": request.policy,
        "policy_sha256": request.policy_sha256,
        "created_at": request.created_at,
        "updated_at": request.updated_at,
        "expires_at": request.expires_at,
        "valid_until": request.valid_until,
        "votes": [vars(vote) for vote in cast],
    }


def comments_of(connection: sa.Connection, uids: set[str]) -> list[dict[str, Any]]:
    """Return the comments on versions."""
    return [comment for uid in sorted(uids) for comment in comments_on(connection, uid)]


def uids_of(connection: sa.Connection, name: str, version: int) -> set[str]:
    """Return the identities that requests or comments know for a name and number."""
    found: set[str] = set()
    for table in (requests, comments):
        query = sa.select(table.c.version_uid).where(
            table.c.name == name, table.c.version == version
        )
        found |= set(connection.execute(query).scalars())
    return found


def audit_actions(session: Session | sa.Connection) -> list[str]:
    """Return the actions that the audit log has entries of."""
    query = sa.select(audit_table.c.action).distinct().order_by(audit_table.c.action)
    return list(session.execute(query).scalars())


def audit_entries(
    connection: Session | sa.Connection,
    limit: int | None = None,
    *,
    since: int | None = None,
    until: int | None = None,
    before: int | None = None,
    **where: Any,
) -> list[dict[str, Any]]:
    """Return the newest audit entries that fit, oldest first.

    Args:
        connection: To read with.
        limit: At most so many.
        since: Not before, in milliseconds since the epoch.
        until: Not after.
        before: Only entries with a smaller number.
        where: Values of columns; a ``request_id`` may be its beginning; None: any.
    """
    table = audit_table
    query = sa.select(table).order_by(table.c.seq.desc()).limit(limit)
    if (prefix := where.pop("request_id", None)) is not None:
        query = query.where(table.c.request_id.startswith(prefix, autoescape=True))
    for name, value in where.items():
        if value is not None:
            query = query.where(table.c[name] == value)
    if before is not None:
        query = query.where(table.c.seq < before)
    if since is not None:
        query = query.where(table.c.created_at >= since)
    if until is not None:
        query = query.where(table.c.created_at <= until)
    return [dict(row._mapping) for row in reversed(connection.execute(query).all())]
