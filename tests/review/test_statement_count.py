"""Each page takes as many statements and calls to MLflow for many requests as for a few."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from benchmarks.review_rows import Filled, fill
from mlflow_plugins_pack.approvals.api.mlflow_server import MlflowServer
from mlflow_plugins_pack.approvals.api.review import Review, Site
from mlflow_plugins_pack.approvals.store.store import open_store
from mlflow_plugins_pack.review.serving import create_review_app, stores_environment
from tests.approvals.support.review_sites import ReviewSite, password_of

Visit = Callable[..., tuple[list[str], list[str], str]]
FEW, MANY = {"models": 4, "requests": 4, "runs": 8}, {"models": 30, "requests": 60, "runs": 90}


class CountingServer(MlflowServer):
    """Counts the calls to MLflow."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.calls: list[str] = []

    def ask(self, method: str, path: str, *arguments: Any, **options: Any) -> httpx.Response:
        self.calls.append(f"{method} {path}")
        return super().ask(method, path, *arguments, **options)

    def text(self, path: str, *arguments: Any) -> str | None:
        self.calls.append(f"GET {path}")
        return super().text(path, *arguments)


@pytest.fixture(scope="module")
def filled(review: ReviewSite) -> dict[str, Filled]:
    database, artifacts = f"sqlite:///{review.folder / 'mlflow.db'}", review.folder / "artifacts"
    return {
        prefix: fill(database, artifacts, prefix=prefix, **size)
        for prefix, size in (("few", FEW), ("many", MANY))
    }


@pytest.fixture
def count(review: ReviewSite, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visit]:
    """Return what a page takes, its statements and calls with nothing remembered, and its text."""
    from mlflow.server import handlers
    from mlflow.tracking._tracking_service import utils

    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(review.folder / "policy.yaml"))
    database, artifacts = f"sqlite:///{review.folder / 'mlflow.db'}", review.folder / "artifacts"
    store = open_store(f"approval-{database}")  # before this is a server, which works by itself
    for name, value in stores_environment(database, str(artifacts)).items():
        monkeypatch.setenv(name, value)
    for name in ("_tracking_store", "_artifact_repo"):
        monkeypatch.setattr(handlers, name, None)
    # Opening the store sets it.
    monkeypatch.setattr(utils, "_tracking_uri", utils._tracking_uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    said: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        # The policy is looked at every few seconds, and connections are set up anywhere.
        if "mpp_active_policy" not in statement and not statement.startswith("PRAGMA"):
            said.append(" ".join(statement.split()))

    def visit(
        path: str, has_stores: bool = True, user: str = "bob"
    ) -> tuple[list[str], list[str], str]:
        server = CountingServer(review.mlflow.url)
        app = create_review_app(Review(lambda: store, server, Site(has_stores=has_stores)))
        client = TestClient(app)
        said.clear()
        answer = client.get(f"/approvals{path}", auth=password_of(user))
        server._client.close()
        assert answer.status_code == 200, answer.text
        return list(said), server.calls, re.sub(r'value="[\w-]{20,}"', "", answer.text)

    engines = (store.engine, handlers._get_tracking_store().engine)
    for engine in engines:
        sa.event.listen(engine, "before_cursor_execute", note)
    yield visit
    for engine in engines:
        engine.dispose()


PAGES: dict[str, tuple[Callable[[str, Filled], str], int, int]] = {
    "waiting": (lambda prefix, _: f"/?view=waiting&text={prefix}", 6, 3),
    "open": (lambda prefix, _: f"/?view=open&text={prefix}", 6, 3),
    "history": (lambda prefix, _: f"/?view=history&text={prefix}", 6, 3),
    "request": (lambda _, made: f"/requests/{made.requests[0]}", 12, 6),
    "model": (lambda prefix, _: f"/models/model?name={prefix}-0001", 6, 4),
    "audit": (lambda _, made: f"/audit?model={made.models[1]}", 4, 2),
}
"""The path of each page, and at most how many statements and calls it takes."""

_WRITTEN = re.compile(r'<div class="notice warn">[^<]*files were written since[^<]*</div>')


@pytest.mark.parametrize("page", PAGES)
def test_many_take_no_more_than_a_few(
    page: str,
    filled: dict[str, Filled],
    count: Visit,
) -> None:
    path, most_statements, most_calls = PAGES[page]
    few, many = (count(path(prefix, made)) for prefix, made in filled.items())
    for number in (0, 1):
        told = "\n".join([*few[number], "-", *many[number]])
        assert len(few[number]) == len(many[number]), told
    assert len(many[0]) <= most_statements, "\n".join(many[0])
    assert len(many[1]) <= most_calls, "\n".join(many[1])


def told_twice(count: Visit, path: str, user: str) -> str:
    """Return the text of a page, which is the same with the server's stores and without.

    But for one notice: only who has the stores sees whether files were written lately.
    """
    _, calls, direct = count(path, user=user)
    _, more_calls, served = count(path, has_stores=False, user=user)
    assert _WRITTEN.sub("", direct) == _WRITTEN.sub("", served)
    assert len(calls) <= len(more_calls)
    return direct


def test_the_stores_tell_what_the_server_tells(filled: dict[str, Filled], count: Visit) -> None:
    told = told_twice(count, f"/requests/{filled['many'].requests[1]}", "bob")
    for text in ("requirements.txt", "<polyline", "scikit-learn", "input amount"):
        assert text in told


def test_files_of_a_run_that_may_not_be_read_are_not_listed(
    review: ReviewSite, filled: dict[str, Filled], count: Visit
) -> None:
    review.grant("mallory", filled["many"].models[2], "READ")
    told = told_twice(count, f"/requests/{filled['many'].requests[2]}", "mallory")
    for text in ("requirements.txt", "<polyline", "weights"):
        assert text not in told
    assert "input amount" in told  # of MLmodel, which is the version's


def test_who_reads_a_prompt_reads_no_files_of_its_versions(
    review: ReviewSite, filled: dict[str, Filled], count: Visit
) -> None:
    name = filled["many"].models[3]
    with contextlib.closing(sqlite3.connect(review.folder / "mlflow.db")) as database, database:
        database.execute(
            "INSERT INTO registered_model_tags (key, value, name, workspace) VALUES (?, ?, ?, ?)",
            ("mlflow.prompt.is_prompt", "true", name, "default"),
        )
    review.grant("mallory", name, "READ", kind="prompt")
    told = told_twice(count, f"/requests/{filled['many'].requests[3]}", "mallory")
    assert "please look at" in told
    for text in ("requirements.txt", "<polyline", "weights", "amount"):
        assert text not in told
