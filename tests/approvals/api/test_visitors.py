"""The workspace of a visit: the one that is read is the one that MLflow is asked about."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.requests import HTTPConnection

from mlflow_plugins_pack.approvals.api.mlflow_server import MlflowServer
from mlflow_plugins_pack.approvals.api.review import Review, Site
from mlflow_plugins_pack.approvals.api.visitors import WORKSPACE_HEADER
from mlflow_plugins_pack.identity.settings import Identity


def _visit(query: str, header: str | None, *, has_workspaces: bool) -> tuple[str, set[str | None]]:
    """Return the workspace of a visit, and those that MLflow was asked about."""
    asked: set[str | None] = set()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.add(request.headers.get(WORKSPACE_HEADER))
        return httpx.Response(200, json={"user": {"username": "mallory"}})

    policies = SimpleNamespace(current=lambda: SimpleNamespace(file=file))
    file = SimpleNamespace(identity=Identity())
    store: Any = SimpleNamespace(governance=SimpleNamespace(policies=policies))
    server = MlflowServer("http://mlflow", httpx.MockTransport(answer))
    review = Review(lambda: store, server, Site(has_workspaces=has_workspaces))
    sent = {} if header is None else {WORKSPACE_HEADER: header}
    headers = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
    scope = {"type": "http", "query_string": query.encode(), "headers": headers, "client": None}
    visitor = review.visitor_of(HTTPConnection(scope))
    review.may_read(visitor, "m")
    return visitor.workspace, asked


@pytest.mark.parametrize(
    ("query", "header", "workspace"),
    [
        ("", None, "default"),
        ("workspace=team", None, "team"),
        ("", "team", "team"),
        ("workspace=default", "team", "default"),
        ("workspace=other", "team", "other"),
        ("workspace=", "team", "team"),
        ("workspace=default&workspace=team", "other", "team"),
    ],
)
def test_mlflow_is_asked_about_the_workspace_that_is_read(
    query: str, header: str | None, workspace: str
) -> None:
    assert _visit(query, header, has_workspaces=True) == (workspace, {workspace})


def test_without_workspaces_none_is_named() -> None:
    assert _visit("workspace=team", "team", has_workspaces=False) == ("default", {None})
