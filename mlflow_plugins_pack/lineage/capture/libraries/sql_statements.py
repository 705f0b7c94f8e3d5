"""Which tables a SQL statement reads and writes; pure.

With sqlglot installed its parser answers. Without it, or where it gives up, a modest scanner does:
it drops comments and literals and looks at what follows FROM, JOIN, INTO, UPDATE and the like.
Neither keeps anything of a statement but the names of tables.
"""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple


class Table(NamedTuple):
    """A table's name as a statement says it; parts that it does not say are empty."""

    catalog: str
    schema: str
    name: str


class Tables(NamedTuple):
    """The tables of one statement."""

    read: tuple[Table, ...] = ()
    written: tuple[Table, ...] = ()


_SYSTEM_SCHEMAS = frozenset(
    {"information_schema", "pg_catalog", "pg_toast", "mysql", "performance_schema", "sys"}
)


@functools.lru_cache(maxsize=2_000)
def tables_of(statement: str, dialect: str = "") -> Tables:
    """Return the tables that a statement reads and writes, system tables left out.

    Args:
        statement: SQL text.
        dialect: SQLAlchemy's name of the database, such as ``postgresql``.
    """
    try:
        found = _parsed(statement, dialect)
    except Exception:  # noqa: BLE001  # no sqlglot, or SQL that it does not know
        found = scan(statement)
    return Tables(*(tuple(t for t in tables if not _is_system(t)) for tables in found))


def _is_system(table: Table) -> bool:
    return table.schema.lower() in _SYSTEM_SCHEMAS or table.name.lower().startswith(
        ("pg_", "sqlite_")
    )


# --- with sqlglot ---------------------------------------------------------------------------------


def _parsed(statement: str, dialect: str) -> Tables:
    import logging

    import sqlglot
    from sqlglot import exp

    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    names = {"postgresql": "postgres", "mariadb": "mysql", "mssql": "tsql"}
    # Placeholders of the drivers are no SQL: %(name)s, %s, :name.
    text = re.sub(r"%\(\w+\)s|%s", "NULL", statement)
    read: dict[Table, None] = {}
    written: dict[Table, None] = {}
    for tree in sqlglot.parse(text, dialect=names.get(dialect, dialect) or None):
        if tree is None:
            continue
        if isinstance(tree, exp.Command):
            raise NotImplementedError("a statement that the parser keeps as text")
        ctes = {cte.alias_or_name for cte in tree.find_all(exp.CTE)}
        target = _target(tree, exp)
        for table in tree.find_all(exp.Table):
            named = Table(table.catalog, table.db, table.name)
            if table is target:
                if not isinstance(tree, exp.Drop):
                    written[named] = None
            elif named.name and (named.schema or named.name not in ctes):
                read[named] = None
    # What a statement changes it also looks at; that is no data from elsewhere.
    return Tables(tuple(t for t in read if t not in written), tuple(written))


def _target(tree: Any, exp: Any) -> Any:
    if not isinstance(
        tree, (exp.Insert, exp.Update, exp.Delete, exp.Create, exp.Merge, exp.Drop, exp.Copy)
    ):
        into = tree.find(exp.Into)
        return into.find(exp.Table) if into is not None else None
    target = tree.this
    return target if isinstance(target, exp.Table) else target.find(exp.Table)


# --- without --------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""
    (?P<skip> --[^\n]* | /\*.*?\*/ | \s+ )
    | (?P<text> '(?:[^']|'')*' | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
    | (?P<quoted> "(?:[^"]|"")*" | `[^`]*` | \[[^\]\n]*\] )
    | (?P<word> [^\W\d]\w* )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_NO_NAME = frozenset(
    ("select", "values", "lateral", "unnest", "set", "where", "group", "on", "order", "using")
) | frozenset(
    ("only", "table", "if", "not", "exists", "as", "into", "overwrite", "ignore", "default", "with")
)
_NO_ALIAS = _NO_NAME | {"join", "left", "right", "inner", "full", "cross", "natural"}


