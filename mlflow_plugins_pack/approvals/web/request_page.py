"""The page of one request: what would change, what is needed, and the visitor's decision."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from mlflow_plugins_pack.approvals.api import actions
from mlflow_plugins_pack.approvals.api.dependencies import ReviewOf, VisitorOf
from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.domain.review_pages import ROOT
from mlflow_plugins_pack.approvals.ledger.requests import Request as ApprovalRequest
from mlflow_plugins_pack.approvals.policy.models import Policy
from mlflow_plugins_pack.approvals.reports import request_details
from mlflow_plugins_pack.approvals.reports.request_details import RequestDetails
from mlflow_plugins_pack.approvals.web import candidate
from mlflow_plugins_pack.approvals.web.forms import Form
from mlflow_plugins_pack.approvals.web.rendering import Pages, status_of

router = APIRouter(prefix=ROOT, include_in_schema=False)

RequestId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
_DONE = {
    "approve": "Your approval is recorded.",
    "reject": "You rejected the request.",
    "withdraw": "Your approval is withdrawn.",
    "cancel": "The request is cancelled.",
    "comment": "Your comment is added.",
    "edit": "Your comment is changed.",
    "delete": "Your comment is deleted.",
    "apply": "The change is made.",
    "break_glass": "The change is made without approval; its review waits.",
    "request": "The request is filed.",
}
_VOTES = frozenset({"approve", "reject", "withdraw", "cancel", "comment"})


@router.get("/requests/{request_id}")
def show(
    request_id: RequestId, request: Request, review: ReviewOf, visitor: VisitorOf, done: str = ""
) -> HTMLResponse:
    """Show a request."""
    found = review.request(visitor, request_id)
    return _page(request, review, visitor, found, notice=_DONE.get(done, ""))


@router.post("/requests/{request_id}")
def act(
    request_id: RequestId, request: Request, review: ReviewOf, visitor: VisitorOf, form: Form
) -> Response:
    """Do what a button of the page says."""
    found = review.request(visitor, request_id)
    action, text = form.get("action", ""), form.get("text", "").strip()
    if action not in (*_VOTES, "apply", "break_glass"):
        raise MlflowException(
            "The form names no action. Nothing was changed.", INVALID_PARAMETER_VALUE
        )
    try:
        if action == "apply":
            actions.apply(review, visitor, found)
        elif action == "break_glass":
            actions.break_glass(review, visitor, found, text)
        else:
            actions.act(review, visitor, found, action, text)
    except MlflowException as exc:
        found = actions.again(review, visitor, found)
        status = status_of(exc)
        return _page(request, review, visitor, found, problem=exc.message, status=status)
    pages = Pages(request, review, visitor)
    return RedirectResponse(pages.url(f"/requests/{found.id}", done=action), 303)


@router.post("/comments/{comment_id}")
def change_comment(
    comment_id: RequestId, request: Request, review: ReviewOf, visitor: VisitorOf, form: Form
) -> Response:
    """Change or delete one's own comment."""
    found = review.request(visitor, form.get("request", ""))
    is_deleted = form.get("action") == "delete"
    text = None if is_deleted else form.get("text", "").strip()
    actions.edit_comment(review, visitor, comment_id, text)
    pages = Pages(request, review, visitor)
    done = "delete" if is_deleted else "edit"
    return RedirectResponse(pages.url(f"/requests/{found.id}", done=done), 303)


def _page(
    request: Request,
    review: Review,
    visitor: Visitor,
    found: ApprovalRequest,
    *,
    notice: str = "",
    problem: str = "",
    status: int = 200,
) -> HTMLResponse:
    now = clock.now_ms()

    def read(facts: Any = ()) -> tuple[RequestDetails, Policy]:
        return review.read(
            visitor, lambda s, policy: (request_details.read(s, policy, found, now, facts), policy)
        )

    details, policy = read()
    compared = candidate.compare(review, visitor, details)
    if details.rule is not None and any(check.needs for check in details.rule.checks):
        details, policy = read(compared.facts)
    details = actions.with_files(review, visitor, details)
    pages = Pages(request, review, visitor)
    return pages.page(
        "request.html",
        status=status,
        section="Inbox",
        details=details,
        has_holder=compared.has_holder,
        headline=_headline(details),
        consequence=_consequence(details, policy),
        warnings=_warnings(details),
        actions=details.actions_of(policy, visitor.user),
        notice=notice,
        problem=problem,
        **compared.shown(pages),
    )


def _headline(details: RequestDetails) -> str:
    request = details.request
    target = f"{request.target.kind} {request.target.name}"
    if request.action == "demote":
        return f"Take {target} away from {request.name} version {request.version}"
    if request.action == "review":
        change = f"{request.name} version {request.version} is {target}"
        return f"Review the emergency change: {change}"
    return f"Promote {request.name} version {request.version} to {target}"


def _consequence(details: RequestDetails, policy: Policy) -> str:
    request, missing = details.request, details.tally.need - details.tally.have
    holder = details.holder.version if details.holder is not None else None
    change = f"version {request.version} becomes {request.target.tag}"
    if request.action == "demote":
        change = f"version {request.version} loses {request.target.tag}"
    elif holder is not None and holder != request.version and request.target.kind == "alias":
        change += f", which version {holder} is now"
    if request.action == "review":
        return "An approval makes the emergency change permanent; a rejection reports it as drift."
    if request.state.value == "APPROVED":
        return f"Applying makes the change: {change}. MLflow requires EDIT on the model for it."
    if missing > 1:
        return (
            f"After your approval {missing - 1} more is needed."
            if missing == 2
            else (f"After your approval {missing - 1} more are needed.")
        )
    if policy.defaults.apply == "auto":
        return f"The last approval makes the change: {change}."
    return (
        "After the last approval the requester, or another user with EDIT, can apply the change: "
        f"{change}."
    )


def _warnings(details: RequestDetails) -> list[str]:
    request = details.request
    found: list[str] = []
    if not request.state.is_open:
        return found
    if details.version is None:
        found.append("The version was deleted or registered again since the request was made.")
    elif details.rule is None:
        found.append("No policy protects this target any longer; the change can be made directly.")
    if details.policy_changed:
        found.append("The policy has changed since the request was made; the one in force decides.")
    if details.files_changed:
        found.append(
            "The version's files were written since the request was made. A vote reads them again, "
            "and counts only if they are the same; otherwise ask again."
        )
    elif details.files_changed is None and details.version is not None and request.digest:
        found.append(
            "Whether the version's files were written since the request was made cannot be seen "
            "here; the change is made only if they were not."
        )
    if request.awaits_digest:
        found.append("The version's files are being read; it can be approved after that.")
    holder = details.holder.uid if details.holder is not None else None
    if holder != request.holder_uid and request.action != "review":
        found.append(
            "Another version holds the target than when the request was made, so it cannot be "
            "applied any more. Ask again."
        )
    return found
