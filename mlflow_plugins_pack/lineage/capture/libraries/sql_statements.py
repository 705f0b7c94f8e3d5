"""Which tables a SQL statement reads and writes; pure, and slow enough to run in the background.

A statement is first reduced to its shape, without literals and comments. That is linear in its
length, keeps nothing secret, and has statements that differ in values alone parsed once.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

from mlflow_plugins_pack.lineage.capture.event import READ, WRITE, Event


class Table(NamedTuple):
    """A table's name as a statement says it; parts that it does not say are empty."""

    catalog: str
    schema: str
    name: str


class Tables(NamedTuple):
    """The tables of one statement."""

    read: tuple[Table, ...] = ()
    written: tuple[Table, ...] = ()


not_parsed: set[str] = set()
"""Databases, by SQLAlchemy's names, that were sent a statement which cannot be parsed."""

_DIALECTS = {"postgresql": "postgres", "mssql": "tsql", "mariadb": "mysql"}
_SYSTEM_SCHEMAS = frozenset(
    {"information_schema", "pg_catalog", "pg_toast", "mysql", "performance_schema", "sys"}
)
# Everything else that the parser keeps as text touches no table, or only looks at the catalog.
_OPAQUE = frozenset({"CALL", "DO", "EXEC", "EXECUTE"})

_BACKSLASHES = frozenset({"mysql", "mariadb", "bigquery", "databricks", "hive", "snowflake"})
_PATTERN = r"""
    (?P<comment> --[^\n]* | /\*.*?\*/ )
    | (?P<literal> [eE]'(?:[^'\\]|''|\\.)*' | {text} | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
        | %\(\w+\)s | %s | \b\d+(?:\.\d+)?\b )
    | (?P<name> "(?:[^"]|"")*" | `[^`]*` | \[[^\]\n']*\] )
"""
_PATTERNS = {
    escapes: re.compile(
        _PATTERN.replace("{text}", r"'(?:[^'\\]|''|\\.)*'" if escapes else r"'(?:[^']|'')*'"),
        re.VERBOSE | re.DOTALL,
    )
    for escapes in (False, True)
}
_LIST = re.compile(r"''(?:\s*,\s*'')+")
_REPLACED = {"comment": " ", "literal": "''"}


def shape(statement: str, dialect: str = "") -> str:
    """Return a statement with an empty text for each literal and each list of literals.

    Args:
        statement: SQL text, with or without a driver's placeholders (``%s``, ``%(name)s``).
        dialect: SQLAlchemy's name of the database: in some, a backslash escapes a quote.
    """
    tokens = _PATTERNS[dialect in _BACKSLASHES]
    text = tokens.sub(lambda match: _REPLACED.get(match.lastgroup or "", match[0]), statement)
    return _LIST.sub("''", text)


def events_of(event: Event) -> Iterator[Event]:
    """Return the reads and writes of a `STATEMENT` event.

    What cannot be parsed gives none, and its database's name in `not_parsed`.
    """
    dialect = (event.source or "").partition("://")[0]
    found = tables_of(shape(event.where, dialect), dialect)
    for kind, tables in ((READ, found.read), (WRITE, found.written)):
        for table in tables:
            where = _uri(event.source or "", table)
            yield event._replace(kind=kind, where=where, source=None)


def _uri(database_uri: str, table: Table) -> str:
    """Return ``dialect://host:port/database.schema.table``."""
    place, database, schema = database_uri.rsplit("/", 2)
    said = [quote(part, safe="-_$") for part in table]
    database, schema = said[0] or database, said[1] or schema
    if place.startswith(("mysql://", "mariadb://")) and schema:
        database, schema = schema, ""
    return f"{place}/{'.'.join(part for part in (database, schema, said[2]) if part)}"


@functools.lru_cache(maxsize=2_000)
def tables_of(statement: str, dialect: str = "") -> Tables:
    """Return the tables that a statement reads and writes, system tables left out.

    Args:
        statement: A statement's `shape`.
        dialect: SQLAlchemy's name of the database, such as ``postgresql``.
    """
    try:
        found = _parsed(statement, dialect)
    except Exception:  # noqa: BLE001  # SQL that the parser does not know
        not_parsed.add(dialect)
        return Tables()
    return Tables(*(tuple(t for t in tables if not _is_system(t)) for tables in found))


def _is_system(table: Table) -> bool:
    return table.schema.lower() in _SYSTEM_SCHEMAS or table.name.lower().startswith(
        ("pg_", "sqlite_")
    )


def _parsed(statement: str, dialect: str) -> Tables:
    # Half a second to import, so not before there is a statement to parse.
    import logging

    import sqlglot
    from sqlglot import exp

    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    read: dict[Table, None] = {}
    written: dict[Table, None] = {}
    for tree in sqlglot.parse(statement, dialect=_DIALECTS.get(dialect, dialect) or None):
        if tree is None:
            continue
        if isinstance(tree, exp.Command):
            if str(tree.this).upper() in _OPAQUE:
                raise NotImplementedError(tree.this)
            continue
        ctes = {cte.alias_or_name for cte in tree.find_all(exp.CTE)}
        target = _target(tree, exp)
        for table in tree.find_all(exp.Table):
            named = Table(table.catalog, table.db, table.name)
            if table is target:
                if not isinstance(tree, exp.Drop):
                    written[named] = None
            elif named.name and (named.schema or named.name not in ctes):
                read[named] = None
    # What a statement changes it also looks at; that is not data from elsewhere.
    return Tables(tuple(t for t in read if t not in written), tuple(written))


def _target(tree: Any, exp: Any) -> Any:
    if not isinstance(
        tree, (exp.Insert, exp.Update, exp.Delete, exp.Create, exp.Merge, exp.Drop, exp.Copy)
    ):
        into = tree.find(exp.Into)
        return into.find(exp.Table) if into is not None else None
    target = tree.this
    return target if isinstance(target, exp.Table) else target.find(exp.Table)
