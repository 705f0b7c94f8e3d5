"""The sql layer: tables read and written through SQLAlchemy, on any engine of the process.

Listens to the public event `after_cursor_execute` of every engine; MLflow's own statements are told
by their caller. SQLite is left to the layers that see its file, whose digest says more.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any
from urllib.parse import quote

from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture.call_stack import is_users
from mlflow_plugins_pack.lineage.capture.event import READ, WRITE

MODULES = ("sqlalchemy",)
_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}
_FILE_DATABASES = ("sqlite", "duckdb")


def wrap(module: ModuleType) -> None:
    """Listen to every engine."""
    from sqlalchemy import event

    event.listen(module.engine.Engine, "after_cursor_execute", _executed)


def _executed(
    connection: Any, _cursor: Any, statement: str, _parameters: Any, _context: Any, _many: bool
) -> None:
    try:
        dialect = connection.dialect
        current = sink.current()
        if dialect.name in _FILE_DATABASES or current.is_muted():
            return
        if not is_users(sys._getframe(1)):
            return
        from mlflow_plugins_pack.lineage.capture.libraries.sql_statements import tables_of

        found = tables_of(statement, dialect.name)
        for kind, tables in ((READ, found.read), (WRITE, found.written)):
            for table in tables:
                current.emit_object(kind, _uri(connection.engine, dialect, table), "sql")
    except Exception:  # noqa: BLE001, S110  # the person's statement succeeded
        pass


def _uri(engine: Any, dialect: Any, table: Any) -> str:
    """Return ``dialect://host:port/database.schema.table``, never user or password."""
    url = engine.url
    port = url.port or _PORTS.get(dialect.name)
    place = f"{url.host or 'localhost'}:{port}" if port else str(url.host or "")
    database = table.catalog or (url.database or "").partition("?")[0]
    schema = table.schema or ("" if dialect.name in ("mysql", "mariadb") else None)
    if schema is None:
        schema = dialect.default_schema_name or ""
    if dialect.name in ("mysql", "mariadb") and schema:
        database, schema = schema, ""
    parts = [quote(part, safe="-_$") for part in (database, schema, table.name) if part]
    return f"{dialect.name}://{place}/{'.'.join(parts)}"
