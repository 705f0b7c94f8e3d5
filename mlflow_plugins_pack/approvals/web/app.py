"""The review app: REST endpoints, pages, their style sheet and script."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from mlflow.exceptions import MlflowException
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from mlflow_plugins_pack.approvals.api import errors
from mlflow_plugins_pack.approvals.api.app import create_api
from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.visitors import SignInNeededError
from mlflow_plugins_pack.approvals.domain.review_pages import ROOT
from mlflow_plugins_pack.approvals.web import (
    audit_page,
    health_page,
    inbox,
    model_page,
    policy_page,
    request_page,
)
from mlflow_plugins_pack.approvals.web.rendering import ADMIN_SECTION, Pages

_ROUTERS = (inbox, request_page, model_page, audit_page, policy_page, health_page)
SECTIONS = (
    ("Inbox", "/"),
    ("Models", "/models"),
    ("Audit log", "/audit"),
    ("Policy", "/policy"),
    (ADMIN_SECTION, "/health"),
)
"""The pages that every page links to."""
_TITLES = {401: "Sign in first", 403: "Not allowed", 404: "Not found", 503: "Try again"}


def create_app(
    review: Review,
    more_pages: Iterable[APIRouter] = (),
    more_sections: Iterable[tuple[str, str]] = (),
) -> FastAPI:
    """Return the review app.

    Args:
        review: Its parts.
        more_pages: Pages about what is not approvals.
        more_sections: Their names, and their paths below the app's own.
    """
    app = create_api(review)
    app.state.sections = (*SECTIONS[:2], *more_sections, *SECTIONS[2:])
    for router in (*(module.router for module in _ROUTERS), *more_pages):
        app.include_router(router)
    app.mount(f"{ROOT}/static", _Static(packages=[(__package__, "static")]))
    app.add_exception_handler(MlflowException, _on_mlflow_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)
    return app


class _Static(StaticFiles):
    """The style sheet and the script, which are not private."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers["Cache-Control"] = "public, max-age=300"
        return answer


def _is_page(request: Request) -> bool:
    path = request.url.path.removeprefix(str(request.scope.get("root_path", "")))
    return path.startswith(ROOT) and not path.startswith(f"{ROOT}/api/")


async def _on_mlflow_exception(request: Request, exc: Exception) -> Response:
    if not _is_page(request) or not isinstance(exc, MlflowException):
        return await errors.on_mlflow_exception(request, exc)
    challenge = exc.challenge if isinstance(exc, SignInNeededError) else ""
    headers = {"WWW-Authenticate": challenge} if challenge else {}
    return _page(request, exc.get_http_status_code(), exc.message, headers)


async def _on_invalid(request: Request, exc: Exception) -> Response:
    if not _is_page(request) or not isinstance(exc, RequestValidationError):
        return await errors.on_invalid(request, exc)
    return await _on_mlflow_exception(request, errors.invalid(exc))


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    if not _is_page(request) or not isinstance(exc, HTTPException):
        return await errors.on_http_exception(request, exc)
    return _page(request, exc.status_code, f"{exc.detail}.", dict(exc.headers or {}))


def _page(request: Request, status: int, message: str, headers: dict[str, str]) -> HTMLResponse:
    pages = Pages(request, request.app.state.review, None)
    title = _TITLES.get(status, "This did not work")
    return pages.page("error.html", status, headers, title=title, message=message)
