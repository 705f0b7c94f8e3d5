"""A transaction's writes, sent in as few round trips as the database allows.

PostgreSQL runs several writes as one statement (data-modifying ``WITH``), MariaDB too (a compound
statement); elsewhere they go one after the other, many rows of one kind at once. A write that
no caller collects is made at once.
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
_LOST = "mpp: a row is not as it was read"


class RowChangedError(Exception):
    """A row that a write counts on has changed since it was read: undo it all and read again."""


def write(session: Session, statement: Any, rows: Rows, *, expected: int | None = None) -> None:
    """Make a write, now or when the surrounding `together` ends.

    Args:
        session: The session of the transaction.
        statement: INSERT, UPDATE or DELETE, built once and kept: it is a key of caches.
        rows: Its parameters, one mapping for each time it runs.
        expected: How many rows it must touch each time, where that tells whether all is as it was
            read.

    Raises:
        RowChangedError: If it touched another number; so does what sends it later.
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
    if dialect.paramstyle == "pyformat" and sum(len(rows) for _, rows, _ in writes) > 1:
        if dialect.name == "postgresql":
            _send_as_with(connection, writes)
            return
        if getattr(dialect, "is_mariadb", False):
            _send_as_block(connection, writes)
            return
    for statement, rows, expected in writes:
        text, constants, order = _compiled(dialect, statement)
        filled: Any = [{**constants, **row} for row in rows]
        if order is not None:
            filled = [tuple(row[name] for name in order) for row in filled]
        # The driver's own way: of a small write the rest takes Python longer than the database.
        done = connection.exec_driver_sql(text, filled if len(filled) > 1 else filled[0])
        if expected is not None:
            _check(done.rowcount, expected)


def _send_as_with(connection: sa.Connection, writes: list[_Write]) -> None:
    """Send writes to PostgreSQL as the parts of one ``WITH``, which answers with their counts."""
    numbered, parameters = _numbered(connection.dialect, writes)
    parts = [f"w{place} AS ({text} RETURNING 1)" for place, (text, _) in enumerate(numbered)]
    guarded = [(place, number) for place, (_, number) in enumerate(numbered) if number is not None]
    counts = [f"(SELECT count(*) FROM w{place})" for place, _ in guarded]  # noqa: S608
    # Put together of our own statements; what comes from outside is a parameter.
    sql = f"WITH {', '.join(parts)} SELECT {', '.join(counts) or '1'}"
    done = connection.exec_driver_sql(sql, parameters).one()
    for count, (_, expected) in zip(done, guarded, strict=bool(guarded)):
        _check(count, expected)


def _send_as_block(connection: sa.Connection, writes: list[_Write]) -> None:
    """Send writes to MariaDB as one block; ``NOT ATOMIC`` means that it begins no transaction."""
    numbered, parameters = _numbered(connection.dialect, writes)
    parts = []
    for text, expected in numbered:
        parts.append(f"{text};")
        if expected is not None:
            raised = f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{_LOST}'"
            parts.append(f"IF ROW_COUNT() <> {expected} THEN {raised}; END IF;")
    try:
        connection.exec_driver_sql(f"BEGIN NOT ATOMIC {' '.join(parts)} END", parameters)
    except sa.exc.DBAPIError as exc:
        if _LOST in str(exc.orig):
            raise RowChangedError(_LOST) from exc
        raise


def _numbered(
    dialect: sa.Dialect, writes: list[_Write]
) -> tuple[list[tuple[str, int | None]], dict[str, Any]]:
    """Return each row's statement with how many rows it must touch, and all their parameters.

    What several rows have in common, such as the model's name, is sent once.
    """
    found: list[tuple[str, int | None]] = []
    names: dict[tuple[str, type, Any], str] = {}
    for statement, rows, expected in writes:
        text, constants, _ = _compiled(dialect, statement)
        pieces = _PARAMETER.split(text)
        for row in rows:
            values = {**constants, **row}
            named = pieces.copy()
            for place in range(1, len(pieces), 2):
                column = pieces[place]
                value = (column, type(values[column]), values[column])
                named[place] = f"%({names.setdefault(value, f'p{len(names)}')})s"
            found.append(("".join(named), expected))
    return found, {name: value for (_, _, value), name in names.items()}


def _check(count: int, expected: int) -> None:
    if count != expected:
        raise RowChangedError(f"{_LOST}: {count} rows were written, not {expected}")


@lru_cache(maxsize=256)
def _compiled(
    dialect: sa.Dialect, statement: Any
) -> tuple[str, Mapping[str, Any], tuple[str, ...] | None]:
    """Return a statement's text, the parameters that have a value, and their order if that counts.

    None of our columns' types converts what it is given.
    """
    columns = None
    if statement.is_insert:
        columns = [column.name for column in statement.table.columns]
    compiled = statement.compile(dialect=dialect, column_keys=columns)
    order = tuple(compiled.positiontup) if compiled.positional else None
    constants = {k: v for k, v in compiled.params.items() if not compiled.binds[k].required}
    return str(compiled), constants, order


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
