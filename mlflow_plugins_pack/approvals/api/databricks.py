"""Endpoints that the Databricks SDK calls: transition requests and comments.

Paths, fields and values are those of ``databricks.sdk.service.ml.ModelRegistryAPI``
(https://docs.databricks.com/api/workspace/modelregistry). A vote through them counts like any
other: the transition is made once the policy is satisfied.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from pydantic import BaseModel, Field

from mlflow_plugins_pack.approvals.api import actions
from mlflow_plugins_pack.approvals.api.dependencies import (
    Comment,
    Name,
    ReviewOf,
    Text,
    VisitorOf,
    json_only,
)
from mlflow_plugins_pack.approvals.api.errors import ANSWERS
from mlflow_plugins_pack.approvals.api.mlflow_server import API
from mlflow_plugins_pack.approvals.api.review import Review, not_found, require_user
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.ledger.requests import Request, find_requests
from mlflow_plugins_pack.approvals.reports import request_details
from mlflow_plugins_pack.approvals.reports.request_details import RequestDetails

router = APIRouter(
    prefix=API,
    tags=["Databricks-compatible"],
    dependencies=[Depends(json_only)],
    responses=ANSWERS,
)

Stage = Literal["None", "Staging", "Production", "Archived"]
Version = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")]


class TransitionRequest(BaseModel):
    """A request for a transition."""

    available_actions: list[str]
    comment: str | None
    creation_timestamp: int
    to_stage: Stage
    user_id: str


class Activity(TransitionRequest):
    """What happened to a version."""

    activity_type: str
    from_stage: Stage
    id: str
    last_updated_timestamp: int


class CommentObject(BaseModel):
    """A comment."""

    available_actions: list[str]
    comment: str
    creation_timestamp: int
    id: str
    last_updated_timestamp: int
    user_id: str


class CreateTransitionRequest(BaseModel):
    """A request to make a version Staging, Production or Archived."""

    name: Name
    version: Version
    stage: Stage
    comment: Comment | None = None


class ApproveTransitionRequest(CreateTransitionRequest):
    """An approval."""

    archive_existing_versions: bool


class CreateComment(BaseModel):
    """A new comment on a version."""

    name: Name
    version: Version
    comment: Text


class UpdateComment(BaseModel):
    """The new text of a comment."""

    id: Name
    comment: Text


class RequestAnswer(BaseModel):
    """The answer to a new request."""

    request: TransitionRequest


class ActivityAnswer(BaseModel):
    """The answer to a vote."""

    activity: Activity


class RequestsAnswer(BaseModel):
    """The open requests of a version."""

    requests: list[Activity]


class CommentAnswer(BaseModel):
    """The answer with a comment."""

    comment: CommentObject


@router.post("/transition-requests/create")
def create_transition_request(
    body: CreateTransitionRequest, review: ReviewOf, visitor: VisitorOf
) -> RequestAnswer:
    """Ask for a transition; MLflow requires the permission EDIT on the model."""
    found = actions.ask(
        review, visitor, body.name, int(body.version), _target(body.stage), body.comment or ""
    )
    return RequestAnswer(request=TransitionRequest(**_activity(review, visitor, found)))


@router.get("/transition-requests/list")
def list_transition_requests(
    name: Annotated[Name, Query()],
    version: Annotated[Version, Query()],
    review: ReviewOf,
    visitor: VisitorOf,
) -> RequestsAnswer:
    """List the open requests of a version for a stage."""
    review.require_read(visitor, name)
    found = review.read(
        visitor,
        lambda s, _: find_requests(
            s, workspace=visitor.workspace, name=name, version=int(version), only_open=True
        ),
    )
    stages = [request for request in found if request.target.kind == "stage"]
    return RequestsAnswer(
        requests=[Activity(**_activity(review, visitor, request)) for request in stages]
    )


@router.post("/transition-requests/approve")
def approve_transition_request(
    body: ApproveTransitionRequest, review: ReviewOf, visitor: VisitorOf
) -> ActivityAnswer:
    """Approve the open request for a stage; the transition is made when the policy says so."""
    request = _open(review, visitor, body)
    if body.archive_existing_versions and not request.archive_existing:
        raise MlflowException(
            "archive_existing_versions is true, and the request was made without it, so no "
            "approval of it covers archiving other versions. Nothing was changed. Approve with "
            "archive_existing_versions false, and archive the others in calls of their own.",
            INVALID_PARAMETER_VALUE,
        )
    return _vote(review, visitor, request, "approve", body.comment, "APPROVED_REQUEST")


@router.post("/transition-requests/reject")
def reject_transition_request(
    body: CreateTransitionRequest, review: ReviewOf, visitor: VisitorOf
) -> ActivityAnswer:
    """Reject the open request for a stage."""
    request = _open(review, visitor, body)
    return _vote(review, visitor, request, "reject", body.comment, "REJECTED_REQUEST")


@router.delete("/transition-requests/delete")
def delete_transition_request(
    name: Annotated[Name, Query()],
    version: Annotated[Version, Query()],
    stage: Annotated[Stage, Query()],
    creator: Annotated[Name, Query()],
    review: ReviewOf,
    visitor: VisitorOf,
    comment: Annotated[Comment | None, Query()] = None,
) -> ActivityAnswer:
    """Cancel one's own request, until another user has voted on it."""
    request = _open(
        review, visitor, CreateTransitionRequest(name=name, version=version, stage=stage)
    )
    if request.requester != creator:
        raise not_found(f"a request of {creator!r} for version {version} of {name!r} and {stage}")
    return _vote(review, visitor, request, "cancel", comment, "CANCELLED_REQUEST")


