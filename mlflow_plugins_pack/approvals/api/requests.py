"""Endpoints of requests: lists, details, votes and comments."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from pydantic import BaseModel, Field

from mlflow_plugins_pack.approvals.api import actions
from mlflow_plugins_pack.approvals.api.dependencies import (
    Comment,
    Name,
    ReviewOf,
    TargetText,
    Text,
    VisitorOf,
    json_only,
)
from mlflow_plugins_pack.approvals.api.errors import ANSWERS
from mlflow_plugins_pack.approvals.api.lists import PAGE_SIZE, RequestLists
from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.domain.targets import Target, parse_target
from mlflow_plugins_pack.approvals.ledger.requests import Request
from mlflow_plugins_pack.approvals.reports.request_lists import Filters, ListedRequest, Sort, View

PREFIX = "/approvals/api/v1"
router = APIRouter(
    prefix=PREFIX, tags=["Requests"], dependencies=[Depends(json_only)], responses=ANSWERS
)

Action = Literal["approve", "reject", "withdraw", "cancel", "break_glass"]
RequestId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]


class Vote(BaseModel):
    """A vote."""

    approver: str
    verdict: str
    comment: str | None
    decided_at: int


class RequestRow(BaseModel):
    """A request with its votes; times are in milliseconds since the epoch."""

    id: str
    workspace: str
    model: str
    version: int
    target: str
    action: str
    state: str
    reason: str | None
    requester: str
    comment: str | None
    digest: str | None
    policy: str
    created_at: int
    updated_at: int
    expires_at: int | None
    votes: list[Vote]
    approvals: int | None
    approvals_needed: int | None
    waits_for_me: bool


class RequestPage(BaseModel):
    """A part of a list; ``next_page_token`` is empty at its end."""

    requests: list[RequestRow]
    next_page_token: str


class CheckRow(BaseModel):
    """A check of the policy, and what the version lacks."""

    check: str
    problems: list[str]


class GroupRow(BaseModel):
    """A group and the number of its members who must approve."""

    group: str
    count: int
    members: list[str]


class CommentRow(BaseModel):
    """A comment; times are in milliseconds since the epoch."""

    id: str
    author: str | None
    text: str
    target: str | None
    created_at: int
    edited_at: int | None


class RequestDetailsRow(RequestRow):
    """A request, what it needs and what is met."""

    holder: int | None
    needs: list[GroupRow]
    may_approve: list[str]
    basis: str
    checks: list[CheckRow]
    frozen_until: int | None
    policy_changed: bool
    files_changed: bool | None
    comments: list[CommentRow]
    available_actions: list[str]


class NewRequest(BaseModel):
    """A version that is to become a target, such as ``prod`` or ``stage:Production``."""

    model: Name
    version: Annotated[int, Field(ge=1, le=999_999_999)]
    target: TargetText
    comment: Comment = ""


class Reason(BaseModel):
    """Why; kept with the request."""

    comment: Comment = ""


class NewComment(BaseModel):
    """The text of a comment, in Markdown."""

    text: Text


class Done(BaseModel):
    """An empty answer."""


@router.get("/requests")
def list_requests(
    review: ReviewOf,
    visitor: VisitorOf,
    view: View = "open",
    text: Annotated[str, Query(max_length=256)] = "",
    target: Annotated[str, Query(max_length=210)] = "",
    model: Annotated[str, Query(max_length=256)] = "",
    version: Annotated[int, Query(ge=0, le=999_999_999)] = 0,
    sort: Sort = "newest",
    page_token: Annotated[str, Query(pattern=r"^[0-9]{0,9}$")] = "",
    page_size: Annotated[int, Query(ge=1, le=200)] = PAGE_SIZE,
) -> RequestPage:
    """List the requests on models that the caller may read."""
    key = _target(target).key if target else ""
    filters = Filters(text, key, model, version, sort)
    lists = RequestLists(review, visitor)
    page = lists.page(view, filters, int(page_token or 0), page_size)
    return RequestPage(
        requests=[RequestRow(**_row(row)) for row in page.rows],
        next_page_token="" if page.next_offset is None else str(page.next_offset),
    )


@router.post("/requests")
def create_request(body: NewRequest, review: ReviewOf, visitor: VisitorOf) -> RequestDetailsRow:
    """Ask for approval; MLflow requires the permission EDIT on the model."""
    target = _target(body.target)
    found = actions.ask(review, visitor, body.model, body.version, target, body.comment)
    return _details(review, visitor, found)


@router.get("/requests/{request_id}")
def get_request(request_id: RequestId, review: ReviewOf, visitor: VisitorOf) -> RequestDetailsRow:
    """Return a request with what it needs and what is met."""
    return _details(review, visitor, review.request(visitor, request_id))


@router.put("/requests/{request_id}/applied")
def apply_request(request_id: RequestId, review: ReviewOf, visitor: VisitorOf) -> RequestDetailsRow:
    """Make the approved change; MLflow requires the permission EDIT on the model."""
    request = review.request(visitor, request_id)
    return _details(review, visitor, actions.apply(review, visitor, request))


@router.get("/requests/{request_id}/comments")
def list_comments(request_id: RequestId, review: ReviewOf, visitor: VisitorOf) -> list[CommentRow]:
    """List the comments on a request's version and target, oldest first."""
    return _details(review, visitor, review.request(visitor, request_id)).comments


