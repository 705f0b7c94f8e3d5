"""Reads the approvals of a database without serving it: for listings, checks and the doctor."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from mlflow_plugins_pack.approvals.database import mlflow_tables, schema
from mlflow_plugins_pack.approvals.database.tables import audit as audit_table
from mlflow_plugins_pack.approvals.database.tables import comments, policies, requests, user_claims
from mlflow_plugins_pack.approvals.domain.basis import Basis
from mlflow_plugins_pack.approvals.domain.targets import parse_target
from mlflow_plugins_pack.approvals.ledger import audit_log
from mlflow_plugins_pack.approvals.ledger.holder_history import History
from mlflow_plugins_pack.approvals.ledger.requests import (
    Request,
    comments_on,
    find_requests,
    votes,
)
from mlflow_plugins_pack.approvals.policy.models import Policy
from mlflow_plugins_pack.approvals.policy.parse import parse_policy
from mlflow_plugins_pack.approvals.reports.replay import (
    AppliedChange,
    AppliedVote,
    KnownClaims,
    SeenTag,
)
from mlflow_plugins_pack.approvals.uri import plain_uri
from mlflow_plugins_pack.errors import (
    ConfigurationError,
    NotServedYetError,
    PolicyInvalidError,
)
from mlflow_plugins_pack.uris import without_credentials


@contextlib.contextmanager
def connected(uri: str) -> Iterator[sa.Connection]:
    """Connect to the database behind an ``approval-`` or a stock URI.

    Raises:
        NotServedYetError: If it was never served with an approval- URI.
        ConfigurationError: If it cannot be reached.
    """
    with served(uri) as engine, engine.connect() as connection:
        yield connection


@contextlib.contextmanager
def served(uri: str) -> Iterator[sa.Engine]:
    """Open a database that has the approvals' tables, as this version needs them.

    Raises:
        NotServedYetError: If it was never served with an approval- URI.
        ConfigurationError: If it cannot be reached.
    """
    with opened(uri) as engine:
        with engine.connect() as connection:
            found = schema.current_revision(connection)
        if found is None:
            raise NotServedYetError(
                f"The database {without_credentials(uri)!r} has no approvals tables. Nothing "
                "was changed. Serve it once with an approval- URI; the server makes them."
            )
        if found != schema.head_revision():
            raise ConfigurationError(
                f"The approvals tables of {without_credentials(uri)!r} are at revision {found}, "
                f"and this version needs {schema.head_revision()}. Nothing was changed. Run "
                "mlflow-pack approvals db upgrade, or start the server once."
            )
        yield engine


@contextlib.contextmanager
def opened(uri: str) -> Iterator[sa.Engine]:
    """Open the database behind an ``approval-`` or a stock URI.

    Raises:
        ConfigurationError: If it cannot be reached.
    """
    try:
        engine = sa.create_engine(plain_uri(uri))
    except (sa.exc.ArgumentError, ImportError) as exc:
        raise ConfigurationError(
            f"{without_credentials(uri)!r} is not a database URI that can be opened here ({exc}). "
            "Nothing was changed. Give the registry's database, such as "
            "approval-sqlite:///mlflow.db."
        ) from exc
    try:
        if engine.dialect.name == "sqlite":
            _refuse_missing_file(engine, uri)
        yield engine
    except sa.exc.OperationalError as exc:
        raise ConfigurationError(
            f"The database {without_credentials(uri)!r} cannot be read ({exc.orig}). "
            "Nothing was changed. Check the URI and whether the database runs."
        ) from exc
    finally:
        engine.dispose()


def _refuse_missing_file(engine: sa.Engine, uri: str) -> None:
    # SQLite would make an empty file of a mistyped name.
    from pathlib import Path

    path = engine.url.database
    if path and path != ":memory:" and not Path(path).exists():
        raise NotServedYetError(
            f"There is no database file {path!r} (from {uri!r}). Nothing was changed. "
            "Check the path; a relative one starts at the current folder."
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


def verify_audit(uri: str) -> audit_log.Verification:
    """Check the audit chain of a database."""
    with connected(uri) as connection:
        return audit_log.verify(connection)


def uids_of(connection: sa.Connection, name: str, version: int) -> set[str]:
    """Return the identities that requests or comments know for a name and number."""
    found: set[str] = set()
    for table in (requests, comments):
        query = sa.select(table.c.version_uid).where(
            table.c.name == name, table.c.version == version
        )
        found |= set(connection.execute(query).scalars())
    return found


def audit_entries(
    connection: sa.Connection,
    limit: int | None = None,
    *,
    since: int | None = None,
    until: int | None = None,
    **where: Any,
) -> list[dict[str, Any]]:
    """Return the newest audit entries that fit, oldest first.

    Args:
        connection: To read with.
        limit: At most so many.
        since: Not before, in milliseconds since the epoch.
        until: Not after.
        where: Values of columns; a ``request_id`` may be its beginning; None: any.
    """
    table = audit_table
    query = sa.select(table).order_by(table.c.seq.desc()).limit(limit)
    if (prefix := where.pop("request_id", None)) is not None:
        query = query.where(table.c.request_id.startswith(prefix, autoescape=True))
    for name, value in where.items():
        if value is not None:
            query = query.where(table.c[name] == value)
    if since is not None:
        query = query.where(table.c.created_at >= since)
    if until is not None:
        query = query.where(table.c.created_at <= until)
    return [dict(row._mapping) for row in reversed(connection.execute(query).all())]


# What tells who holds what, and what was known of a version.
_TOLD = ("APPLIED", "SYSTEM_TRANSITION", "VERSION_DELETED", "MODEL_DELETED", "MODEL_RENAMED")


def past_changes(connection: sa.Connection) -> list[AppliedChange]:
    """Return every approved change that was made, oldest first, with what was known then."""
    requested = {request.id: request for request in find_requests(connection)}
    in_force = _policies(connection)
    told = History()
    tags: dict[tuple[str, str], dict[int, dict[str, SeenTag]]] = {}
    changes: list[AppliedChange] = []
    query = (
        sa.select(audit_table)
        .where(audit_table.c.action.in_(("CHECK_TAG_SET", "BREAK_GLASS_REVIEWED", *_TOLD)))
        .order_by(audit_table.c.seq)
    )
    for row in connection.execute(query):
        after = json.loads(row.after or "{}")
        model = (row.workspace, row.name)
        if row.action == "CHECK_TAG_SET":
            seen = SeenTag(after.get("value"), row.actor, row.created_at)
            tags.setdefault(model, {}).setdefault(row.version, {})[after.get("tag", "")] = seen
            continue
        if row.action == "BREAK_GLASS_REVIEWED":
            _note_review(changes, row)
            continue
        if row.action == "MODEL_DELETED":
            tags.pop(model, None)
        request = requested.get(row.request_id) if row.action == "APPLIED" else None
        if request is not None:
            known = tags.get(model, {}).get(row.version, {})
            held = told.held_by(*model, row.version)
            policy = in_force.get(row.policy_sha256)
            changes.append(_applied_change(connection, row, after, request, known, held, policy))
        told.step(dict(row._mapping))
    return changes


def _note_review(changes: list[AppliedChange], row: Any) -> None:
    """Note that the last change of a version's target was approved afterwards."""
    about = (row.workspace, row.name, row.version, row.target)
    for place in range(len(changes) - 1, -1, -1):
        change = changes[place]
        if (change.workspace, change.name, change.version, change.target.key) == about:
            changes[place] = replace(change, is_reviewed=True)
            return