@router.post("/comments/create")
def create_comment(body: CreateComment, review: ReviewOf, visitor: VisitorOf) -> CommentAnswer:
    """Comment on a version."""
    require_user(visitor)
    review.require_read(visitor, body.name)
    with review.acting(visitor) as store:
        comment_id = store.commands.comments.add_to_version(
            body.name, int(body.version), body.comment
        )
    return CommentAnswer(comment=_comment(review, visitor, comment_id))


@router.patch("/comments/update")
def update_comment(body: UpdateComment, review: ReviewOf, visitor: VisitorOf) -> CommentAnswer:
    """Change the text of one's own comment."""
    actions.edit_comment(review, visitor, body.id, body.comment)
    return CommentAnswer(comment=_comment(review, visitor, body.id))


@router.delete("/comments/delete")
def delete_comment(
    comment_id: Annotated[Name, Query(alias="id")], review: ReviewOf, visitor: VisitorOf
) -> dict[str, str]:
    """Delete one's own comment."""
    actions.edit_comment(review, visitor, comment_id, None)
    return {}


def _target(stage: str) -> Target:
    return Target("stage", stage)


def _open(review: Review, visitor: Visitor, body: CreateTransitionRequest) -> Request:
    """Return the open request that a call is about."""
    review.require_read(visitor, body.name)
    found = actions.newest(review, visitor, body.name, int(body.version), _target(body.stage))
    if found is None or not found.state.is_open:
        raise not_found(f"an open request for version {body.version} of {body.name!r}")
    return found


def _vote(
    review: Review,
    visitor: Visitor,
    request: Request,
    command: str,
    comment: str | None,
    activity_type: str,
) -> ActivityAnswer:
    after = actions.act(review, visitor, request, command, comment or "")
    fields = _activity(review, visitor, after)
    fields |= {"activity_type": activity_type, "comment": comment, "user_id": visitor.user}
    return ActivityAnswer(activity=Activity(**fields))


_ACTIONS = {
    "approve": "APPROVE_TRANSITION_REQUEST",
    "reject": "REJECT_TRANSITION_REQUEST",
    "cancel": "CANCEL_TRANSITION_REQUEST",
}


def _activity(review: Review, visitor: Visitor, request: Request) -> dict[str, Any]:
    now = clock.now_ms()

    def read(session: Any, policy: Any) -> tuple[RequestDetails, tuple[str, ...]]:
        details = request_details.read(session, policy, request, now)
        return details, details.actions_of(policy, visitor.user)

    details, allowed = review.read(visitor, read)
    version = details.version
    return {
        "activity_type": "REQUESTED_TRANSITION",
        "available_actions": [_ACTIONS[name] for name in allowed if name in _ACTIONS],
        "comment": request.comment,
        "creation_timestamp": request.created_at,
        "from_stage": version.stage if version is not None else "None",
        "id": request.id,
        "last_updated_timestamp": request.updated_at,
        "to_stage": request.stage or request.target.name,
        "user_id": request.requester,
    }


def _comment(review: Review, visitor: Visitor, comment_id: str) -> CommentObject:
    found = actions.comment_of(review, visitor, comment_id)
    is_own = found["author"] == visitor.user
    return CommentObject(
        available_actions=["EDIT_COMMENT", "DELETE_COMMENT"] if is_own else [],
        comment=found["text"],
        creation_timestamp=found["created_at"],
        id=found["id"],
        last_updated_timestamp=found["edited_at"] or found["created_at"],
        user_id=found["author"] or "",
    )