@router.post("/requests/{request_id}/comments")
def add_comment(
    request_id: RequestId, body: NewComment, review: ReviewOf, visitor: VisitorOf
) -> list[CommentRow]:
    """Comment on a request and return all comments."""
    request = review.request(visitor, request_id)
    actions.act(review, visitor, request, "comment", body.text)
    return _details(review, visitor, request).comments


@router.post("/requests/{request_id}/{action}")
def act_on_request(
    request_id: RequestId, action: Action, body: Reason, review: ReviewOf, visitor: VisitorOf
) -> RequestDetailsRow:
    """Vote on a request, cancel it, or promote its version without approval in an emergency."""
    request = review.request(visitor, request_id)
    if action == "break_glass":
        after = actions.break_glass(review, visitor, request, body.comment)
    else:
        after = actions.act(review, visitor, request, action, body.comment)
    return _details(review, visitor, after)


@router.patch("/comments/{comment_id}")
def edit_comment(
    comment_id: RequestId, body: NewComment, review: ReviewOf, visitor: VisitorOf
) -> Done:
    """Change the text of one's own comment."""
    actions.edit_comment(review, visitor, comment_id, body.text)
    return Done()


@router.delete("/comments/{comment_id}")
def delete_comment(comment_id: RequestId, review: ReviewOf, visitor: VisitorOf) -> Done:
    """Delete one's own comment."""
    actions.edit_comment(review, visitor, comment_id, None)
    return Done()


def _target(text: str) -> Target:
    try:
        return parse_target(text)
    except ValueError as exc:
        raise MlflowException(f"{exc}. Nothing was changed.", INVALID_PARAMETER_VALUE) from exc


def _row(row: ListedRequest) -> dict[str, Any]:
    request = row.request
    fields = {
        name: getattr(request, name) for name in RequestRow.model_fields if hasattr(request, name)
    }
    return fields | {
        "model": request.name,
        "target": request.target.tag,
        "state": request.state.value,
        "votes": [vars(vote) for vote in row.votes],
        "approvals": row.tally.have if row.tally else None,
        "approvals_needed": row.tally.need if row.tally else None,
        "waits_for_me": row.waits_for_viewer,
    }


def _details(review: Review, visitor: Visitor, request: Request) -> RequestDetailsRow:
    details = actions.details_of(review, visitor, request)
    policy = review.read(visitor, lambda _, policy: policy)
    listed = ListedRequest(
        details.request, details.votes, details.tally, visitor.user in details.may_approve
    )
    return RequestDetailsRow(
        **_row(listed),
        holder=details.holder.version if details.holder is not None else None,
        needs=[
            GroupRow(group=rule.group, count=rule.count, members=sorted(rule.members))
            for rule in details.rules
        ],
        may_approve=list(details.may_approve),
        basis=details.basis.kind.value,
        checks=[CheckRow(check=c.check, problems=list(c.problems)) for c in details.checks],
        frozen_until=details.frozen_until,
        policy_changed=details.policy_changed,
        files_changed=details.files_changed,
        comments=[
            CommentRow(**{name: comment[name] for name in CommentRow.model_fields})
            for comment in details.comments
        ],
        available_actions=list(details.actions_of(policy, visitor.user)),
    )
