"""A transaction's writes, sent in as few round trips as the database allows.

PostgreSQL runs several writes as one statement (data-modifying ``WITH``); elsewhere they go one
after the other, many rows of one kind at once. A write that nobody collects is made at once.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Session

Rows = Sequence[Mapping[str, Any]]

_COLLECTED = "mpp_collected_writes"
_PARAMETER = re.compile(r"%\((\w+)\)s")


def write(session: Session, statement: Any, rows: Rows, *, expected: int | None = None) -> None:
    """Make a write, now or when the surrounding `together` ends.

    Args:
        session: Of the transaction.
        statement: INSERT, UPDATE or DELETE, built once and kept: it is a key of caches.
        rows: Its parameters, one mapping for each time it runs.
        expected: How many rows it must touch, where that tells whether all is well.
    """
    if not rows:
        return
    collected: list[_Write] | None = session.info.get(_COLLECTED)
    if collected is None:
        _send(session.connection(), [(statement, rows, expected)])
        return
    if any(kept is statement for kept, _, _ in collected):
        _flush(session, collected)
    collected.append((statement, rows, expected))


@contextlib.contextmanager
def together(session: Session) -> Iterator[None]:
    """Collect the block's writes and send them at its end.

    They are made in no particular order and see the tables as they were: no two may touch the same
    row, and the block may not read what it writes. A statement that comes a second time sends
    those before it first.
    """
    if _COLLECTED in session.info:
        yield
        return
    collected: list[_Write] = []
    session.info[_COLLECTED] = collected
    try:
        yield
        _flush(session, collected)
    finally:
        del session.info[_COLLECTED]


def upsert(session: Session, table: sa.Table) -> Any:
    """Return an INSERT that updates the row with the same primary key, if it is there."""
    return _upsert(session.get_bind().dialect.name, table)


_Write = tuple[Any, Rows, "int | None"]


def _flush(session: Session, collected: list[_Write]) -> None:
    _send(session.connection(), collected)
    collected.clear()


def _send(connection: sa.Connection, writes: list[_Write]) -> None:
    dialect = connection.dialect
    runs = sum(len(rows) for _, rows, _ in writes)
    if dialect.name == "postgresql" and dialect.paramstyle == "pyformat" and runs > 1:
        _send_as_one(connection, writes)
        return
    for statement, rows, expected in writes:
        done = connection.execute(statement, rows if len(rows) > 1 else rows[0])
        if expected is not None:
            _check(done.rowcount, expected)


def _send_as_one(connection: sa.Connection, writes: list[_Write]) -> None:
    dialect = connection.dialect
    parts: list[str] = []
    counts: list[str] = []
    parameters: dict[str, Any] = {}
    for number, (statement, rows, _) in enumerate(writes):
        text, constants = _compiled(dialect, statement)
        for place, row in enumerate(rows):
            name = f"w{number}_{place}"
            named = _PARAMETER.sub(rf"%({name}_\1)s", text)
            parts.append(f"{name} AS ({named} RETURNING 1)")
            parameters |= {f"{name}_{k}": v for k, v in {**constants, **row}.items()}
        names = (f"w{number}_{place}" for place in range(len(rows)))
        counts.append(" + ".join(f"(SELECT count(*) FROM {name})" for name in names))  # noqa: S608
    # Put together of our own statements; what comes from outside is a parameter.
    sql = f"WITH {', '.join(parts)} SELECT {', '.join(counts)}"
    done = connection.exec_driver_sql(sql, parameters).one()
    for count, (_, _, expected) in zip(done, writes, strict=True):
        if expected is not None:
            _check(count, expected)


def _check(count: int, expected: int) -> None:
    if count != expected:
        raise AssertionError(f"a locked row changed: {count} were written, not {expected}")


@lru_cache(maxsize=256)
def _compiled(dialect: sa.Dialect, statement: Any) -> tuple[str, Mapping[str, Any]]:
    """Return a statement's text and the parameters that have a value already."""
    columns = None
    if statement.is_insert:
        columns = [column.name for column in statement.table.columns]
    compiled = statement.compile(dialect=dialect, column_keys=columns)
    return str(compiled), compiled.params


@lru_cache(maxsize=64)
def _upsert(dialect: str, table: sa.Table) -> Any:
    keys = {column.name for column in table.primary_key}
    others = [column.name for column in table.columns if column.name not in keys]
    if dialect == "mysql":
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update({name: insert.inserted[name] for name in others})
    # Both speak alike.
    ours: Any = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}[dialect](table)
    return ours.on_conflict_do_update(
        index_elements=sorted(keys), set_={name: ours.excluded[name] for name in others}
    )
