"""Database guards: a stock client or raw SQL on the database itself is refused, all else works."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException
from mlflow.prompt.constants import IS_PROMPT_TAG_KEY, PROMPT_TEXT_TAG_KEY
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore
from mlflow.utils.workspace_context import WorkspaceContext

from mlflow_plugins_pack.approvals.database import schema
from mlflow_plugins_pack.approvals.guards import install, triggers
from mlflow_plugins_pack.approvals.plugin import build_store
from mlflow_plugins_pack.approvals.policy.parse import parse_policy
from mlflow_plugins_pack.approvals.reports import doctor
from mlflow_plugins_pack.cli.main import cli
from tests.approvals.support.bench import Bench
from tests.approvals.support.databases import DATABASES, new_like_mysql
from tests.support.acting import signed_in

pytestmark = pytest.mark.filterwarnings("ignore:.*transition_model_version_stage:FutureWarning")

POLICY = """
version: 1
groups: {leads: [bob]}
policies:
  - name: open
    match: {models: ["gov-open-*"]}
    targets: {aliases: [other]}
    approvals: [{group: leads}]
  - name: prod
    match: {models: ["gov-*", "100%_sure?"], exclude: ["*-sandbox"], prompts: ["say-*"]}
    targets: {aliases: [prod, stable], stages: [Production]}
    approvals: [{group: leads}]
  - name: teams
    match: {models: ["ws-*"], workspaces: ["team-*"]}
    targets: {aliases: [prod]}
    approvals: [{group: leads}]
"""


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["approvals", *arguments])


class Guarded(Bench):
    """A registry with guards: our store, a stock client of the same database, and raw SQL."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        done = call("guards", "install", "--registry-store-uri", self.uri)
        assert done.exit_code == 0, done.output
        self.stock = SqlAlchemyStore(url)
        self.engine = sa.create_engine(url, poolclass=sa.NullPool)

    def run(self, statement: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), values)

    def alias(self, name: str, alias: str, version: int) -> None:
        """Set an alias past the stock client, which in MariaDB may not even look for it."""
        if "latin1" in self.letters():
            alias = "stäble"
        columns = "(workspace, name, alias, version)"
        statement = f"INSERT INTO registered_model_aliases {columns} VALUES ('default', :n, :a, :v)"
        self.run(statement, n=name, a=alias, v=version)

    def letters(self) -> str:
        """Return the character set of the database, where one may choose."""
        if self.engine.dialect.name != "mysql":
            return ""
        with self.engine.connect() as connection:
            return str(connection.execute(sa.text("SELECT @@character_set_database")).scalar())

    def state(self) -> list[Any]:
        """Everything that decides what is served."""
        with self.engine.connect() as connection:
            return [
                sorted(map(tuple, connection.execute(sa.text(query)).all()))
                for query in (
                    "SELECT workspace, name, alias, version FROM registered_model_aliases",
                    "SELECT name, version, current_stage, source FROM model_versions",
                    "SELECT name FROM registered_models",
                )
            ]


@pytest.fixture(scope="module", params=[*DATABASES, "mysql"])
def guarded(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_database: Callable[[str, Path], str],
) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guards")
    if request.param == "mysql":
        url = new_like_mysql(request.getfixturevalue("mariadb"))
    else:
        url = mlflow_database(request.param, folder)
    (folder / "policy.yaml").write_text(POLICY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(folder / "policy.yaml"))
        yield Guarded(url, folder)


@pytest.fixture(autouse=True)
def _policy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "guarded" in request.fixturenames:
        folder = request.getfixturevalue("guarded").folder
        monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(folder / "policy.yaml"))


@contextlib.contextmanager
def refused(guarded: Guarded) -> Iterator[None]:
    before = guarded.state()
    with pytest.raises((MlflowException, sa.exc.IntegrityError), match="mpp_guard: ") as caught:
        yield
    if isinstance(caught.value, MlflowException):
        assert caught.value.get_http_status_code() == 400
    assert guarded.state() == before


