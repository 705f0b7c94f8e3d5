"""With no policy that matches, every registry call answers as stock does and leaves the same rows.

The same story is told to a stock store and to ours, each on a database of its own, so that names,
numbers and orders can be compared as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.entities.webhook import WebhookEvent
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.abstract_store import AbstractStore
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore
from mlflow.utils.workspace_context import WorkspaceContext

from mlflow_plugins_pack.approvals.plugin import build_store
from tests.approvals.support.databases import SITES
from tests.support.acting import signed_in

POLICY = """
version: 1
groups: {leads: [bob]}
policies:
  - name: elsewhere
    match: {models: ["other-*"], prompts: ["other-*"]}
    targets: {aliases: [prod], stages: [Production]}
    approvals: [{group: leads}]
"""
OUT_OF_REACH = {
    # These speak to the tracking store or to the network, not to the registry's tables.
    "link_prompt_version_to_model",
    "link_prompt_version_to_run",
    "link_prompts_to_trace",
    "test_webhook",
}
_PASSING = ("time", "timestamp", "secret", "webhook_id")
_TABLES = (
    "registered_models",
    "registered_model_tags",
    "registered_model_aliases",
    "model_versions",
    "model_version_tags",
    "webhooks",
    "webhook_events",
)


class Telling:
    """Tells the story to one store, keeping what each call answered."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.answers: list[tuple[str, Any]] = []
        self.called: set[str] = set()

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.called.add(method)
            try:
                answer = getattr(self.store, method)(*arguments, **options)
            except MlflowException as exc:
                self.answers.append((method, (exc.error_code, exc.message.split("\n")[0])))
                return None
            self.answers.append((method, plain(answer)))
            return answer

        return call

    def rows(self) -> dict[str, list[str]]:
        found = {}
        with self.store.engine.connect() as connection:
            for table in _TABLES:
                rows = connection.execute(sa.text(f"SELECT * FROM {table}")).mappings()
                found[table] = sorted(
                    str({k: v for k, v in row.items() if not k.endswith(_PASSING)}) for row in rows
                )
        return found

    def workspaces(self) -> set[str]:
        tables = [name for name in _TABLES if name != "webhook_events"]
        with self.store.engine.connect() as connection:
            return {
                workspace
                for table in tables
                for workspace in connection.execute(
                    sa.text(f"SELECT workspace FROM {table}")
                ).scalars()
            }


