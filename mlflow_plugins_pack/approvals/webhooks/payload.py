"""What a webhook gets, how it is signed and when it is tried again; pure.

An event is an entry of the audit log. It is signed as stock MLflow signs its own webhooks (after
the Standard Webhooks specification), so that a receiver checks both with the same lines:
``X-MLflow-Signature: v1,base64(HMAC-SHA-256(secret, "<id>.<timestamp>.<body>"))``.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from mlflow_plugins_pack.approvals.domain.review_pages import request_page
from mlflow_plugins_pack.approvals.policy.webhooks import Event

MAX_ATTEMPTS = 30
"""After these, some 24 hours, an event waits for `mlflow-pack approvals events retry`."""

_FIRST_WAIT_MS = 10_000
_LONGEST_WAIT_MS = 3_600_000

_BY_ACTION: Mapping[str, Event] = {
    "REQUESTED": "request.created",
    "APPROVED": "request.approved",
    "REJECTED": "request.rejected",
    "CANCELLED": "request.cancelled",
    "REMINDED": "request.expiring",
    "EXPIRED": "request.expired",
    "STALE": "request.stale",
    "SUPERSEDED": "request.superseded",
    "APPLIED": "request.applied",
    "BREAK_GLASS": "break_glass",
    "DRIFT": "drift",
}


def event_of(entry: Mapping[str, Any]) -> Event | None:
    """Return the event that an audit entry is, if any."""
    return _BY_ACTION.get(entry["action"])


def body(event: Event, entry: Mapping[str, Any], review_url: str = "") -> str:
    """Return what a webhook gets: JSON with the audit entry, its hash included.

    Args:
        event: The event.
        entry: The audit entry.
        review_url: The review app's address; with it the data name the request's page.
    """
    columns = ("actor", "workspace", "name", "version", "target", "request_id", "policy_sha256")
    data = {column: entry[column] for column in columns}
    for column in ("before", "after"):
        data[column] = None if entry[column] is None else json.loads(entry[column])
    page = request_page(review_url, entry["request_id"], entry["workspace"] or "default")
    if page is not None:
        data["request_url"] = page
    moment = datetime.fromtimestamp(entry["created_at"] / 1000, timezone.utc)
    told = {
        "event": event,
        "timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "audit_seq": entry["seq"],
        "audit_hash": entry["hash"],
        "data": data,
    }
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False)


def signature(secret: str, delivery_id: str, timestamp: str, text: str) -> str:
    """Return the signature of a delivery.

    Args:
        secret: The key shared with the receiver.
        delivery_id: The same for every attempt: a receiver drops what it has seen.
        timestamp: Seconds since the epoch, of this attempt: a receiver drops what is too old.
        text: The body.
    """
    message = f"{delivery_id}.{timestamp}.{text}".encode()
    return "v1," + base64.b64encode(hmac.digest(secret.encode(), message, "sha256")).decode()


def wait_ms(attempts: int, luck: float) -> int:
    """Return how long to wait after so many failed attempts; doubles up to an hour.

    Args:
        attempts: At least 1.
        luck: From 0 to 1; spreads the attempts over the second half of the time.
    """
    longest = min(_FIRST_WAIT_MS * 2 ** min(attempts - 1, 20), _LONGEST_WAIT_MS)
    return int(longest * (0.5 + luck / 2))
