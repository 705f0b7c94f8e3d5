"""The tables: made once however many servers start, upgraded, taken down, written as SQL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlflow_plugins_pack.approvals.database import schema, tables
from mlflow_plugins_pack.errors import ConfigurationError
from tests.support import servers

DATABASES = ("sqlite", "postgresql", "mariadb")


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'x.db'}"
    new: str = request.getfixturevalue(request.param).new_database()
    return new


def ours(connection: sa.Connection) -> set[str]:
    return {name for name in sa.inspect(connection).get_table_names() if name.startswith("mpp_")}


def test_migrations_make_what_queries_expect_and_undo_it(url: str) -> None:
    engine = sa.create_engine(url)
    schema.upgrade(engine)
    schema.upgrade(engine)
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        assert ours(connection) == {*tables.metadata.tables, tables.VERSION_TABLE}
        for table in tables.metadata.tables.values():
            there = {column["name"]: column for column in inspector.get_columns(table.name)}
            assert set(there) == {column.name for column in table.columns}
            for column in table.columns:
                assert there[column.name]["nullable"] == column.nullable, column
                length = getattr(column.type, "length", None)
                assert length is None or there[column.name]["type"].length == length
            key = inspector.get_pk_constraint(table.name)["constrained_columns"]
            assert set(key) == {column.name for column in table.primary_key}
        assert schema.missing_triggers(connection) == []
        assert schema.current_revision(connection) == schema.head_revision()
    with engine.connect() as connection:
        schema.run_alembic(connection, "downgrade", "base")
        connection.commit()
    with engine.connect() as connection:
        assert ours(connection) <= {tables.VERSION_TABLE}
    schema.upgrade(engine)
    with engine.connect() as connection:
        assert schema.missing_triggers(connection) == []
    engine.dispose()


def test_an_interrupted_first_start_is_completed_by_the_next(url: str) -> None:
    """What a first start made before it failed is kept; where DDL commits at once, it remains."""
    engine = sa.create_engine(url)
    schema.upgrade(engine)
    on = " ON mpp_audit" if engine.dialect.name == "postgresql" else ""
    with engine.begin() as connection:
        for statement in (
            f"DROP TRIGGER mpp_audit_no_delete{on}",
            "DROP TABLE mpp_outbox",
            "DELETE FROM mpp_audit_head",
            f"DELETE FROM {tables.VERSION_TABLE}",
        ):
            connection.exec_driver_sql(statement)
        index = next(i for i in tables.requests.indexes if i.name == "mpp_request_by_state")
        index.drop(connection)
    schema.upgrade(engine)
    with engine.connect() as connection:
        assert ours(connection) == {*tables.metadata.tables, tables.VERSION_TABLE}
        assert schema.missing_triggers(connection) == []
        there = {i["name"] for i in sa.inspect(connection).get_indexes("mpp_request")}
        assert "mpp_request_by_state" in there
        assert connection.execute(sa.select(tables.audit_head.c.seq)).all() == [(0,)]
    engine.dispose()


def test_migrations_import_nothing_of_the_package() -> None:
    """A migration that imports live code changes when the code does."""
    for path in (Path(schema.__file__).parent / "migrations").rglob("*.py"):
        assert "mlflow_plugins_pack" not in path.read_text(encoding="utf-8"), path


def test_a_newer_database_is_refused(url: str) -> None:
    engine = sa.create_engine(url)
    schema.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {tables.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="a newer version of mlflow-plugins-pack made"):
        schema.upgrade(engine)
    engine.dispose()


def test_several_servers_start_at_once_on_an_empty_database(url: str, tmp_path: Path) -> None:
    """Each process makes MLflow's tables and ours, or waits for who does."""
    (tmp_path / "policy.yaml").write_text(
        "version: 1\npolicies:\n  - {name: p, match: {models: ['*']}, "
        "targets: {aliases: [prod]}, approvals: []}\n"
    )
    code = (
        "from mlflow_plugins_pack.approvals.plugin import build_store\n"
        f"build_store('approval-{url}').create_registered_model(__import__('uuid').uuid4().hex)"
    )
    environment = servers.clean_environment(
        MLFLOW_PACK_APPROVALS_POLICY=str(tmp_path / "policy.yaml")
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in started:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors.decode()
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        assert schema.current_revision(connection) == schema.head_revision()
        count = connection.execute(sa.text("SELECT COUNT(*) FROM registered_models")).scalar()
        assert count == 2
    engine.dispose()


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql+pymysql"])
def test_the_migrations_can_be_printed_as_sql(
    dialect: str, capsys: pytest.CaptureFixture[str]
) -> None:
    schema.run_alembic(None, "upgrade", "head", sql=True, url=f"{dialect}://")
    printed = capsys.readouterr().out
    assert "CREATE TABLE mpp_audit" in printed
    assert "TRIGGER" in printed


def test_lock_of_a_busy_sqlite_is_waited_for(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(schema, "_LOCK_SECONDS", 0)
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    other = sa.create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    with other.connect() as holding:
        holding.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(sa.exc.OperationalError, match="locked"):
            schema.upgrade(engine)
    schema.upgrade(engine)
    engine.dispose()
    other.dispose()
