"""Creates and upgrades the plugin's tables; safe when several server processes start at once."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlflow_plugins_pack.approvals.database.tables import AUDIT_TRIGGERS, VERSION_TABLE
from mlflow_plugins_pack.errors import ConfigurationError, RegistryBusyError

_LOCK_SECONDS = 120
_LOCK_NUMBER = int.from_bytes(hashlib.sha256(b"mpp_schema").digest()[:7], "big")


@cache
def head_revision() -> str:
    """Return the newest revision this version of the pack knows."""
    from alembic.script import ScriptDirectory

    head = ScriptDirectory(_folder()).get_current_head()
    if head is None:
        raise AssertionError("the package has no migrations")
    return head


def current_revision(connection: Connection) -> str | None:
    """Return the database's revision, or None if the tables do not exist."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(
        sa.text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - a constant
    ).scalar()
    return found


def missing_triggers(connection: Connection) -> list[str]:
    """Return the names of the audit table's triggers that are missing."""
    there = triggers(connection)
    # Only PostgreSQL fires triggers for TRUNCATE.
    more = ("mpp_audit_no_truncate",) if connection.dialect.name == "postgresql" else ()
    return [name for name in (*AUDIT_TRIGGERS, *more) if name not in there]


def triggers(connection: Connection) -> set[str]:
    """Return the names of the triggers that are in force in the database."""
    queries = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        "WHERE t.tgenabled <> 'D' AND pg_table_is_visible(c.oid)",
        "mysql": "SELECT trigger_name FROM information_schema.triggers "
        "WHERE trigger_schema = DATABASE()",
    }
    return set(connection.execute(sa.text(queries[connection.dialect.name])).scalars())


@contextlib.contextmanager
def first_start(db_uri: str, get_engine: Callable[[str], Engine]) -> Iterator[None]:
    """Let one process at a time make MLflow's own tables in an empty database.

    Stock registry stores do not lock here, so two servers that start on one new database collide.
    """
    from mlflow.store.db.utils import _all_tables_exist, _safe_initialize_tables

    engine = get_engine(db_uri)
    if _all_tables_exist(engine):
        yield
    elif engine.dialect.name == "sqlite":
        _safe_initialize_tables(engine)
        yield
    else:
        with exclusive(engine):
            yield


def upgrade(engine: Engine) -> bool:
    """Upgrade the tables to the newest revision, even if other processes try at the same time.

    Returns:
        Whether this call made the tables, in a database that had none.

    Raises:
        ConfigurationError: If the database is newer than this version of the pack, or its account
            may not create tables or triggers.
    """
    with engine.connect() as connection:
        if current_revision(connection) == head_revision():
            return False
    with exclusive(engine) as connection:
        found = current_revision(connection)
        if found == head_revision():
            return False
        if found is not None and found not in _known_revisions():
            raise ConfigurationError(
                f"The approvals tables are at revision {found}, which a newer version of "
                f"mlflow-plugins-pack made; this one knows up to {head_revision()}. Nothing was "
                f"changed. Install the newer version on every server of this database."
            )
        try:
            run_alembic(connection, "upgrade", "head")
        except sa.exc.DBAPIError as exc:
            raise ConfigurationError(
                "The approvals tables could not be created or upgraded: "
                f"{exc.orig}. What was finished before this step is kept and the next start goes "
                "on from there. The account needs the rights to create tables and triggers in the "
                "registry's database; MySQL with a binary log also needs "
                "log_bin_trust_function_creators=1 or the SUPER privilege for triggers."
            ) from exc
        return found is None


def run_alembic(
    connection: Connection | None, command: str, *arguments: Any, **options: Any
) -> None:
    """Run an Alembic command of the plugin's own tree on a connection."""
    from alembic import command as commands
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", _folder().replace("%", "%%"))
    config.set_main_option("version_table", VERSION_TABLE)
    config.attributes["connection"] = connection
    if url := options.pop("url", None):
        config.set_main_option("sqlalchemy.url", str(url).replace("%", "%%"))
    getattr(commands, command)(config, *arguments, **options)


def _folder() -> str:
    return str(Path(__file__).parent / "migrations")


def _known_revisions() -> set[str]:
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory(_folder()).walk_revisions()}


@contextlib.contextmanager
def exclusive(engine: Engine) -> Iterator[Connection]:
    """Hold the one migration lock of the database around a connection's transaction."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {_LOCK_SECONDS * 1000}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()
        elif engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_NUMBER)))
            yield connection
            connection.commit()
        else:
            # Named locks are the server's, not the database's; DDL commits, the lock outlives it.
            name = "mpp_" + hashlib.sha256((engine.url.database or "").encode()).hexdigest()[:40]
            got = connection.execute(sa.select(sa.func.get_lock(name, _LOCK_SECONDS))).scalar()
            if got != 1:
                raise RegistryBusyError(
                    "another process has been upgrading the approvals tables for "
                    f"{_LOCK_SECONDS} s. Nothing was changed. Wait for it and start again."
                )
            try:
                yield connection
                connection.commit()
            finally:
                connection.execute(sa.select(sa.func.release_lock(name)))
