"""Puts policies into force, and records that in the audit log."""

from __future__ import annotations

from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database import policies
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.ledger import audit_log
from mlflow_plugins_pack.approvals.policy.models import Policy

ACTOR = "system:policy"
"""Of an edit of the policy file in force, which a server puts into force by itself."""


def activate(
    connection: Connection, policy: Policy, replaces: str | None, by: str | None = None
) -> bool:
    """Put a policy into force if the one in force is still the one that it replaces.

    That is recorded, except for the first policy of a new database, which replaces none.

    Args:
        connection: A connection in a transaction that holds the migration lock
            (`schema.exclusive`).
        policy: The policy.
        replaces: The digest of the policy in force; None: none is.
        by: The user who activates it; None: a server.

    Returns:
        Whether the policy is in force now.
    """
    before, now = policies.in_force(connection), clock.now_ms()
    done = policies.activate(
        connection, policy.sha256, policy.text, replaces=replaces, now_ms=now, by=by
    )
    is_first = before is None and by is None
    if done and not is_first and (before is None or before[0] != policy.sha256):
        with Session(bind=connection) as session:
            audit_log.append(
                session,
                created_at=now,
                action="POLICY_ACTIVATED",
                actor=by or ACTOR,
                before={"policy": replaces},
                after={"policy": policy.sha256},
                policy_sha256=policy.sha256,
            )
            session.flush()
    return done
