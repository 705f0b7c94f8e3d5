"""Reads the audit log for a visitor: the entries about models that they may read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.ledger import audit_log
from mlflow_plugins_pack.approvals.ledger.audit_log import Verification
from mlflow_plugins_pack.approvals.reports import listings

_MAX_LOOKED_AT = 2000
"""So many entries are looked at for one page; the next page goes on from there."""


@dataclass(frozen=True)
class AuditFilters:
    """What is asked for; an empty text: anything.

    Attributes:
        model: The name of the model.
        actor: The user.
        action: The action, such as ``APPLIED``.
        request_id: The beginning of a request's id.
    """

    model: str = ""
    actor: str = ""
    action: str = ""
    request_id: str = ""


def page_of(
    review: Review, visitor: Visitor, filters: AuditFilters, before: int | None, size: int
) -> tuple[list[dict[str, Any]], int | None]:
    """Return entries, newest first, and before which number the next part begins.

    Args:
        review: The review app's parts.
        visitor: Who asks.
        filters: What is asked for.
        before: Only entries with a smaller number; None: all.
        size: About how many.
    """
    entries: list[dict[str, Any]] = []
    looked_at, is_more = 0, True
    while is_more and len(entries) < size and looked_at < _MAX_LOOKED_AT:
        batch = _entries(review, visitor, filters, size, before)
        looked_at += len(batch)
        is_more = len(batch) == size
        before = batch[-1]["seq"] if batch else before
        entries += _visible(review, visitor, batch)
    return entries, before if is_more else None


def _entries(
    review: Review, visitor: Visitor, filters: AuditFilters, limit: int, before: int | None
) -> list[dict[str, Any]]:
    where: dict[str, Any] = {
        "name": filters.model or None,
        "actor": filters.actor or None,
        "action": filters.action or None,
        "request_id": filters.request_id or None,
    }
    if not visitor.is_admin:
        where["workspace"] = visitor.workspace
    found = review.read(
        visitor, lambda s, _: listings.audit_entries(s, limit, before=before, **where)
    )
    return found[::-1]


def _visible(
    review: Review, visitor: Visitor, entries: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    if visitor.is_admin:
        return entries
    named = {entry["name"] for entry in entries if entry["name"] is not None}
    readable = review.readable(visitor, named)
    return [entry for entry in entries if entry["name"] in readable]


def verification(review: Review, visitor: Visitor) -> Verification:
    """Return whether the log holds; it is read whole, so not more often than now and then."""
    return review.now_and_then(
        "audit", lambda: review.read(visitor, lambda s, _: audit_log.verify(s.connection()))
    )
