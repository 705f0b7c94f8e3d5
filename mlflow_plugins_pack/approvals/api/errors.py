"""Answers errors as MLflow does: a status, and JSON with ``error_code`` and ``message``."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from mlflow_plugins_pack.approvals.api.visitors import SignInNeededError


class ErrorAnswer(BaseModel):
    """An error, as MLflow's clients read it.

    Attributes:
        error_code: MLflow's code, such as ``PERMISSION_DENIED``.
        message: what happened, what was not changed, what to do.
        pack_code: the approvals' own code, such as ``SELF_APPROVAL``, where there is one.
    """

    error_code: str
    message: str
    pack_code: str | None = None


ANSWERS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": meaning}
    for status, meaning in {
        400: "A parameter is missing or wrong.",
        401: "The caller is not signed in.",
        403: "MLflow's permissions or the policy do not allow it.",
        404: "It does not exist, or the caller may not read it.",
        409: "It was changed meanwhile, or its files are still being read.",
        413: "The body is too large.",
        503: "MLflow or its database does not answer; try again.",
    }.items()
}
"""The error answers of every endpoint, for the OpenAPI document."""


def answer_of(exc: MlflowException) -> JSONResponse:
    """Return the answer that stands for an error."""
    headers = {}
    if isinstance(exc, SignInNeededError) and exc.challenge:
        headers["WWW-Authenticate"] = exc.challenge
    fields = json.loads(exc.serialize_as_json())
    return JSONResponse(fields, exc.get_http_status_code(), headers)


def invalid(exc: RequestValidationError) -> MlflowException:
    """Return the error for parameters that do not fit; it does not repeat their values."""
    problems = "; ".join(
        f"{'.'.join(str(part) for part in error['loc'][1:]) or error['loc'][0]}: {error['msg']}"
        for error in exc.errors()[:5]
    )
    return MlflowException(
        f"The request is not valid ({problems}). Nothing was changed. See the OpenAPI document.",
        INVALID_PARAMETER_VALUE,
    )


async def on_mlflow_exception(_request: Request, exc: Exception) -> JSONResponse:
    """Answer an error of MLflow or of the pack."""
    assert isinstance(exc, MlflowException)  # noqa: S101 - registered for this class
    return answer_of(exc)


async def on_invalid(_request: Request, exc: Exception) -> JSONResponse:
    """Answer a request whose parameters do not fit."""
    assert isinstance(exc, RequestValidationError)  # noqa: S101 - registered for this class
    return answer_of(invalid(exc))


async def on_http_exception(_request: Request, exc: Exception) -> JSONResponse:
    """Answer an unknown path or method."""
    assert isinstance(exc, HTTPException)  # noqa: S101 - registered for this class
    code = "ENDPOINT_NOT_FOUND" if exc.status_code == 404 else "BAD_REQUEST"
    fields = {"error_code": code, "message": f"{exc.detail}. Nothing was changed."}
    return JSONResponse(fields, exc.status_code, exc.headers)
