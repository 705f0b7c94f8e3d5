"""Records which of the policy's ``claim:`` groups each user had when last seen.

A token says what its bearer is at that moment, and to the process that got it. What a vote or a
check's tag is worth is asked again when the change is made, by another user's call; so the claims
that the policy names are kept for each person who writes, and replaced when they write again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database.tables import user_claims


def note(session: Session, person: str, claims: Iterable[str], now_ms: int) -> None:
    """Record the claims of a user, in place of those recorded before."""
    # Not the name itself: databases differ in which names they take for the same.
    key = hashlib.sha256(person.encode()).hexdigest()
    text = json.dumps(sorted(claims))
    before = session.execute(
        sa.select(user_claims.c.claims).where(user_claims.c.id == key)
    ).scalar()
    if before == text:
        return
    if before is None:
        row = {"id": key, "username": person, "claims": text, "seen_at": now_ms}
        session.execute(sa.insert(user_claims).values(row))
    else:
        change = sa.update(user_claims).where(user_claims.c.id == key)
        session.execute(change.values(claims=text, seen_at=now_ms))


def everybody(session: Session) -> dict[str, frozenset[str]]:
    """Return each person's claims."""
    rows = session.execute(sa.select(user_claims.c.username, user_claims.c.claims))
    return {row.username: frozenset(json.loads(row.claims)) for row in rows}