def _applied_change(
    connection: sa.Connection,
    row: Any,
    after: dict[str, Any],
    request: Request,
    tags: dict[str, SeenTag],
    held: frozenset[str],
    policy: Policy | None,
) -> AppliedChange:
    there = mlflow_tables.find_version(connection, row.workspace, row.name, row.version)
    is_same = there is not None and there.uid == request.version_uid
    cast = votes(connection, request.id)
    return AppliedChange(
        workspace=row.workspace,
        name=row.name,
        version=row.version,
        uid=request.version_uid,
        target=request.target,
        action=request.action,
        ts=row.created_at,
        actor=row.actor,
        requester=request.requester,
        requested_at=request.created_at,
        creator=request.creator,
        run_user=request.run_user,
        votes=tuple(AppliedVote(v.approver, v.decided_at) for v in cast if v.verdict == "approve"),
        digest=request.digest,
        basis=Basis.from_fields(after.get("basis")),
        tags=dict(tags),
        held=frozenset(map(parse_target, held)),
        policy=policy,
        is_prompt=there.is_prompt if there is not None and is_same else True,
        has_files=there.has_files if there is not None and is_same else True,
    )


def _policies(connection: sa.Connection) -> dict[str, Policy]:
    """Return the policies that requests were made under, as far as this version can read them."""
    found = {}
    for row in connection.execute(sa.select(policies)):
        with contextlib.suppress(PolicyInvalidError):
            found[row.sha256] = parse_policy(row.text, row.sha256)
    return found


def known_claims(connection: sa.Connection) -> dict[str, KnownClaims]:
    """Return the claims that each person was last seen with, and since when."""
    return {
        row.username: KnownClaims(frozenset(json.loads(row.claims)), row.seen_at)
        for row in connection.execute(sa.select(user_claims))
    }
