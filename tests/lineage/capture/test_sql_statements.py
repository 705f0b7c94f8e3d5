"""Tables of SQL statements."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack.lineage.capture.event import READ, STATEMENT, WRITE, Event
from mlflow_plugins_pack.lineage.capture.libraries import sql_statements
from mlflow_plugins_pack.lineage.capture.libraries.sql_statements import (
    Tables,
    events_of,
    not_parsed,
    shape,
    tables_of,
)


@pytest.fixture(autouse=True)
def nothing_missed() -> Iterator[None]:
    """What a test's statements miss is not part of the records of other tests of the process."""
    not_parsed.clear()
    sql_statements._resolved.clear()
    yield
    not_parsed.clear()
    sql_statements._resolved.clear()


CASES = {
    "SELECT * FROM t": ("t", ""),
    "select a.x from s.a a, b as bb join c.d.e on 1=1 where x in (select y from f)": (
        "s.a b c.d.e f",
        "",
    ),
    'SELECT 1 FROM "Weird ""Name" WHERE x = \'from nowhere\'': ('Weird "Name', ""),
    "SELECT EXTRACT(year FROM day) FROM visits": ("visits", ""),
    "SELECT x FROM (SELECT y FROM inner_t) AS z": ("inner_t", ""),
    "WITH a AS (SELECT * FROM t), b AS (SELECT * FROM a) SELECT * FROM b": ("t", ""),
    "INSERT INTO out (a, b) VALUES (1, 'from x')": ("", "out"),
    "INSERT INTO out SELECT * FROM t": ("t", "out"),
    "UPDATE out SET n = n + h.id FROM h WHERE h.id = out.id": ("h", "out"),
    "DELETE FROM out WHERE id IN (SELECT id FROM gone)": ("gone", "out"),
    "CREATE TABLE IF NOT EXISTS out AS SELECT * FROM t -- from comment": ("t", "out"),
    "SELECT relname FROM pg_catalog.pg_class": ("", ""),
    "SELECT table_name FROM information_schema.tables": ("", ""),
    "SELECT 1": ("", ""),
    "BEGIN": ("", ""),
    "SELECT * FROM a /* from b */ LEFT JOIN c ON a.x = c.x": ("a c", ""),
    "SELECT * FROM t FOR UPDATE": ("t", ""),
}


def names(found: Tables) -> tuple[set[str], set[str]]:
    read, written = (
        {".".join(part for part in table if part) for table in tables}
        for tables in (found.read, found.written)
    )
    return read, written


@pytest.mark.parametrize("statement", CASES)
def test_tables_of_a_statement(statement: str) -> None:
    read, written = names(tables_of(shape(statement, "postgresql"), "postgresql"))
    assert (read, written) == tuple(_expected(text) for text in CASES[statement])


def _expected(text: str) -> set[str]:
    return {text} if '"' in text else set(text.split())


@pytest.mark.parametrize(
    "secret",
    [
        "'hunter2'",
        "'it''s hunter2'",
        "$$hunter2$$",
        "-- hunter2",
        "E'\\'hunter2'",
        "'a' || 'hunter2'",
    ],
)
def test_a_shape_has_no_literals_and_no_comments(secret: str) -> None:
    statement = f"SELECT * FROM t WHERE x = {secret}\n"
    assert "hunter2" not in shape(statement, "postgresql")
    assert "t" in str(tables_of(shape(statement, "postgresql"), "postgresql"))


def test_a_backslash_escapes_a_quote_only_where_it_does() -> None:
    assert shape(r"SELECT 'a\' FROM t -- '", "postgresql").split() == ["SELECT", "''", "FROM", "t"]
    assert shape(r"SELECT 'a\'b' FROM t", "mysql").split() == ["SELECT", "''", "FROM", "t"]


def test_dollar_quotes_end_at_their_own_tag() -> None:
    text = "SELECT $a$ it's $b$ x $a$, v$session$x FROM t WHERE y = $$'$$ AND z = $n$"
    assert shape(text) == "SELECT '', v$session$x FROM t WHERE y = '' AND z = $n$"


