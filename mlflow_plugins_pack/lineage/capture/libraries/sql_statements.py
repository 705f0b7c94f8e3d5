"""Which tables a SQL statement reads and writes; pure, and slow enough to run in the background.

A statement is first reduced to its shape, without literals and comments. That is linear in its
length, keeps nothing secret, and has statements that differ in values alone parsed once.
"""

from __future__ import annotations

import functools
import hashlib
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
    """The tables of one statement.

    Attributes:
        read: Those it reads.
        written: Those it writes.
        columns: Names of columns by table, as far as the statement says which table has them.
    """

    read: tuple[Table, ...] = ()
    written: tuple[Table, ...] = ()
    columns: tuple[tuple[Table, tuple[str, ...]], ...] = ()


not_parsed: set[str] = set()
"""Databases, by SQLAlchemy's names, that were sent a statement which cannot be parsed."""

_resolved: set[tuple[bytes, str | None, tuple[str, ...]]] = set()
"""Digests of shapes, databases and runs: most of a run's statements differ in values only."""
_RESOLVED_LIMIT = 10_000
_DIALECTS = {"postgresql": "postgres", "mssql": "tsql", "mariadb": "mysql"}
_SYSTEM_SCHEMAS = frozenset(
    {"information_schema", "pg_catalog", "pg_toast", "mysql", "performance_schema", "sys"}
)
# Everything else that the parser keeps as text touches no table, or only looks at the catalog.
_OPAQUE = frozenset({"CALL", "DO", "EXEC", "EXECUTE"})

_BACKSLASHES = frozenset({"mysql", "mariadb", "bigquery", "databricks", "hive", "snowflake"})
# Linear: each alternative either fails within a bound or takes what it has looked at, so that a
# literal without an end takes the rest.
_ESCAPED, _PLAIN = r"'(?:[^'\\]|''|\\.?)*(?:'|\Z)", r"'(?:[^']|'')*(?:'|\Z)"
_PATTERN = r"""
    (?P<comment> --[^\n]* | /\*(?:.*?\*/|.*) )
    | (?P<literal> [eE]{escaped} | {text} | %\(\w{1,256}\)s | %s | \b\d+(?:\.\d+)?\b )
    | (?P<name> "(?:[^"]|"")*" | `[^`]*` | \[[^\]\n']{0,256}\] )
    | (?P<dollar> (?<!\w)\$\w{0,64}\$ )
"""
_PATTERNS = {
    escapes: re.compile(
        _PATTERN.replace("{escaped}", _ESCAPED).replace("{text}", _ESCAPED if escapes else _PLAIN),
        re.VERBOSE | re.DOTALL,
    )
    for escapes in (False, True)
}
_DOLLARS = re.compile(r"(?=(\$\w{0,64}\$))")
_LONGEST = 200_000
"""Characters of a statement's shape: to parse more would take seconds and much memory."""
_LONGEST_CACHED = 4_000
"""Characters of a shape whose tables are kept: 2,000 of them take some 8 MB."""
_LIST = re.compile(r"''(?:\s*,\s*'')+")
_REPLACED = {"comment": " ", "literal": "''"}


def shape(statement: str, dialect: str = "") -> str:
    """Return a statement with an empty text for each literal and each list of literals.

    Args:
        statement: SQL text, with or without a driver's placeholders (``%s``, ``%(name)s``).
        dialect: SQLAlchemy's name of the database: in some, a backslash escapes a quote.
    """
    tokens = _PATTERNS[dialect in _BACKSLASHES]
    # Where each tag of dollar quotes stands last: without a look ahead for those that never end.
    ends = {match[1]: match.start() for match in _DOLLARS.finditer(statement)}
    parts, at = [], 0
    while (match := tokens.search(statement, at)) is not None:
        parts.append(statement[at : match.start()])
        kind, text, at = match.lastgroup or "", match[0], match.end()
        if kind == "dollar" and ends[text] >= at:
            kind, at = "literal", statement.index(text, at) + len(text)
        parts.append(_REPLACED.get(kind, text))
    return _LIST.sub("''", "".join([*parts, statement[at:]]))


