"""Assembles the REST endpoints into one ASGI application."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from mlflow.exceptions import MlflowException
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from mlflow_plugins_pack import __version__
from mlflow_plugins_pack.approvals.api import databricks, errors, governance, requests
from mlflow_plugins_pack.approvals.api.protection import (
    BodyLimit,
    SameOrigin,
    SecurityHeaders,
    TextsOnly,
)
from mlflow_plugins_pack.approvals.api.review import Review

OPENAPI_PATH = f"{requests.PREFIX}/openapi.json"


def create_api(review: Review) -> FastAPI:
    """Return the application with the REST endpoints, and no pages."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        review.store  # noqa: B018 - a wrong policy or database shows at the start
        yield

    app = _App(
        title="MLflow approvals",
        version=__version__,
        openapi_url=OPENAPI_PATH,
        docs_url=None,  # their scripts come from another host
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        exception_handlers={
            MlflowException: errors.on_mlflow_exception,
            RequestValidationError: errors.on_invalid,
            HTTPException: errors.on_http_exception,
        },
    )
    app.state.review = review
    for router in (databricks.router, requests.router, governance.router):
        app.include_router(router)
    # The last one added is asked first.
    app.add_middleware(SameOrigin)
    app.add_middleware(BodyLimit)
    app.add_middleware(TextsOnly)
    return app


class _App(FastAPI):
    """FastAPI with the security headers on each answer, also on that to a fault of ours."""

    def build_middleware_stack(self) -> ASGIApp:
        return SecurityHeaders(super().build_middleware_stack())