def plain(value: Any) -> Any:
    """Return an answer as values that compare, without what differs by its nature."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        items = [plain(item) for item in value]
        # Stock gives what belongs to a model in whatever order the database has it.
        return items if hasattr(value, "token") else sorted(items, key=str)
    if hasattr(value, "__dict__"):
        kept = {k: plain(v) for k, v in vars(value).items() if not k.endswith(_PASSING)}
        return {"": type(value).__name__, **kept}
    return str(value)


def story(tell: Any) -> None:
    tag, flag = ModelVersionTag("k", "v"), RegisteredModelTag("a", "b")
    for name in ("m", "m", "n", "", "a/b", "x" * 300):
        tell.create_registered_model(name, [flag], "about")
    for number in range(4):
        tell.create_model_version("m", f"s3://bucket/{number}", tags=[tag], description="d")
    tell.create_model_version("m", "models:/m/1", run_id="r1", run_link="link")
    tell.create_model_version("nowhere", "s3://bucket/x")
    tell.copy_model_version(tell.get_model_version("m", 1), "copy")
    tell.copy_model_version(tell.get_model_version("m", 2), "copy")
    for alias, version in (("prod", 1), ("prod", "2"), ("Prod", 1), ("pröd", 1), ("v1", 1)):
        tell.set_registered_model_alias("m", alias, version)
    for alias, version in (("latest", 1), ("prod", 99), ("prod", "x"), ("***", 1), ("", 1)):
        tell.set_registered_model_alias("m", alias, version)
    tell.set_registered_model_alias("nowhere", "prod", 1)
    tell.get_model_version_by_alias("m", "prod")
    tell.get_model_version_by_alias("m", "gone")
    for version, stage, archive in (
        (1, "Production", False),
        (2, "production", True),
        (3, "Staging", False),
        (3, "Nowhere", False),
        (99, "Staging", False),
        (2, "None", True),
        (1, "Archived", False),
    ):
        tell.transition_model_version_stage("m", version, stage, archive)
    tell.get_latest_versions("m")
    tell.get_latest_versions("m", ["Staging"])
    tell.get_latest_versions("nowhere")
    for key, value in (("tests", "passed"), ("k", "other"), ("mlflow.prompt.text", "x")):
        tell.set_model_version_tag("m", 1, ModelVersionTag(key, value))
    tell.set_model_version_tag("m", 99, tag)
    tell.delete_model_version_tag("m", 1, "k")
    tell.delete_model_version_tag("m", 1, "gone")
    tell.delete_model_version_tag("m", 99, "k")
    tell.update_model_version("m", 1, "text")
    tell.update_model_version("m", 99, "text")
    tell.update_registered_model("m", "text")
    tell.update_registered_model("nowhere", "text")
    tell.set_registered_model_tag("m", RegisteredModelTag("c", "d"))
    tell.set_registered_model_tag("nowhere", RegisteredModelTag("c", "d"))
    tell.delete_registered_model_tag("m", "c")
    tell.delete_registered_model_tag("m", "c")
    tell.get_model_version_download_uri("m", 5)
    tell.get_model_version("m", 99)
    tell.get_registered_model("m")
    tell.search_registered_models()
    tell.search_registered_models("name LIKE 'm%'", max_results=1)
    tell.search_registered_models("nonsense")
    tell.search_model_versions("name = 'm'", max_results=2)
    tell.search_model_versions("run_id = 'r1'")
    tell.search_model_versions("tags.k = 'v'")

    tell.create_prompt("p", "about", {"team": "x"})
    for text in ("one", "two"):
        tell.create_prompt_version("p", text, "why", {"t": "v"})
    tell.set_prompt_alias("p", "prod", 1)
    tell.set_prompt_alias("p", "prod", 99)
    tell.get_prompt("p")
    tell.get_prompt("m")
    tell.get_prompt_version("p", 1)
    tell.get_prompt_version("p", 99)
    tell.get_prompt_version_by_alias("p", "prod")
    tell.search_prompts()
    tell.search_prompt_versions("p")
    tell.set_prompt_tag("p", "k", "v")
    tell.delete_prompt_tag("p", "k")
    tell.set_prompt_version_tag("p", 1, "k", "v")
    tell.set_prompt_version_tag("p", 1, "mlflow.prompt.text", "changed")
    tell.delete_prompt_version_tag("p", 1, "k")
    tell.delete_prompt_alias("p", "prod")
    tell.delete_prompt_version("p", 2)
    tell.delete_prompt("p")

    events = [WebhookEvent("model_version_alias", "created")]
    hook = tell.create_webhook("hook", "https://example.com/hook", events, description="d")
    tell.list_webhooks()
    tell.list_webhooks_by_event(events[0])
    tell.get_webhook("nowhere")
    if hook is not None:
        tell.get_webhook(hook.webhook_id)
        tell.update_webhook(hook.webhook_id, name="other")
        tell.delete_webhook(hook.webhook_id)

    tell.delete_registered_model_alias("m", "prod")
    tell.delete_registered_model_alias("m", "prod")
    tell.delete_registered_model_alias("m", "***")
    tell.delete_model_version("m", 2)
    tell.delete_model_version("m", 2)
    tell.delete_model_version("nowhere", 1)
    for new in ("renamed", "renamed", "n", "", "a/b"):
        tell.rename_registered_model("m", new)
    tell.rename_registered_model("renamed", "n")
    tell.delete_registered_model("n")
    tell.delete_registered_model("n")
    tell.create_registered_model("n")
    tell.create_model_version("n", "s3://bucket/again")


@pytest.fixture(scope="module", params=SITES)
def tellings(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_database: Callable[[str, Path], str],
) -> Iterator[tuple[Telling, Telling]]:
    folder = tmp_path_factory.mktemp("differential")

    kind, _, with_workspaces = request.param.partition("-")

    def new(name: str) -> str:
        (folder / name).mkdir()
        return mlflow_database(kind, folder / name)

    (folder / "policy.yaml").write_text(POLICY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(folder / "policy.yaml"))
        patch.setattr("socket.getaddrinfo", _public)
        if with_workspaces:
            patch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
        oracle = WorkspaceAwareSqlAlchemyStore if with_workspaces else SqlAlchemyStore
        stock, ours = oracle(new("stock")), build_store(f"approval-{new('ours')}")
        assert ours.supports_workspaces is stock.supports_workspaces is bool(with_workspaces)
        told = Telling(stock), Telling(ours)
        workspace = WorkspaceContext("team-a") if with_workspaces else contextlib.nullcontext()
        with workspace:
            for telling in told:
                with signed_in("alice"):
                    story(telling)
    yield told
    stock._dispose_engine()
    ours._dispose_engine()


_resolve = __import__("socket").getaddrinfo


def _public(host: Any, *arguments: Any, **options: Any) -> Any:
    """Resolve the webhook's example name without a name server."""
    return _resolve("93.184.215.14" if host == "example.com" else host, *arguments, **options)


def _is_database_failure(told: tuple[str, Any]) -> bool:
    return isinstance(told[1], tuple) and told[1][0] == "TEMPORARILY_UNAVAILABLE"


def test_every_answer_is_stocks(tellings: tuple[Telling, Telling]) -> None:
    stock, ours = tellings
    assert len(ours.answers) == len(stock.answers)
    for number, (mine, theirs) in enumerate(zip(ours.answers, stock.answers, strict=True)):
        if _is_database_failure(theirs) and _is_database_failure(mine):
            # Stock shows the statement's text here; no answer of the pack's has SQL in it.
            continue
        assert mine == theirs, f"call {number}"
    assert sum(isinstance(answer, tuple) for _, answer in stock.answers) > 20, "too few refusals"


def test_every_row_is_stocks(tellings: tuple[Telling, Telling]) -> None:
    stock, ours = (telling.rows() for telling in tellings)
    assert ours == stock
    assert sum(map(len, stock.values())) > 15


def test_the_story_makes_every_call(tellings: tuple[Telling, Telling]) -> None:
    """What a newer MLflow adds to the registry must be looked at, not passed over."""
    public = {
        name
        for kind in (AbstractStore, SqlAlchemyStore, WorkspaceAwareSqlAlchemyStore)
        for name in dir(kind)
        if not name.startswith("_") and callable(getattr(kind, name))
    }
    assert public - OUT_OF_REACH == tellings[0].called == tellings[1].called


def test_a_workspace_has_what_was_told_in_it(tellings: tuple[Telling, Telling]) -> None:
    of = {workspace for telling in tellings for workspace in telling.workspaces()}
    assert of == {"team-a" if tellings[0].store.supports_workspaces else "default"}


def test_nothing_is_recorded_about_it(tellings: tuple[Telling, Telling]) -> None:
    with tellings[1].store.engine.connect() as connection:
        for table in ("mpp_request", "mpp_grant", "mpp_audit", "mpp_outbox"):
            count = connection.execute(sa.text(f"SELECT COUNT(*) FROM {table}")).scalar()
            assert count == 0, table
