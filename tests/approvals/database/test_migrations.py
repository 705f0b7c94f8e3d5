"""Our tables in databases that are not new: large ones, older ones, and on the way back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as stock
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from mlflow_plugins_pack.approvals.background import drift
from mlflow_plugins_pack.approvals.database import schema, tables
from mlflow_plugins_pack.approvals.guards import install
from mlflow_plugins_pack.approvals.policy.parse import parse_policy
from mlflow_plugins_pack.cli.main import cli
from mlflow_plugins_pack.errors import ConfigurationError
from tests.support import servers

POLICY = parse_policy(
    """
version: 1
groups: {leads: [bob]}
policies:
  - name: prod
    match: {models: ["gov-*"]}
    targets: {aliases: [prod], stages: [Production]}
    approvals: [{group: leads}]
""",
    "policy.yaml",
)
BEFORE_WORKSPACES = "c8d9e0f1a2b3"
WITH_WORKSPACES = "1b5f0d9ad7c1"
VERSIONS = 10_000


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'x.db'}"
    new: str = request.getfixturevalue(request.param).new_database()
    return new


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["approvals", *arguments])


def fill(engine: sa.Engine) -> None:
    """Put 100 models with 100 versions each into stock tables, two thirds of them governed."""
    reflected = sa.MetaData()
    reflected.reflect(
        engine, only=["registered_models", "model_versions", "registered_model_aliases"]
    )
    names = [f"{'gov' if number % 3 else 'free'}-{number}" for number in range(100)]
    rows = [
        {"workspace": "default", "name": name, "version": version, "current_stage": "None"}
        | {"creation_time": version, "source": f"s3://bucket/{name}/{version}"}
        for name in names
        for version in range(1, VERSIONS // 100 + 1)
    ]
    with engine.begin() as connection:
        connection.execute(
            sa.insert(reflected.tables["registered_models"]),
            [{"workspace": "default", "name": name} for name in names],
        )
        connection.execute(sa.insert(reflected.tables["model_versions"]), rows)
        connection.execute(
            sa.insert(reflected.tables["registered_model_aliases"]),
            [
                {"workspace": "default", "name": name, "alias": "prod", "version": 1}
                for name in names
            ],
        )


def everything(engine: sa.Engine) -> dict[str, Any]:
    """Return the definition of every stock table, and the content of the registry's."""
    inspector = sa.inspect(engine)
    found: dict[str, Any] = {}
    for table in inspector.get_table_names():
        if not table.startswith("mpp_"):
            found[table] = [str(column["type"]) for column in inspector.get_columns(table)]
    with engine.connect() as connection:
        for table in ("model_versions", "registered_model_aliases"):
            rows = connection.execute(sa.text(f"SELECT * FROM {table}")).all()
            found[f"{table} content"] = sorted(map(str, rows))
    return found


def test_a_large_stock_database_goes_up_and_down_untouched(url: str) -> None:
    SqlAlchemyStore(url)._dispose_engine()
    engine = sa.create_engine(url)
    fill(engine)
    before = everything(engine)
    for uri in (url, f"approval-{url}"):
        done = call("db", "upgrade", uri)
        assert done.exit_code == 0, done.output
        assert f"are at revision {schema.head_revision()}" in done.output
    assert everything(engine) == before
    install.install(engine, POLICY, 1)
    with sa.orm.Session(engine) as session:
        # All of it was so before the policy.
        assert len(drift.find(session, POLICY)) == 66
    with pytest.raises(sa.exc.IntegrityError, match="mpp_guard"), engine.begin() as connection:
        connection.execute(sa.text("UPDATE registered_model_aliases SET version = 2"))
    with engine.connect() as connection:
        # Takes the guards along: without our tables they would refuse every write.
        schema.run_alembic(connection, "downgrade", "base")
        connection.commit()
    assert everything(engine) == before
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE registered_model_aliases SET version = 2"))
        assert not any("mpp_guard" in name for name in schema.triggers(connection))
    engine.dispose()


