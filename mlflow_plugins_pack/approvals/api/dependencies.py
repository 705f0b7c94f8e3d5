"""What FastAPI passes to endpoints: the review app, the visitor, the texts of a body."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from pydantic import Field

from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.commands.runner import MAX_COMMENT_LENGTH

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_WITHOUT_NUL = r"^[^\x00]*$"  # not every database can hold the character NUL

Name = Annotated[str, Field(min_length=1, max_length=256, pattern=_WITHOUT_NUL)]
TargetText = Annotated[str, Field(min_length=1, max_length=210, pattern=_WITHOUT_NUL)]
Comment = Annotated[str, Field(max_length=MAX_COMMENT_LENGTH, pattern=_WITHOUT_NUL)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_COMMENT_LENGTH, pattern=_WITHOUT_NUL)]


def review_of(request: Request) -> Review:
    """Return the review app's parts."""
    found: Review = request.app.state.review
    return found


def visitor_of(request: Request) -> Visitor:
    """Return who makes the request.

    Raises:
        SignInNeededError: If they must sign in first.
    """
    return review_of(request).visitor_of(request)


def json_only(request: Request) -> None:
    """Refuse bodies of another type, which a form on another site's page could send.

    Raises:
        MlflowException: ``INVALID_PARAMETER_VALUE``.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method in _WITH_BODY and kind != "application/json":
        raise MlflowException(
            "The body must be JSON, with the header Content-Type: application/json. Nothing was "
            "changed.",
            INVALID_PARAMETER_VALUE,
        )


ReviewOf = Annotated[Review, Depends(review_of)]
VisitorOf = Annotated[Visitor, Depends(visitor_of)]
