"""The policy in force, as every server of the database has it.

Servers read policies from files, and two servers may have two files. The database says which policy
is in force, so that all of them decide by the same one.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlflow_plugins_pack.approvals.database.tables import active_policy, policies

_IN_FORCE = sa.select(policies.c.sha256, policies.c.text).join(
    active_policy, active_policy.c.sha256 == policies.c.sha256
)


def in_force(connection: Connection) -> tuple[str, str] | None:
    """Return the digest and the text of the policy in force, or None before the first one."""
    row = connection.execute(_IN_FORCE).first()
    return (row.sha256, row.text) if row is not None else None


def activate(
    connection: Connection,
    sha256: str,
    text: str,
    *,
    replaces: str | None,
    now_ms: int,
    by: str | None = None,
) -> bool:
    """Put a policy into force if the one in force is still the one that it replaces.

    Args:
        connection: A connection in a transaction that holds the migration lock
            (`schema.exclusive`).
        sha256: The policy's digest.
        text: Its text.
        replaces: The digest of the policy in force; None: none is.
        now_ms: Milliseconds since the epoch.
        by: The user who activates it; None: a server whose file was changed.

    Returns:
        Whether the policy is in force now.
    """
    found = in_force(connection)
    if (found[0] if found else None) != replaces:
        return found is not None and found[0] == sha256
    known = sa.select(policies.c.sha256).where(policies.c.sha256 == sha256)
    if connection.execute(known).first() is None:
        row = {"sha256": sha256, "text": text, "first_used_at": now_ms}
        connection.execute(sa.insert(policies).values(row))
    values = {"sha256": sha256, "activated_at": now_ms, "activated_by": by}
    if found is None:
        connection.execute(sa.insert(active_policy).values(id=1, **values))
    else:
        connection.execute(sa.update(active_policy).values(values))
    return True