def older(url: str, revision: str) -> sa.Engine:
    """Make the tables of an older MLflow."""
    from alembic import command

    engine = sa.create_engine(url)
    stock.InitialBase.metadata.create_all(engine)
    config = stock._get_alembic_config(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    return engine


def test_mlflow_upgrades_an_older_database_that_has_our_tables(url: str) -> None:
    engine = older(url, BEFORE_WORKSPACES)
    schema.upgrade(engine)
    with pytest.raises(ConfigurationError, match="Run `mlflow db upgrade` first"):
        install.install(engine, POLICY, 1)
    stock._upgrade_db(engine)
    stock._verify_schema(engine)
    install.install(engine, POLICY, 1)
    with engine.connect() as connection:
        assert install.status(connection).problems(POLICY) == []
        assert schema.missing_triggers(connection) == []
    engine.dispose()


def test_mlflow_upgrades_a_database_that_has_guards(url: str) -> None:
    engine = older(url, WITH_WORKSPACES)
    schema.upgrade(engine)
    install.install(engine, POLICY, 1)
    stock._upgrade_db(engine)
    stock._verify_schema(engine)
    install.refresh(engine, POLICY)
    with engine.connect() as connection:
        assert install.status(connection).problems(POLICY) == []
    store = SqlAlchemyStore(url)
    store.create_registered_model("gov-a")
    store.create_model_version("gov-a", "s3://bucket/x")
    with pytest.raises(MlflowException, match="mpp_guard"):
        store.set_registered_model_alias("gov-a", "prod", 1)
    store._dispose_engine()
    engine.dispose()


def test_printed_statements_make_the_same_tables(url: str, tmp_path: Path) -> None:
    """What an administrator runs by hand is what the server would have done."""
    printed = [call("db", "upgrade", f"approval-{url}", "--sql")]
    printed += [call("db", "upgrade", url, "--sql", "--from", "0001")]
    assert [done.exit_code for done in printed] == [0, 0], printed[0].output
    assert "CREATE TABLE mpp_audit" in printed[0].output
    assert "CREATE TABLE mpp_audit" not in printed[1].output
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements(printed[0].output, engine.dialect.name):
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    by_hand = sa.inspect(engine).get_table_names()
    with engine.connect() as connection:
        assert schema.current_revision(connection) == schema.head_revision()
        assert schema.missing_triggers(connection) == []
    assert {name for name in by_hand if name.startswith("mpp_")} == {
        *tables.metadata.tables,
        tables.VERSION_TABLE,
    }
    schema.upgrade(engine)  # nothing is left to do
    engine.dispose()


def statements(printed: str, dialect: str) -> list[str]:
    """Split a script as the database's own client does: triggers hold semicolons."""
    found: list[str] = []
    lines: list[str] = []
    for line in printed.splitlines():
        if line.startswith("--") or not line.strip():
            continue
        lines.append(line)
        text = "\n".join(lines).rstrip()
        if not text.endswith(";"):
            continue
        is_trigger = text.startswith("CREATE TRIGGER") and dialect == "sqlite"
        if (is_trigger and not text.endswith("END;")) or text.count("$$") % 2:
            continue
        found.append(text.rstrip(";") if not is_trigger else text)
        lines = []
    return [text for text in found if text not in ("BEGIN", "COMMIT")]


# Where DDL is not transactional there is the most to go wrong.
@pytest.mark.parametrize("url", ["mariadb"], indirect=True)
def test_two_servers_start_at_once_on_a_large_stock_database(url: str, tmp_path: Path) -> None:
    SqlAlchemyStore(url)._dispose_engine()
    engine = sa.create_engine(url)
    fill(engine)
    (tmp_path / "policy.yaml").write_text(POLICY.text)
    environment = servers.clean_environment(
        MLFLOW_PACK_APPROVALS_POLICY=str(tmp_path / "policy.yaml")
    )
    code = (
        "from mlflow_plugins_pack.approvals.plugin import build_store\n"
        f"build_store('approval-{url}').create_registered_model(__import__('uuid').uuid4().hex)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in started:
        _, problems = process.communicate(timeout=200)
        assert process.returncode == 0, problems.decode()
    with engine.connect() as connection:
        assert schema.current_revision(connection) == schema.head_revision()
        count = connection.execute(sa.text("SELECT COUNT(*) FROM registered_models")).scalar()
        assert count == 102
    engine.dispose()


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    done = call("db", "upgrade", f"approval-sqlite:///{tmp_path / 'no.db'}")
    assert done.exit_code == 1
    assert not (tmp_path / "no.db").exists()
    assert call("db", "upgrade", "sqlite:///x.db", "--from", "0001").exit_code == 2
