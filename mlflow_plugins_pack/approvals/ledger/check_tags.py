"""Writes and reads who gave the tags that policies check their values, and when."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.database.tables import check_tags
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger


def note(ledger: Ledger, version: Version, tag: str, value: str | None) -> None:
    """Record the actor's value of a checked tag; None: the tag was deleted."""
    ledger.session.execute(
        sa.delete(check_tags).where(
            check_tags.c.version_uid == version.uid, check_tags.c.tag == tag
        )
    )
    if value is not None:
        ledger.session.execute(
            sa.insert(check_tags).values(
                version_uid=version.uid,
                tag=tag,
                value=value,
                writer=ledger.actor,
                set_at=ledger.now_ms,
            )
        )
    ledger.record("CHECK_TAG_SET", version, after={"tag": tag, "value": value})


def find(ledger: Ledger, version: Version, tag: str) -> Any:
    """Return the row (value, writer, set_at) of a required tag, or None."""
    return ledger.session.execute(
        sa.select(check_tags).where(
            check_tags.c.version_uid == version.uid, check_tags.c.tag == tag
        )
    ).first()
