"""The inbox: requests that wait for the visitor, their own, all open ones, the closed ones."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from mlflow_plugins_pack.approvals.api.dependencies import ReviewOf, VisitorOf
from mlflow_plugins_pack.approvals.api.lists import PAGE_SIZE, RequestLists
from mlflow_plugins_pack.approvals.domain.review_pages import ROOT
from mlflow_plugins_pack.approvals.reports.request_lists import Filters, Sort, View
from mlflow_plugins_pack.approvals.web.rendering import Pages

router = APIRouter(prefix=ROOT, include_in_schema=False)

_EMPTY = {
    "waiting": (
        "Nothing waits for your vote.",
        "Requests appear here once a policy names you as an approver and your vote would count.",
    ),
    "mine": (
        "None of your requests is open.",
        "Ask for approval on a model's page, or set a protected alias with the stock client.",
    ),
    "open": (
        "No request is open.",
        "You see the requests on models that you may read in MLflow.",
    ),
    "history": ("No request was closed yet.", "Applied, rejected and expired requests stay here."),
}


@router.get("")
def to_inbox(request: Request) -> RedirectResponse:
    """Send the visitor to the inbox."""
    return RedirectResponse(f"{request.scope.get('root_path', '')}{ROOT}/", 307)


@router.get("/")
def inbox(
    request: Request,
    review: ReviewOf,
    visitor: VisitorOf,
    view: View | None = None,
    text: Annotated[str, Query(max_length=256)] = "",
    sort: Sort = "newest",
    page_token: Annotated[str, Query(pattern=r"^[0-9]{0,9}$")] = "",
) -> HTMLResponse:
    """Show a list of requests."""
    shown: View = view or ("waiting" if visitor.user else "open")
    offset = int(page_token or 0)
    filters = Filters(text=text, sort=sort)
    lists = RequestLists(review, visitor)
    page, found = lists.page(shown, filters, offset, PAGE_SIZE), lists.counts()
    tabs: list[tuple[str, str, int | None]] = [
        ("open", "All open", None),
        ("history", "History", None),
    ]
    if visitor.user:
        own = [("waiting", "Waiting for me", found["waiting"]), ("mine", "Mine", found["mine"])]
        tabs = [*own, *tabs]
    return Pages(request, review, visitor).page(
        "inbox.html",
        section="Inbox",
        tabs=tabs,
        view=shown,
        filters=filters,
        rows=page.rows,
        offset=offset,
        next_offset=page.next_offset,
        empty=("No request fits.", "Clear the search field to see the whole list.")
        if text
        else _EMPTY[shown],
    )
