"""What of a visit MLflow is asked about: the workspace that is read, the credentials as sent."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.workspace_context import get_request_workspace
from starlette.requests import HTTPConnection

from mlflow_plugins_pack.approvals.api.mlflow_server import MlflowServer
from mlflow_plugins_pack.approvals.api.review import Review, Site
from mlflow_plugins_pack.approvals.api.visitors import WORKSPACE_HEADER, Visitor
from mlflow_plugins_pack.identity.settings import Identity
from mlflow_plugins_pack.review.visitor_client import VisitorClient


def _visit(query: str, header: str | None, *, has_workspaces: bool) -> tuple[str, set[str | None]]:
    """Return the workspace of a visit, and those that MLflow was asked about."""
    asked: set[str | None] = set()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.add(request.headers.get(WORKSPACE_HEADER))
        return httpx.Response(200, json={"user": {"username": "mallory"}})

    policy = SimpleNamespace(file=SimpleNamespace(identity=Identity()))
    policies = SimpleNamespace(current=lambda: policy)
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


@pytest.mark.parametrize("text", ["\u00e9", "\U0001f600", "\ufffd"])
def test_no_workspace_has_letters_beyond_ascii(text: str) -> None:
    with pytest.raises(MlflowException, match="does not exist"):
        _visit(f"workspace={quote(text)}", None, has_workspaces=True)


def test_credentials_arrive_as_they_were_sent() -> None:
    sent = b"theme=ol\xc3\xa9; session=1"
    got: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        got.extend(value for name, value in request.headers.raw if name.lower() == b"cookie")
        return httpx.Response(404, json={})

    server = MlflowServer("http://mlflow", httpx.MockTransport(answer))
    server.ask("GET", "/x", {"Cookie": sent.decode("latin-1")})
    assert got == [sent]


@pytest.mark.parametrize("model_id", ["\ufffd", "\x7f", "../users/current", "m?a=b", "", "a/b"])
def test_what_is_no_id_is_no_part_of_an_address(model_id: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request.url)

    review: Any = SimpleNamespace(server=MlflowServer("http://m", httpx.MockTransport(answer)))
    client = VisitorClient(review, Visitor(None, is_admin=False, credentials={}))
    with pytest.raises(MlflowException, match="There is no logged model"):
        client.get_logged_model(model_id)
    with pytest.raises(MlflowException, match="not an address"):
        review.server.ask("GET", "/a\x7f", {})


def test_visitors_at_once_act_in_their_own_workspaces() -> None:
    """Each ends while the next is in it, and none leaves a workspace to the process."""
    review = Review(SimpleNamespace, MlflowServer("http://mlflow"), Site(has_workspaces=True))
    entered, left = [threading.Event() for _ in "ab"], threading.Event()
    seen: list[str | None] = []

    def visit(number: int, until: threading.Event, done: threading.Event | None) -> None:
        with review.acting(Visitor(None, is_admin=False, credentials={}, workspace=f"w{number}")):
            entered[number].set()
            assert until.wait(10)
            seen.append(get_request_workspace())
        if done:
            done.set()

    first = threading.Thread(target=visit, args=(0, entered[1], left))
    first.start()
    assert entered[0].wait(10)
    second = threading.Thread(target=visit, args=(1, left, None))
    second.start()
    for thread in (first, second):
        thread.join()
    assert seen == ["w0", "w1"]
    assert get_request_workspace() is None
    assert "MLFLOW_WORKSPACE" not in os.environ
