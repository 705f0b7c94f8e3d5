"""Writes and reads who registered a version."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.database.tables import creators


def creator_of(session: Session, version: Version) -> str | None:
    """Return who registered a version, if the store saw it."""
    found: str | None = session.execute(
        sa.select(creators.c.creator).where(creators.c.version_uid == version.uid)
    ).scalar()
    return found


def note(session: Session, version: Version, creator: str | None, now_ms: int) -> None:
    """Record who registered a version, unless that is known already or None."""
    if creator is None or creator_of(session, version) is not None:
        return
    session.execute(
        sa.insert(creators).values(
            version_uid=version.uid,
            workspace=version.workspace,
            name=version.name,
            version=version.version,
            creator=creator,
            created_at=now_ms,
        )
    )
