"""The outbox: events are written in the transaction of the change that they report.

An event that is committed is delivered at least once, even if the process dies; one that is rolled
back never. One process at a time delivers: it holds a lease (`database.lease`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database.tables import outbox
from mlflow_plugins_pack.approvals.policy.models import Policy
from mlflow_plugins_pack.approvals.policy.notifications import Notification
from mlflow_plugins_pack.approvals.policy.webhooks import Event, Webhook
from mlflow_plugins_pack.approvals.webhooks import messages, payload
from mlflow_plugins_pack.settings import REVIEW_URL

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"
KEPT_MS = 30 * 86_400_000
"""Time for which finished deliveries are listed; the audit log keeps their content."""
_MAX_ERROR_LENGTH = 500


@dataclass(frozen=True)
class Delivery:
    """One event for one receiver.

    Attributes:
        id: the delivery's id, the same for each attempt.
        seq: the sequence number of the audit entry.
        event: the event's name.
        url: the webhook's address, or ``notification:`` and a name.
        body: what it is sent.
        state: pending, delivered or failed.
        attempts: how many attempts were made.
        created_at: when it was queued, in milliseconds since the epoch, as the other times.
        next_attempt_at: the earliest time of the next attempt.
        delivered_at: when it was delivered, if it was.
        last_error: why the last attempt failed.
    """

    id: str
    seq: int
    event: str
    url: str
    body: str
    state: str
    attempts: int
    created_at: int
    next_attempt_at: int
    delivered_at: int | None
    last_error: str | None


def enqueue(session: Session, policy: Policy, entry: Mapping[str, Any]) -> None:
    """Queue an audit entry for every receiver that wants it, in the entry's own transaction."""
    receivers = policy.file.events.receivers
    event = payload.event_of(entry) if receivers else None
    if event is None:
        return
    rows = [
        {
            "id": uuid.uuid4().hex,
            "seq": entry["seq"],
            "event": event,
            "url": receiver.key,
            "body": _body(receiver, event, entry),
            "state": PENDING,
            "attempts": 0,
            "created_at": entry["created_at"],
            "next_attempt_at": entry["created_at"],
        }
        for receiver in receivers
        if event in receiver.events
    ]
    if rows:
        session.execute(sa.insert(outbox), rows)


def _body(receiver: Webhook | Notification, event: Event, entry: Mapping[str, Any]) -> str:
    if isinstance(receiver, Webhook):
        return payload.body(event, entry, REVIEW_URL.get())
    return messages.body(receiver.kind, event, entry, REVIEW_URL.get())


def due(session: Session, now_ms: int, limit: int) -> list[Delivery]:
    """Return the deliveries that are due, in the order of the log."""
    query = (
        sa.select(outbox)
        .where(outbox.c.state == PENDING, outbox.c.next_attempt_at <= now_ms)
        .order_by(outbox.c.seq, outbox.c.id)
        .limit(limit)
    )
    return [Delivery(**row._mapping) for row in session.execute(query)]


def deliveries(connection: sa.Connection, state: str | None, limit: int) -> list[Delivery]:
    """Return the newest deliveries, oldest first."""
    query = sa.select(outbox).order_by(outbox.c.seq.desc(), outbox.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(outbox.c.state == state)
    return [Delivery(**row._mapping) for row in reversed(connection.execute(query).all())]


def note_success(session: Session, delivery: Delivery, now_ms: int) -> None:
    """Record that a delivery was made, and delete those made long ago."""
    _update(session, delivery, state=DELIVERED, delivered_at=now_ms, last_error=None)
    long_ago = now_ms - KEPT_MS
    session.execute(
        sa.delete(outbox).where(
            outbox.c.state == DELIVERED,
            outbox.c.next_attempt_at < long_ago,  # earlier than delivered_at, and indexed
            outbox.c.delivered_at < long_ago,
        )
    )


def note_failure(
    session: Session, delivery: Delivery, now_ms: int, luck: float, problem: str
) -> None:
    """Record that an attempt failed, and when the next one is due, if any."""
    attempts = delivery.attempts + 1
    _update(
        session,
        delivery,
        state=FAILED if attempts >= payload.MAX_ATTEMPTS else PENDING,
        next_attempt_at=now_ms + payload.wait_ms(attempts, luck),
        last_error=problem[:_MAX_ERROR_LENGTH],
    )


def _update(session: Session, delivery: Delivery, **values: Any) -> None:
    session.execute(
        sa.update(outbox)
        .where(outbox.c.id == delivery.id, outbox.c.state == PENDING)
        .values(attempts=delivery.attempts + 1, **values)
    )


def retry(connection: sa.Connection, ids: list[str] | None, now_ms: int) -> int:
    """Make undelivered deliveries due at once.

    Args:
        connection: The connection to write with.
        ids: The beginnings of their ids; None: all.
        now_ms: Milliseconds since the epoch.

    Returns:
        The number of deliveries.
    """
    query = sa.update(outbox).where(outbox.c.state != DELIVERED)
    if ids is not None:
        query = query.where(sa.or_(*(outbox.c.id.startswith(i, autoescape=True) for i in ids)))
    done = connection.execute(query.values(state=PENDING, attempts=0, next_attempt_at=now_ms))
    return int(done.rowcount)