def test_a_stock_client_of_the_database_is_refused(guarded: Guarded) -> None:
    one, two = guarded.version("gov-a"), guarded.version("gov-a")
    guarded.promote("gov-a", one)
    guarded.promote("gov-a", one, "stage:Production")
    client = MlflowClient(tracking_uri=guarded.url, registry_uri=guarded.url)
    for attack in (
        lambda: client.set_registered_model_alias("gov-a", "prod", two),
        lambda: client.set_registered_model_alias("gov-a", "Prod", two),
        lambda: client.set_registered_model_alias("gov-a", "pröd", two),
        lambda: guarded.alias("gov-a", "ſtable", two),
        lambda: client.delete_registered_model_alias("gov-a", "prod"),
        lambda: client.transition_model_version_stage("gov-a", two, "Production"),
        lambda: client.transition_model_version_stage("gov-a", two, "Production", True),
        lambda: client.transition_model_version_stage("gov-a", one, "Archived"),
        lambda: client.delete_model_version("gov-a", one),
        lambda: client.delete_registered_model("gov-a"),
        lambda: client.rename_registered_model("gov-a", "elsewhere"),
    ):
        with refused(guarded):
            attack()
    # Unprotected targets of the same model can be changed as before.
    client.set_registered_model_alias("gov-a", "dev", two)
    client.transition_model_version_stage("gov-a", two, "Staging")
    client.set_model_version_tag("gov-a", one, "note", "fine")
    client.update_model_version("gov-a", one, "about")
    client.delete_model_version("gov-a", two)


def test_a_new_model_cannot_take_a_protected_name(guarded: Guarded) -> None:
    stock = guarded.stock
    stock.create_registered_model("gov-fresh")
    stock.create_model_version("gov-fresh", "s3://bucket/evil")
    with refused(guarded):
        stock.set_registered_model_alias("gov-fresh", "prod", 1)
    stock.create_registered_model("free-rider")
    stock.create_model_version("free-rider", "s3://bucket/evil")
    stock.set_registered_model_alias("free-rider", "prod", 1)
    with refused(guarded):
        stock.rename_registered_model("free-rider", "gov-rider")
    for workspace in ("team-b",):
        statement = "UPDATE registered_models SET workspace = :w WHERE name = 'gov-fresh'"
        with refused(guarded):
            guarded.run(statement, w=workspace)


ATTACKS = [
    "UPDATE registered_model_aliases SET version = {two} WHERE name = '{name}'",
    "UPDATE registered_model_aliases SET alias = 'gone' WHERE name = '{name}' AND alias = 'prod'",
    "UPDATE registered_model_aliases SET alias = 'prod' WHERE name = '{name}' AND alias = 'dev'",
    "DELETE FROM registered_model_aliases WHERE name = '{name}' AND alias = 'prod'",
    "UPDATE model_versions SET current_stage = 'Production' WHERE name = '{name}'",
    "UPDATE model_versions SET source = 's3://evil' WHERE name = '{name}' AND version = {one}",
    "UPDATE model_versions SET storage_location = 'x' WHERE name = '{name}' AND version = {one}",
    "UPDATE model_versions SET run_id = 'x' WHERE name = '{name}'",
    "DELETE FROM model_versions WHERE name = '{name}' AND version = {one}",
    (
        "INSERT INTO model_versions (workspace, name, version, current_stage) "
        "VALUES ('default', '{name}', 99, 'Production')"
    ),
    "UPDATE registered_models SET name = 'x' WHERE name = '{name}'",
    "UPDATE registered_models SET workspace = 'x' WHERE name = '{name}'",
    "DELETE FROM registered_models WHERE name = '{name}'",
]


@pytest.fixture(scope="module")
def held(guarded: Guarded) -> dict[str, Any]:
    """A model whose version one is in production by approval."""
    name = "gov-held"
    one, two = guarded.version(name), guarded.version(name)
    guarded.promote(name, one)
    guarded.store.set_registered_model_alias(name, "dev", two)
    return {"name": name, "one": one, "two": two}


