"""Which events there are, what a webhook gets and how it is signed; pure.

An event is an entry of the audit log, told to others. It is signed as stock MLflow signs its own
webhooks (after the Standard Webhooks specification), so that a receiver checks both with the same
lines: ``X-MLflow-Signature: v1,base64(HMAC-SHA-256(secret, "<id>.<timestamp>.<body>"))``.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from mlflow_plugins_pack.strict_model import StrictModel

Event = Literal[
    "request.created",
    "request.approved",
    "request.rejected",
    "request.cancelled",
    "request.expired",
    "request.stale",
    "request.superseded",
    "request.applied",
    "break_glass",
    "drift",
]

MAX_ATTEMPTS = 30
"""After these, some 24 hours, an event waits for `mlflow-pack approvals events retry`."""

_FIRST_WAIT_MS = 10_000
_LONGEST_WAIT_MS = 3_600_000

_BY_ACTION: Mapping[str, Event] = {
    "REQUESTED": "request.created",
    "APPROVED": "request.approved",
    "REJECTED": "request.rejected",
    "CANCELLED": "request.cancelled",
    "EXPIRED": "request.expired",
    "STALE": "request.stale",
    "SUPERSEDED": "request.superseded",
    "APPLIED": "request.applied",
    "BREAK_GLASS": "break_glass",
    "DRIFT": "drift",
}


class Secret(StrictModel):
    """Where the key of the signature is; never in the policy file, whose text is kept."""

    env: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Secret:
        if (self.env is None) == (self.file is None):
            raise ValueError("give either env (a variable's name) or file (a path)")
        return self


class Webhook(StrictModel):
    """Somebody to be told.

    Attributes:
        url: https, or http on this machine.
        secret: Key of the signature.
        events: Which; by default all.
        allow_private: Whether plain http and addresses that are not public are fine too.
    """

    url: Annotated[str, Field(max_length=1000)]
    secret: Secret
    events: list[Event] = Field(default_factory=lambda: list(get_args(Event)))
    allow_private: bool = False

    @model_validator(mode="after")
    def _is_safe(self) -> Webhook:
        parts = urlsplit(self.url)
        if parts.username is not None or parts.password is not None:
            raise ValueError("a URL with a password in it would be kept with the policy's text")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{self.url!r} is not an https URL")
        if parts.scheme == "http" and not (self.allow_private or self.is_local):
            raise ValueError(
                "plain http lets anybody on the way read and drop events: use https, or say "
                "allow_private: true"
            )
        return self

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine by its very name."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


class Events(StrictModel):
    """The policy file's section ``events``."""

    webhooks: list[Webhook] = Field(default_factory=list)

    @model_validator(mode="after")
    def _each_once(self) -> Events:
        urls = [webhook.url for webhook in self.webhooks]
        if len(set(urls)) != len(urls):
            raise ValueError("two webhooks have the same URL; name it once with all its events")
        return self


def event_of(entry: Mapping[str, Any]) -> Event | None:
    """Return the event that an audit entry is, if any."""
    return _BY_ACTION.get(entry["action"])


def body(event: Event, entry: Mapping[str, Any]) -> str:
    """Return what a webhook gets: JSON with the audit entry, its hash included."""
    columns = ("actor", "workspace", "name", "version", "target", "request_id", "policy_sha256")
    data = {column: entry[column] for column in columns}
    for column in ("before", "after"):
        data[column] = None if entry[column] is None else json.loads(entry[column])
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
