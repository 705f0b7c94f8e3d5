"""The sql layer: tables read and written through SQLAlchemy, on any engine of the process.

Listens to the public event `after_cursor_execute` of every engine; MLflow's own statements are told
by their caller. SQLite is left to the layers that see its file, whose digest says more. The caller
pays for the noting of a statement; it is parsed later.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture.call_stack import is_users

_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521}
_FILE_DATABASES = ("sqlite", "duckdb")
_WITHOUT_SCHEMAS = ("mysql", "mariadb")
_databases: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""By the engine: statements outnumber engines."""


def listen(module: ModuleType) -> None:
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
        if is_users(sys._getframe(1)):
            engine = connection.engine
            database = _databases.get(engine)
            if database is None:
                database = _databases[engine] = _database(engine.url, dialect)
            current.emit_statement(statement, database)
    except Exception:  # noqa: BLE001, S110  # the user's statement succeeded
        pass


def _database(url: Any, dialect: Any) -> str:
    """Return ``dialect://host:port/database/default schema``, never user or password."""
    name = dialect.name
    port = url.port or _PORTS.get(name)
    place = f"{url.host or 'localhost'}:{port}" if port else str(url.host or "")
    schema = "" if name in _WITHOUT_SCHEMAS else dialect.default_schema_name or ""
    database = (url.database or "").partition("?")[0]
    return f"{name}://{place}/{quote(database, safe='-_$')}/{quote(schema, safe='-_$')}"