@pytest.mark.parametrize("attack", ATTACKS)
def test_raw_sql_is_refused(guarded: Guarded, held: dict[str, Any], attack: str) -> None:
    with refused(guarded):
        guarded.run(attack.format(**held))


def test_replacing_rows_is_refused(guarded: Guarded, held: dict[str, Any]) -> None:
    dialect = guarded.engine.dialect.name
    verb = {"sqlite": "INSERT OR REPLACE", "mysql": "REPLACE"}.get(dialect, "INSERT")
    version = (
        "INTO model_versions (workspace, name, version, current_stage, source) "
        "VALUES ('default', '{name}', {one}, 'None', 's3://evil')"
    )
    alias = (
        "INTO registered_model_aliases (workspace, name, alias, version) "
        "VALUES ('default', '{name}', 'prod', {two})"
    )
    if dialect == "postgresql":
        version += " ON CONFLICT (workspace, name, version) DO UPDATE SET source = excluded.source"
        alias += " ON CONFLICT (workspace, name, alias) DO UPDATE SET version = excluded.version"
    for statement in (version, alias):
        with refused(guarded):
            guarded.run(f"{verb} {statement}".format(**held))


def test_the_text_of_a_prompt_in_production_is_fixed(guarded: Guarded) -> None:
    one, two = (guarded.version("say-hello", prompt=True) for _ in range(2))
    guarded.promote("say-hello", one)
    text = ModelVersionTag(PROMPT_TEXT_TAG_KEY, "evil words")
    with refused(guarded):
        guarded.stock.set_model_version_tag("say-hello", one, text)
    with refused(guarded):
        guarded.stock.delete_model_version_tag("say-hello", one, PROMPT_TEXT_TAG_KEY)
    with refused(guarded):
        other = ModelVersionTag("_mlflow_prompt_model_config", "{}")
        guarded.stock.set_model_version_tag("say-hello", one, other)
    with refused(guarded):
        guarded.stock.set_registered_model_alias("say-hello", "prod", two)
    runs = ModelVersionTag("mlflow.prompt.associatedRunIds", "abc")
    guarded.stock.set_model_version_tag("say-hello", one, runs)
    guarded.stock.set_model_version_tag("say-hello", two, text)


