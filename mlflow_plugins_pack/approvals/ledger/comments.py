"""Writes comments; each change is in the audit log with what the comment said before."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.database.tables import comments
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger


def add(
    ledger: Ledger, version: Version, text: str, *, target: Target | None, request_id: str | None
) -> str:
    """Add the actor's comment on a version and return its id."""
    comment_id = uuid.uuid4().hex
    ledger.session.execute(
        sa.insert(comments).values(
            id=comment_id,
            workspace=version.workspace,
            name=version.name,
            version=version.version,
            version_uid=version.uid,
            target=target.key if target else None,
            request_id=request_id,
            author=ledger.actor,
            text=text,
            created_at=ledger.now_ms,
        )
    )
    ledger.record(
        "COMMENTED",
        version,
        target=target.key if target else None,
        request_id=request_id,
        after={"comment": text},
    )
    return comment_id


def edit(ledger: Ledger, comment_id: str, text: str | None) -> bool:
    """Change the actor's comment, or delete it (None); False if they have no such comment.

    What it said before stays in the audit log.
    """
    mine = sa.and_(comments.c.id == comment_id, comments.c.author == ledger.actor)
    row = ledger.session.execute(sa.select(comments).where(mine)).first()
    if row is None or ledger.actor is None:
        return False
    if text is None:
        ledger.session.execute(sa.delete(comments).where(mine))
    else:
        values = {"text": text, "edited_at": ledger.now_ms}
        ledger.session.execute(sa.update(comments).where(mine).values(values))
    ledger.record(
        "COMMENT_DELETED" if text is None else "COMMENT_EDITED",
        workspace=row.workspace,
        name=row.name,
        version=row.version,
        target=row.target,
        request_id=row.request_id,
        before={"comment": row.text},
        after=None if text is None else {"comment": text},
    )
    return True
