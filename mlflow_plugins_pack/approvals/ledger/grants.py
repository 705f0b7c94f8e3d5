"""Writes which version holds which protected target by an approval."""

from __future__ import annotations

import sqlalchemy as sa

from mlflow_plugins_pack.approvals.database import batched_writes
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.database.tables import grants
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.ledger.requests import Request

# Statements are built once: to build one takes Python longer than most databases take to answer.
_OF_TARGET = (
    grants.c.workspace == sa.bindparam("workspace"),
    grants.c.name == sa.bindparam("name"),
    grants.c.target == sa.bindparam("target"),
)
_REVOKE = sa.delete(grants).where(*_OF_TARGET, grants.c.version == sa.bindparam("number"))
_REVOKE_OTHERS = sa.delete(grants).where(*_OF_TARGET, grants.c.version != sa.bindparam("number"))


def grant(
    ledger: Ledger,
    request: Request,
    version: Version,
    *,
    exclusive: bool,
    review_by: int | None = None,
) -> None:
    """Record that a version holds a target by a request.

    Args:
        ledger: The ledger of the transaction.
        request: The request that was applied.
        version: The version that holds its target now.
        exclusive: Whether other versions lose the target by that.
        review_by: When the grant ends unless it is reviewed before, in ms since the epoch.
    """
    row = {
        "workspace": version.workspace,
        "name": version.name,
        "target": request.target.key,
        "version": version.version,
        "version_uid": version.uid,
        "digest": request.digest,
        "request_id": request.id,
        "granted_by": ledger.actor,
        "granted_at": ledger.now_ms,
        "review_by": review_by,
    }
    batched_writes.write(ledger.session, batched_writes.upsert(ledger.session, grants), [row])
    if exclusive:
        where = {key: row[key] for key in ("workspace", "name", "target")}
        batched_writes.write(ledger.session, _REVOKE_OTHERS, [{**where, "number": version.version}])


def confirm(ledger: Ledger, version: Version, target: Target) -> None:
    """Make a break-glass grant permanent: its review was approved."""
    ledger.session.execute(
        sa.update(grants)
        .where(grants.c.version_uid == version.uid, grants.c.target == target.key)
        .values(review_by=None)
    )


def revoke(ledger: Ledger, version: Version, target: Target) -> None:
    """Remove a version's grant of a target."""
    where = {"workspace": version.workspace, "name": version.name, "target": target.key}
    batched_writes.write(ledger.session, _REVOKE, [{**where, "number": version.version}])
