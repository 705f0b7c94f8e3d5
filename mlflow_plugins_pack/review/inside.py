"""Puts the review app in front of another MLflow app, in the same process.

Requests to the review app's own paths never reach the inner app, so none of its rules about unknown
routes matters. The review app asks the inner app who visits and what they may read, by calls that
go through all of its checks.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from importlib import metadata
from types import FunctionType
from typing import TYPE_CHECKING, Any

import httpx
from fastapi import FastAPI

from mlflow_plugins_pack.approvals.api.databricks import router as databricks
from mlflow_plugins_pack.approvals.api.mlflow_server import InProcessTransport, MlflowServer
from mlflow_plugins_pack.approvals.api.review import Review, Site
from mlflow_plugins_pack.approvals.domain.review_pages import ROOT
from mlflow_plugins_pack.errors import ConfigurationError
from mlflow_plugins_pack.review.serving import create_review_app
from mlflow_plugins_pack.settings import REVIEW_MLFLOW_URL

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from mlflow_plugins_pack.approvals.store.store import ApprovalStoreMixin

_OWN = ("approvals", "approvals-basic-auth")


def wrapped(name: str) -> Any:
    """Return an MLflow app with the review app in front of it, as the server program needs it.

    Args:
        name: The name of the inner app's entry point; empty: MLflow's own app.

    Raises:
        ConfigurationError: If there is no such app.
    """
    from mlflow.environment_variables import _MLFLOW_SGI_NAME

    inner = _inner_app(name)
    prefix = _static_prefix()
    if _MLFLOW_SGI_NAME.get() == "uvicorn":
        transport = InProcessTransport(inner)
        return _AsgiApp(inner, _review_app(transport, prefix), prefix, transport)
    from a2wsgi import ASGIMiddleware

    review = _review_app(httpx.WSGITransport(inner, raise_app_exceptions=False), prefix)
    return _WsgiApp(inner, ASGIMiddleware(review), prefix)  # type: ignore[arg-type]


def _inner_app(name: str) -> Any:
    from mlflow.environment_variables import _MLFLOW_SGI_NAME
    from mlflow.server import app as flask_app

    if name in _OWN:
        raise ConfigurationError(
            f"MLFLOW_PACK_REVIEW_INNER_APP is {name!r}, which is the review app itself. Nothing "
            "was started. Name the app that signs users in, such as basic-auth."
        )
    found: Any = flask_app
    if name:
        entries = metadata.entry_points(group="mlflow.app", name=name)
        if not entries:
            known = sorted({entry.name for entry in metadata.entry_points(group="mlflow.app")})
            raise ConfigurationError(
                f"MLflow has no app {name!r}. Nothing was started. Set "
                f"MLFLOW_PACK_REVIEW_INNER_APP to one of {', '.join(known)}, and install the "
                "package that brings it."
            )
        found = next(iter(entries)).load()
        found = found() if isinstance(found, FunctionType) else found
    if _MLFLOW_SGI_NAME.get() == "uvicorn" and not isinstance(found, FastAPI):
        from mlflow.server.fastapi_app import create_fastapi_app

        return create_fastapi_app(found)
    return found


def _static_prefix() -> str:
    from mlflow.server.handlers import STATIC_PREFIX_ENV_VAR

    return os.environ.get(STATIC_PREFIX_ENV_VAR, "").rstrip("/")


def _review_app(transport: httpx.BaseTransport, prefix: str) -> FastAPI:
    from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES

    site = Site(
        mlflow_url=REVIEW_MLFLOW_URL.get().rstrip("/"),
        has_workspaces=bool(MLFLOW_ENABLE_WORKSPACES.get()),
        has_stores=True,
    )
    server = MlflowServer(f"http://localhost{prefix}", transport)
    return create_review_app(Review(_store, server, site))


def _store() -> ApprovalStoreMixin:
    """Return this server's own registry store.

    Raises:
        ConfigurationError: If it enforces no approvals.
    """
    from mlflow.server import handlers

    from mlflow_plugins_pack.approvals.store.store import ApprovalStoreMixin

    store = handlers._get_model_registry_store()
    if not isinstance(store, ApprovalStoreMixin):
        raise ConfigurationError(
            "This server's registry has no approvals, so it has no requests to show. Nothing was "
            "read. Start it with --registry-store-uri approval- in front of the database's URI."
        )
    return store


def _is_own(path: str, prefix: str) -> bool:
    """Return whether a path is one of the review app's."""
    inside = path[len(prefix) :] if path.startswith(f"{prefix}/") else ""
    return inside == ROOT or inside.startswith((f"{ROOT}/", *_DATABRICKS))


_DATABRICKS = tuple(f"{databricks.prefix}/{name}/" for name in ("transition-requests", "comments"))


class _AsgiApp:
    """The two apps under uvicorn."""

    def __init__(
        self, inner: Any, review: FastAPI, prefix: str, transport: InProcessTransport
    ) -> None:
        self._inner, self._review = inner, review
        self._prefix, self._transport = prefix, transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request by the app that its path belongs to."""
        if scope["type"] != "http" or not _is_own(scope["path"], self._prefix):
            await self._inner(scope, receive, send)
            return
        self._transport.loop = asyncio.get_running_loop()
        root = f"{scope.get('root_path', '')}{self._prefix}"
        await self._review({**scope, "root_path": root}, receive, send)


class _WsgiApp:
    """The two apps under gunicorn or waitress."""

    def __init__(self, inner: Any, review: Callable[..., Iterable[bytes]], prefix: str) -> None:
        self._inner, self._review, self._prefix = inner, review, prefix

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request by the app that its path belongs to."""
        path = str(environ.get("PATH_INFO", ""))
        if not _is_own(path, self._prefix):
            found: Iterable[bytes] = self._inner(environ, start_response)
            return found
        if not _is_address(environ):
            start_response("400 Bad Request", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"This is not an address: it has bytes that are not UTF-8, or not escaped.\n"]
        script = f"{environ.get('SCRIPT_NAME', '')}{self._prefix}"
        inside = {**environ, "SCRIPT_NAME": script, "PATH_INFO": path[len(self._prefix) :]}
        return self._review(inside, start_response)


def _is_address(environ: dict[str, Any]) -> bool:
    """Return whether a path and a query can be passed on; WSGI has their bytes as Latin-1."""
    try:
        str(environ.get("QUERY_STRING", "")).encode("ascii")
        str(environ.get("PATH_INFO", "")).encode("latin-1").decode()
    except UnicodeError:
        return False
    return True
