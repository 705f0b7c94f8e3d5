"""The page of the audit log, its export, and whether the log can be believed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, StreamingResponse

from mlflow_plugins_pack.approvals.api.dependencies import ReviewOf, VisitorOf
from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.ledger import audit_log
from mlflow_plugins_pack.approvals.ledger.audit_log import Verification
from mlflow_plugins_pack.approvals.reports import listings
from mlflow_plugins_pack.approvals.web.rendering import ROOT, Pages

router = APIRouter(prefix=ROOT, include_in_schema=False)

_PAGE_SIZE = 50
_MAX_LOOKED_AT = 2000
"""So many entries are looked at for one page; the next page goes on from there."""
_MAX_EXPORTED = 100_000

Text = Annotated[str, Query(max_length=256)]
RequestPrefix = Annotated[str, Query(pattern=r"^[0-9a-f]{0,32}$")]
Number = Annotated[str, Query(pattern=r"^[0-9]{0,18}$")]


@router.get("/audit")
def audit(
    request: Request,
    review: ReviewOf,
    visitor: VisitorOf,
    model: Text = "",
    actor: Text = "",
    action: Text = "",
    request_id: RequestPrefix = "",
    before: Number = "",
    verify: str = "",
) -> HTMLResponse:
    """Show the newest entries that fit and that the visitor may read."""
    filters = {"model": model, "actor": actor, "action": action, "request_id": request_id}
    last = int(before) if before else None
    entries: list[dict[str, Any]] = []
    looked_at = 0
    is_more = True
    while is_more and len(entries) < _PAGE_SIZE and looked_at < _MAX_LOOKED_AT:
        batch = _entries(review, visitor, filters, _PAGE_SIZE, last)
        looked_at += len(batch)
        is_more = len(batch) == _PAGE_SIZE
        last = batch[-1]["seq"] if batch else last
        entries += [entry for entry in batch if _may_see(review, visitor, entry)]
    known = review.read(visitor, lambda s, _: listings.audit_actions(s))
    return Pages(request, review, visitor).page(
        "audit.html",
        section="Audit log",
        entries=entries,
        filters=filters,
        all_actions=known,
        before=last if is_more else None,
        verification=_verification(review, visitor) if verify else None,
    )


@router.get("/audit.jsonl")
def export(
    review: ReviewOf,
    visitor: VisitorOf,
    model: Text = "",
    actor: Text = "",
    action: Text = "",
    request_id: RequestPrefix = "",
) -> StreamingResponse:
    """Export the entries that fit and that the visitor may read, newest first."""
    filters = {"model": model, "actor": actor, "action": action, "request_id": request_id}

    def lines() -> Iterator[str]:
        last, count = None, 0
        while count < _MAX_EXPORTED:
            batch = _entries(review, visitor, filters, 500, last)
            for entry in batch:
                if _may_see(review, visitor, entry):
                    yield json.dumps(entry, ensure_ascii=False) + "\n"
            count += len(batch)
            if len(batch) < 500:
                return
            last = batch[-1]["seq"]

    headers = {"Content-Disposition": 'attachment; filename="audit.jsonl"'}
    return StreamingResponse(lines(), media_type="application/x-ndjson", headers=headers)


def _entries(
    review: Review, visitor: Visitor, filters: dict[str, str], limit: int, before: int | None
) -> list[dict[str, Any]]:
    """Return entries, newest first."""
    where: dict[str, Any] = {
        "name": filters["model"] or None,
        "actor": filters["actor"] or None,
        "action": filters["action"] or None,
        "request_id": filters["request_id"] or None,
    }
    if not visitor.is_admin:
        where["workspace"] = visitor.workspace
    found = review.read(
        visitor, lambda s, _: listings.audit_entries(s, limit, before=before, **where)
    )
    return found[::-1]


def _may_see(review: Review, visitor: Visitor, entry: dict[str, Any]) -> bool:
    if visitor.is_admin:
        return True
    return entry["name"] is not None and review.may_read(visitor, entry["name"])


def _verification(review: Review, visitor: Visitor) -> Verification:
    """Return whether the log holds; it is read whole, so not more often than now and then."""
    found: Verification = review.now_and_then(
        "audit", lambda: review.read(visitor, lambda s, _: audit_log.verify(s.connection()))
    )
    return found
