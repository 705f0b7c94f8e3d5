"""Tables of SQL statements, with the parser and with the scanner that stands in for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack.lineage.capture.libraries import sql_statements
from mlflow_plugins_pack.lineage.capture.libraries.sql_statements import (
    Tables,
    scan,
    tables_of,
)

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
        {".".join(part for part in table if part) for table in tables} for tables in found
    )
    return read, written


@pytest.mark.parametrize("statement", CASES)
def test_with_the_parser(statement: str) -> None:
    pytest.importorskip("sqlglot")
    read, written = names(tables_of(statement, "postgresql"))
    assert (read, written) == tuple(_expected(text) for text in CASES[statement])


@pytest.mark.parametrize("statement", CASES)
def test_without_the_parser(statement: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ImportError("sqlglot")

    monkeypatch.setattr(sql_statements, "_parsed", missing)
    tables_of.cache_clear()
    read, written = names(tables_of(statement, "postgresql"))
    tables_of.cache_clear()
    assert (read, written) == tuple(_expected(text) for text in CASES[statement])


def _expected(text: str) -> set[str]:
    return {text} if '"' in text else set(text.split())


@pytest.mark.parametrize("secret", ["'hunter2'", "'it''s hunter2'", "$$hunter2$$", "-- hunter2"])
def test_literals_and_comments_are_never_names(secret: str) -> None:
    assert "hunter2" not in str(scan(f"SELECT * FROM t JOIN {secret}\n"))
    assert "hunter2" not in str(tables_of(f"SELECT * FROM t WHERE x = {secret}\n", "postgresql"))


@given(st.text(alphabet="selctfromjin'\"(),.;$-/* \nxy", max_size=80))
def test_any_text_is_survived(text: str) -> None:
    scan(text)
    tables_of(text, "postgresql")
