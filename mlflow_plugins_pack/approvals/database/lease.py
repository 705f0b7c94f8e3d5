"""Named leases: one process at a time does a job, and renews its lease while it lives."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database.tables import leases


def acquire(session: Session, name: str, owner: str, now_ms: int, ttl_ms: int) -> bool:
    """Acquire or renew a lease; return False while another process holds it.

    Times are the processes' own: where clocks differ by more than the lease, two processes may
    hold it for a moment.
    """
    row = session.execute(sa.select(leases).where(leases.c.name == name)).first()
    if row is None:
        session.execute(
            sa.insert(leases).values(name=name, owner=owner, expires_at=now_ms + ttl_ms)
        )
        return True
    if row.owner != owner and row.expires_at > now_ms:
        return False
    if row.owner == owner and row.expires_at - now_ms > ttl_ms // 2:
        return True
    done = session.execute(
        sa.update(leases)
        .where(
            leases.c.name == name,
            leases.c.owner == row.owner,
            leases.c.expires_at == row.expires_at,
        )
        .values(owner=owner, expires_at=now_ms + ttl_ms)
    )
    return bool(done.rowcount == 1)  # type: ignore[attr-defined]


def is_obtainable(session: Session, name: str, owner: str, now_ms: int) -> bool:
    """Return whether `acquire` could succeed; only reads."""
    row = session.execute(sa.select(leases).where(leases.c.name == name)).first()
    return row is None or row.owner == owner or row.expires_at <= now_ms