def test_a_policy_of_some_workspaces_guards_these(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    stock = WorkspaceAwareSqlAlchemyStore(guarded.url)
    for workspace in ("default", "steam-a", "team-a"):
        with WorkspaceContext(workspace):
            stock.create_registered_model("ws-1")
            stock.create_model_version("ws-1", "s3://bucket/x")
            stock.set_registered_model_alias("ws-1", "dev", 1)
            if workspace == "team-a":
                with refused(guarded):
                    stock.set_registered_model_alias("ws-1", "prod", 1)
            else:
                stock.set_registered_model_alias("ws-1", "prod", 1)
    statement = "UPDATE registered_models SET workspace = 'team-b' WHERE workspace = 'steam-a'"
    with refused(guarded):
        guarded.run(statement)
    for workspace in ("steam-a", "team-a"):  # a store without workspaces opens none of these
        with WorkspaceContext(workspace):
            stock.delete_registered_model("ws-1")
    stock._dispose_engine()


def test_a_prompt_stays_a_prompt(guarded: Guarded) -> None:
    """Were it called a model, the policy of prompts would no longer be about its alias."""
    version = guarded.version("say-flag", prompt=True)
    table, where = "registered_model_tags", "WHERE name = 'say-flag'"
    key = "`key`" if guarded.engine.dialect.name == "mysql" else "key"
    for statement in (
        f"DELETE FROM {table} {where}",
        f"UPDATE {table} SET value = 'false' {where}",
        f"UPDATE {table} SET {key} = 'x' {where}",
        (
            f"INSERT INTO {table} (workspace, name, {key}, value) "
            f"VALUES ('default', 'say-other', '{IS_PROMPT_TAG_KEY}', 'false')"
        ),
    ):
        with refused(guarded):
            guarded.run(statement)
    with refused(guarded):
        guarded.stock.delete_registered_model_tag("say-flag", IS_PROMPT_TAG_KEY)
    guarded.run(f"UPDATE {table} SET value = 'TRUE' WHERE name = 'free-x'")
    with signed_in("erin"):
        for value in ("true", "false"):
            tags = [RegisteredModelTag(IS_PROMPT_TAG_KEY, value)]
            guarded.store.create_registered_model(f"say-{value}", tags)
            guarded.store.delete_registered_model(f"say-{value}")
        guarded.store.delete_model_version("say-flag", version)


@pytest.mark.parametrize(
    ("name", "alias", "is_protected"),
    [
        ("gov-x-sandbox", "prod", False),
        ("ungoverned", "prod", False),
        ("gov-open-1", "prod", True),  # an earlier policy governs it too, with another target
        ("gov-open-1", "other", True),
        ("GOV-Loud", "prod", True),
        ("100%_sure!", "prod", True),
        ("100%_sure", "prod", False),
        ("100 per_sure!", "prod", False),
        ("modèle", "dev", False),
        ("modèle", "prod", True),  # SQL cannot fold these: refused rather than missed
    ],
)
def test_guards_read_the_policy_as_the_server_does(
    guarded: Guarded, name: str, alias: str, is_protected: bool
) -> None:
    with contextlib.suppress(MlflowException):
        guarded.stock.create_registered_model(name)
    version = int(guarded.stock.create_model_version(name, "s3://bucket/x").version)

    def set_alias() -> None:
        guarded.stock.set_registered_model_alias(name, alias, version)

    if is_protected:
        with refused(guarded):
            set_alias()
    else:
        set_alias()
    if name == "modèle":
        guarded.store.set_registered_model_alias(name, "prod", version)  # the server sees exactly


def test_the_server_goes_on_as_before(guarded: Guarded) -> None:
    one, two = guarded.version("gov-day"), guarded.version("gov-day")
    guarded.promote("gov-day", one)
    guarded.promote("gov-day", two)
    guarded.promote("gov-day", one, "stage:Production")
    with signed_in("erin"), pytest.raises(MlflowException, match="APPROVAL_REQUIRED"):
        guarded.store.delete_registered_model_alias("gov-day", "prod")
    with signed_in("bob"):
        tag = ModelVersionTag("approvals.approve", "prod")
        guarded.store.set_model_version_tag("gov-day", two, tag)
        guarded.store.delete_registered_model_alias("gov-day", "prod")
        guarded.store.delete_model_version("gov-day", two)
    guarded.version("free-day")
    guarded.store.rename_registered_model("free-day", "gov-evening")
    guarded.store.delete_registered_model("gov-evening")
    with guarded.engine.connect() as connection:
        assert install.status(connection).open_models == ()


def test_a_changed_policy_reaches_the_guards(guarded: Guarded, monkeypatch: Any) -> None:
    from mlflow_plugins_pack.approvals.policy import source as policy_source

    monkeypatch.setattr(policy_source, "_LOOK_AGAIN_SECONDS", 0.0)
    path = guarded.folder / "policy.yaml"
    path.write_text(POLICY.replace("gov-*", "late-*"))
    try:
        done = call("guards", "status", "--registry-store-uri", guarded.url)
        assert done.exit_code == 1
        assert "is in force" in done.output
        guarded.store._transactions.write(lambda session: None)
        guarded.stock.create_registered_model("late-1")
        guarded.stock.create_model_version("late-1", "s3://bucket/x")
        with refused(guarded):
            guarded.stock.set_registered_model_alias("late-1", "prod", 1)
    finally:
        path.write_text(POLICY)
        guarded.store._transactions.write(lambda session: None)
    assert call("guards", "status", "--registry-store-uri", guarded.url).exit_code == 0


def test_an_opened_guard_is_found(guarded: Guarded) -> None:
    guarded.run("INSERT INTO mpp_guard_exemption (workspace, name) VALUES ('default', 'gov-a')")
    findings = {f.subject: f for f in doctor.check(f"approval-{guarded.url}")}
    assert findings["database guards"].level == "error"
    assert "a committed row for 'gov-a'" in findings["database guards"].message
    assert call("guards", "install", "--registry-store-uri", guarded.url).exit_code == 0
    findings = {f.subject: f for f in doctor.check(f"approval-{guarded.url}")}
    assert findings["database guards"].level == "ok"


def test_a_migration_that_rebuilds_the_tables_passes_and_is_healed(guarded: Guarded) -> None:
    """What MLflow's migrations do in SQLite to change a column; elsewhere they alter in place."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    registry = f"approval-{guarded.url}"
    guarded.promote("gov-heal", guarded.version("gov-heal"))
    with guarded.engine.begin() as connection:
        if guarded.engine.dialect.name == "sqlite":
            operations = Operations(MigrationContext.configure(connection))
            for table in triggers.TABLES:
                with operations.batch_alter_table(table, recreate="always") as batch:
                    batch.add_column(sa.Column("later", sa.Integer))
        else:
            for table in triggers.TABLES:
                connection.execute(sa.text(f"ALTER TABLE {table} ADD COLUMN later INTEGER"))
    done = call("guards", "status", "--registry-store-uri", registry)
    if guarded.engine.dialect.name == "sqlite":
        assert done.exit_code == 1
        assert "are missing" in done.output
        assert "mlflow-pack approvals guards install" in done.output
        build_store(registry)._dispose_engine()  # a server that starts puts them back
        done = call("guards", "status", "--registry-store-uri", registry)
    assert done.exit_code == 0, done.output
    with refused(guarded):
        guarded.run("DELETE FROM registered_model_aliases WHERE alias = 'prod'")
    with guarded.engine.begin() as connection:
        for table in triggers.TABLES:
            connection.execute(sa.text(f"ALTER TABLE {table} DROP COLUMN later"))


def test_removed_guards_refuse_nothing(guarded: Guarded) -> None:
    registry = ("--registry-store-uri", guarded.url)
    assert json.loads(call("guards", "status", "--json", *registry).output)["is_installed"]
    assert call("guards", "remove", *registry).exit_code == 0
    try:
        version = guarded.version("gov-late")
        guarded.stock.set_registered_model_alias("gov-late", "prod", version)
        with guarded.engine.connect() as connection:
            assert not set(triggers.trigger_names()) & schema.triggers(connection)
        assert "not installed" in call("guards", "status", *registry).output
    finally:
        assert call("guards", "install", *registry).exit_code == 0


def test_patterns_say_what_the_policy_says() -> None:
    patterns, targets = triggers.pattern_rows(parse_policy(POLICY, "x"))
    assert [(p.kind, p.policy_index, p.name_like) for p in patterns] == [
        ("model", 0, "gov-open-%"),
        ("model", 1, "gov-%"),
        ("model", 1, "100!%!_sure_"),
        ("prompt", 1, "say-%"),
        ("exclude", 1, "%-sandbox"),
        ("model", 2, "ws-%"),
    ]
    assert [p.workspace_like for p in patterns] == ["%"] * 5 + ["team-%"]
    assert targets == [
        (0, "alias:other"),
        (1, "alias:prod"),
        (1, "alias:stable"),
        (1, "stage:production"),
        (2, "alias:prod"),
    ]
    assert len(triggers.REFUSAL) <= 128


def test_a_database_without_mlflows_tables_is_refused(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    schema.upgrade(engine)
    with pytest.raises(MlflowException, match="Run `mlflow db upgrade` first"):
        install.install(engine, parse_policy(POLICY, "x"), 1)
    engine.dispose()