def scan(statement: str) -> Tables:
    """Return the tables of a statement without a parser; what is no plain name is left out."""
    tokens = [
        (kind, match[0])
        for match in _TOKEN.finditer(statement)
        if (kind := match.lastgroup or "") not in ("skip", "tag")
    ]
    words = [value.lower() if kind == "word" else "" for kind, value in tokens]
    read: dict[Table, None] = {}
    written: dict[Table, None] = {}
    ctes: set[str] = set()
    depths: list[str] = []
    first = next((word for word in words if word), "")
    for index, word in enumerate(words):
        value = tokens[index][1]
        if value == "(":
            depths.append(words[index - 1] if index else "")
        elif value == ")" and depths:
            depths.pop()
        if index + 2 < len(tokens) and words[index + 1] == "as" and _opens(tokens, index + 2):
            # name AS ( ... ) makes a common table expression.
            ctes.add(_bare(value))
        # EXTRACT(year FROM day), SUBSTRING(x FROM 2), TRIM(' ' FROM x)
        in_call = bool(depths) and depths[-1] in ("extract", "substring", "trim", "overlay")
        if word in ("from", "join") and not in_call:
            target = written if first == "delete" and word == "from" and not written else read
            _take_list(tokens, index + 1, target, several=word == "from")
        elif _names_target(words, index, first, bool(written)):
            _take_list(tokens, index + 1, written, several=False)
        elif word == "using" and first in ("merge", "delete"):
            _take_list(tokens, index + 1, read, several=False)
    kept = [t for t in read if t not in written and (t.schema or t.name not in ctes)]
    return Tables(tuple(kept), tuple(written))


def _names_target(words: list[str], index: int, first: str, has_target: bool) -> bool:
    """Tell whether the name of a written table follows this word."""
    word = words[index]
    if word == "into":
        return first in ("insert", "merge", "select", "with", "replace")
    if word == "update":
        return index == 0 or words[index - 1] not in ("for", "do", "key")
    return word in ("table", "view") and first == "create" and not has_target


def _opens(tokens: list[tuple[str, str]], index: int) -> bool:
    """Tell whether a parenthesis opens here, after [NOT] MATERIALIZED if that is there."""
    while index < len(tokens) and tokens[index][1].lower() in ("not", "materialized"):
        index += 1
    return index < len(tokens) and tokens[index][1] == "("


def _take_list(
    tokens: list[tuple[str, str]], index: int, into: dict[Table, None], *, several: bool
) -> None:
    """Read a name, and with ``several`` the names behind commas."""
    while True:
        while index < len(tokens) and tokens[index][1].lower() in (
            *("only", "table", "if", "not", "exists", "lateral", "ignore", "overwrite"),
        ):
            index += 1
        parts = []
        while index < len(tokens) and tokens[index][0] in ("word", "quoted"):
            if tokens[index][0] == "word" and tokens[index][1].lower() in _NO_NAME:
                break
            parts.append(_bare(tokens[index][1]))
            index += 1
            if index < len(tokens) and tokens[index][1] == ".":
                index += 1
                continue
            break
        called = index < len(tokens) and tokens[index][1] == "(" and several
        if parts and len(parts) <= 3 and not called:
            into[Table(*([""] * (3 - len(parts)) + parts))] = None
        if not several or not parts:
            return
        # An alias may stand before the comma.
        for _ in range(2):
            if index >= len(tokens) or tokens[index][0] not in ("word", "quoted"):
                break
            word = tokens[index][1].lower()
            if word != "as" and word in _NO_ALIAS:
                return
            index += 1
        if index >= len(tokens) or tokens[index][1] != ",":
            return
        index += 1


def _bare(name: str) -> str:
    if name[:1] == '"':
        return name[1:-1].replace('""', '"')
    return name[1:-1] if name[:1] in "`[" else name