def events_of(event: Event) -> Iterator[Event]:
    """Return the reads and writes of a `STATEMENT` event.

    What cannot be parsed, or is too long, gives none, and its database's name in `not_parsed`.
    """
    dialect = (event.source or "").partition("://")[0]
    text = shape(event.where, dialect)
    if len(text) > _LONGEST:
        not_parsed.add(dialect)
        return
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    key = (digest, event.source, event.owners)
    if event.owners and key in _resolved:
        return
    if len(_resolved) >= _RESOLVED_LIMIT:
        _resolved.clear()
    _resolved.add(key)
    found = tables_of(text, dialect)
    columns = dict(found.columns)
    for kind, tables in ((READ, found.read), (WRITE, found.written)):
        for table in tables:
            where, named = _uri(event.source or "", table), columns.get(table, ())
            yield event._replace(kind=kind, where=where, source=None, columns=named)


def _uri(database_uri: str, table: Table) -> str:
    """Return ``dialect://host:port/database.schema.table``."""
    place, database, schema = database_uri.rsplit("/", 2)
    said = [quote(part, safe="-_$") for part in table]
    database, schema = said[0] or database, said[1] or schema
    if place.startswith(("mysql://", "mariadb://")) and schema:
        database, schema = schema, ""
    return f"{place}/{'.'.join(part for part in (database, schema, said[2]) if part)}"


def tables_of(statement: str, dialect: str = "") -> Tables:
    """Return the tables that a statement reads and writes, system tables left out.

    Args:
        statement: A statement's `shape`.
        dialect: SQLAlchemy's name of the database, such as ``postgresql``.
    """
    find = _tables_cached if len(statement) <= _LONGEST_CACHED else _tables_of
    return find(statement, dialect)


@functools.lru_cache(maxsize=2_000)
def _tables_cached(statement: str, dialect: str) -> Tables:
    return _tables_of(statement, dialect)


def _tables_of(statement: str, dialect: str) -> Tables:
    try:
        found = _parsed(statement, dialect)
    except Exception:  # noqa: BLE001  # SQL that the parser does not know
        not_parsed.add(dialect)
        return Tables()
    read, written = (
        tuple(table for table in tables if not _is_system(table))
        for tables in (found.read, found.written)
    )
    return Tables(read, written, found.columns)


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
    columns: dict[Table, set[str]] = {}
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
        for owner, column in _columns(tree, ctes, exp):
            columns.setdefault(owner, set()).add(column)
    # What a statement changes it also looks at; that is not data from elsewhere.
    return Tables(
        tuple(t for t in read if t not in written),
        tuple(written),
        tuple((table, tuple(sorted(names))) for table, names in columns.items()),
    )


def _columns(tree: Any, ctes: set[str], exp: Any) -> Iterator[tuple[Table, str]]:
    """Return the columns that a statement names, each with its table if that is certain.

    A column is a table's if it is qualified by it, or if its SELECT reads this table alone.
    """
    for select in tree.find_all(exp.Select):
        sources = [s.this for s in (select.args.get("from_"), select.args.get("from")) if s]
        sources += [join.this for join in select.args.get("joins") or ()]
        tables = {
            source.alias_or_name: Table(source.catalog, source.db, source.name)
            for source in sources
            if isinstance(source, exp.Table) and (source.db or source.name not in ctes)
        }
        alone = next(iter(tables.values())) if len(tables) == len(sources) == 1 else None
        for column in select.find_all(exp.Column):
            if column.find_ancestor(exp.Select) is not select or not column.name:
                continue
            table = tables.get(column.table) if column.table else alone
            if table is not None and not isinstance(column.this, exp.Star):
                yield table, column.name
    if isinstance(tree, exp.Insert) and isinstance(tree.this, exp.Schema):
        table = tree.this.this
        for name in tree.this.expressions:
            yield Table(table.catalog, table.db, table.name), name.name
    if isinstance(tree, exp.Update) and isinstance(tree.this, exp.Table):
        table = Table(tree.this.catalog, tree.this.db, tree.this.name)
        for change in tree.expressions:
            if isinstance(change, exp.EQ):
                yield table, change.this.name


def _target(tree: Any, exp: Any) -> Any:
    if not isinstance(
        tree, (exp.Insert, exp.Update, exp.Delete, exp.Create, exp.Merge, exp.Drop, exp.Copy)
    ):
        into = tree.find(exp.Into)
        return into.find(exp.Table) if into is not None else None
    target = tree.this
    return target if isinstance(target, exp.Table) else target.find(exp.Table)
