"""The page of the audit log, its export, and whether the log can be believed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, StreamingResponse

from mlflow_plugins_pack.approvals.api.audit import AuditFilters, page_of, verification
from mlflow_plugins_pack.approvals.api.dependencies import ReviewOf, VisitorOf
from mlflow_plugins_pack.approvals.domain.review_pages import ROOT
from mlflow_plugins_pack.approvals.reports import listings
from mlflow_plugins_pack.approvals.web.rendering import Pages

router = APIRouter(prefix=ROOT, include_in_schema=False)

_PAGE_SIZE = 50
_EXPORTED_AT_ONCE = 500

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
    filters = AuditFilters(model, actor, action, request_id)
    entries, rest = page_of(review, visitor, filters, int(before) if before else None, _PAGE_SIZE)
    return Pages(request, review, visitor).page(
        "audit.html",
        section="Audit log",
        entries=entries,
        filters=filters,
        all_actions=review.read(visitor, lambda s, _: listings.audit_actions(s)),
        before=rest,
        verification=verification(review, visitor) if verify else None,
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
    filters = AuditFilters(model, actor, action, request_id)

    def lines() -> Iterator[str]:
        entries, rest = page_of(review, visitor, filters, None, _EXPORTED_AT_ONCE)
        while True:
            for entry in entries:
                yield json.dumps(entry, ensure_ascii=False) + "\n"
            if rest is None:
                return
            entries, rest = page_of(review, visitor, filters, rest, _EXPORTED_AT_ONCE)

    headers = {"Content-Disposition": 'attachment; filename="audit.jsonl"'}
    return StreamingResponse(lines(), media_type="application/x-ndjson", headers=headers)