@pytest.mark.parametrize(
    "text",
    ["".join(f"$a{number}$ " for number in range(60_000)), r"'\'" * 60_000, r"e'\'" * 60_000],
    ids=["dollar quotes", "backslashes", "escapes"],
)
def test_quotes_without_an_end_take_linear_time(text: str) -> None:
    start = time.process_time()
    for dialect in ("postgresql", "mysql"):
        shape(f"SELECT {text}", dialect)
    assert time.process_time() - start < 2


def test_tables_of_long_statements_are_not_kept() -> None:
    before = sql_statements._tables_cached.cache_info().currsize
    tables_of(f"SELECT {', '.join(f'c{number}' for number in range(1000))} FROM t")
    assert sql_statements._tables_cached.cache_info().currsize == before


def test_statements_that_differ_in_values_have_one_shape() -> None:
    values = ", ".join(f"'{number}'" for number in range(50_000))
    long, short = (f'SELECT "a1", b2 FROM t1 WHERE x IN ({v}) LIMIT 5' for v in (values, "1, 2"))
    assert shape(long) == shape(short) == "SELECT \"a1\", b2 FROM t1 WHERE x IN ('') LIMIT ''"
    assert shape("x = %(id_1)s AND y = %s") == "x = '' AND y = ''"


def event(statement: str, database: str) -> Event:
    return Event(1, STATEMENT, statement, "sql", ("run",), 1, source=database)


@pytest.mark.parametrize(
    ("database", "table", "uri"),
    [
        ("postgresql://db:5432/shop/public", "t", "postgresql://db:5432/shop.public.t"),
        ("postgresql://db:5432/shop/public", "s.t", "postgresql://db:5432/shop.s.t"),
        ("postgresql://db:5432/shop/public", '"a b"."T"', "postgresql://db:5432/shop.a%20b.T"),
        ("mysql://db:3306/shop/", "t", "mysql://db:3306/shop.t"),
        ("mysql://db:3306/shop/", "other.t", "mysql://db:3306/other.t"),
    ],
)
def test_uri_of_a_table(database: str, table: str, uri: str) -> None:
    read, written = (
        list(events_of(event(text, database)))
        for text in (f"SELECT * FROM {table}", f"DELETE FROM {table}")
    )
    assert [(e.kind, e.where, e.owners) for e in read] == [(READ, uri, ("run",))]
    assert [(e.kind, e.where) for e in written] == [(WRITE, uri)]


def test_what_cannot_be_parsed_is_named_and_gives_no_table() -> None:
    assert not list(events_of(event("SET x = 1", "postgresql://db:5432/shop/public")))
    assert not not_parsed
    assert not list(events_of(event("CALL refresh()", "postgresql://db:5432/shop/public")))
    assert not_parsed == {"postgresql"}


@given(st.text(alphabet="selctfromjin'\"(),.;$-/* \nxy", max_size=80))
def test_any_text_is_survived(text: str) -> None:
    tables_of(shape(text, "postgresql"), "postgresql")


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT a, b FROM s.t WHERE c = 1", {"s.t": "a b c"}),
        ("SELECT x.a, y.b, z FROM t x JOIN u y ON x.id = y.id", {"t": "a id", "u": "b id"}),
        ("SELECT * FROM t", {}),
        ("SELECT count(*) FROM t", {}),
        ("INSERT INTO t (a, b) SELECT c, d FROM u", {"t": "a b", "u": "c d"}),
        ("UPDATE t SET a = 1 WHERE k = 2", {"t": "a"}),
        ("WITH c AS (SELECT a FROM t) SELECT b FROM c", {"t": "a"}),
        ("SELECT e.v FROM (SELECT v FROM t) e", {"t": "v"}),
    ],
)
def test_columns_whose_table_is_certain(statement: str, expected: dict[str, str]) -> None:
    found = tables_of(shape(statement, "postgresql"), "postgresql").columns
    named = {".".join(filter(None, table)): " ".join(columns) for table, columns in found}
    assert named == expected


def test_statements_of_a_run_that_differ_in_values_are_resolved_once() -> None:
    def resolved(number: int, *owners: str) -> int:
        text = f"select * from t where x = {number}"
        event = Event(1, STATEMENT, text, "sql", owners, 1, source="postgresql://h:1/d/s")
        return len(list(events_of(event)))

    assert [resolved(1, "one"), resolved(2, "one"), resolved(3, "other")] == [1, 0, 1]
    assert [resolved(1), resolved(2)] == [1, 1], "before a run, each time is one of its own"
