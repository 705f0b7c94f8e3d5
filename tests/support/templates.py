"""Databases with MLflow's tables, copied from one that a run migrates once.

MLflow's migrations take a second on SQLite and several on a database server; a copy takes almost
nothing.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import sqlalchemy as sa

from tests.support.locks import once

RUN_FOLDER = "PACK_TESTS_RUN_FOLDER"
"""The environment variable that names the folder which all workers of a run share."""

_TEMPLATE = "mlflow_template"


def sqlite_with_tables(path: Path) -> str:
    """Make a SQLite file with MLflow's tables; return its URL.

    Outside a test run the file is not made, and MLflow makes its tables itself.
    """
    if RUN_FOLDER in os.environ:
        folder = Path(os.environ[RUN_FOLDER])
        template = folder / "mlflow.db"
        with once(folder, template.name):
            if not template.exists():
                _migrate(f"sqlite:///{folder / 'mlflow.new'}")
                (folder / "mlflow.new").rename(template)
        shutil.copy(template, path)
    return f"sqlite:///{path}"


def copy_with_tables(admin: sa.Engine, name: str, template_url: str, charset: str = "") -> None:
    """Create a database with MLflow's tables on a server.

    Args:
        admin: An engine of the server, in autocommit.
        name: The new database.
        template_url: Where the template is, or will be; its name is `_TEMPLATE`.
        charset: Of MariaDB: the character set of the database and of its tables.
    """
    folder = Path(os.environ[RUN_FOLDER])
    with once(folder, f"{admin.dialect.name}-template"):
        made = folder / f"{admin.dialect.name}-template.made"
        if not made.exists():
            with admin.connect() as connection:
                connection.execute(sa.text(f"CREATE DATABASE {_TEMPLATE}"))
            _migrate(template_url)
            made.touch()
        with admin.connect() as connection:
            if admin.dialect.name == "postgresql":
                # Inside the lock: PostgreSQL copies a template for one at a time.
                connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}"))
                return
    with admin.connect() as connection:
        _copy_mysql(connection, name, charset)


def template_of(url: str) -> str:
    """Return the template's URL on a server."""
    return f"{url}/{_TEMPLATE}"


def _copy_mysql(connection: sa.Connection, name: str, charset: str) -> None:
    default = f"CHARACTER SET {charset}" if charset else ""
    connection.execute(sa.text(f"CREATE DATABASE {name} {default}"))
    tables = connection.execute(sa.text(f"SHOW TABLES FROM {_TEMPLATE}")).scalars().all()
    connection.execute(sa.text("SET FOREIGN_KEY_CHECKS = 0"))
    connection.execute(sa.text(f"USE {name}"))
    for table in tables:
        made = connection.execute(sa.text(f"SHOW CREATE TABLE {_TEMPLATE}.`{table}`")).one()[1]
        if charset:
            made = re.sub(r"(DEFAULT CHARSET=)\w+ COLLATE=\w+", rf"\1{charset}", made)
            made = re.sub(r" CHARACTER SET \w+ COLLATE \w+", "", made)
        connection.exec_driver_sql(made.replace("%", "%%"))
        connection.execute(sa.text(f"INSERT INTO `{table}` SELECT * FROM {_TEMPLATE}.`{table}`"))


def _migrate(url: str) -> None:
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(url)._dispose_engine()
