"""A cross-section of the corpus: nothing may be missing, and nothing else may be listed.

`python -m benchmarks lineage-coverage` runs all of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.cases.lineage_coverage import (
    Outcome,
    Runner,
    Score,
    markdown,
    per_script,
    scripts,
    total,
)

CROSS_SECTION = (
    "azure_blob",
    "duckdb_database",
    "h5_ways",
    "http_requests",
    "joblib_parallel",
    "polars_lazy",
    "postgresql_statements",
    "processes_spawn",
    "pyarrow_tables",
    "subprocess_logging",
)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with Runner(tmp_path_factory.mktemp("corpus")) as running:
        yield running


@pytest.mark.parametrize("name", CROSS_SECTION)
def test_script_is_seen_exactly(runner: Runner, name: str) -> None:
    (script,) = [script for script in scripts(name) if script.path.stem == name]
    outcome = runner.run(script)
    if outcome.problem.startswith("skipped"):
        pytest.skip(outcome.problem)
    assert not outcome.problem
    assert outcome.reads.found == outcome.reads.expected
    assert outcome.writes.found == outcome.writes.expected


def test_corpus_is_as_large_as_promised_and_says_what_it_expects() -> None:
    corpus = scripts()
    assert len(corpus) >= 25
    assert set(CROSS_SECTION) <= {script.path.stem for script in corpus}
    assert all(script.reads for script in corpus)


def test_figures_are_what_they_are_called() -> None:
    one = Score({"a", "b"}, {"a", "x"})
    other = Score({"c"}, {"c"})
    assert total([one, other]) == (2 / 3, 2 / 3)
    assert per_script([one, other]) == 0.75
    (script,) = scripts("pandas_csv")
    table = markdown([Outcome(script, one, other), Outcome(script, problem="skipped: x")])
    assert "| `pandas_csv` | 1 of 2 | 1 of 1 | 1 |" in table
    assert "skipped: x" in table


def test_a_gap_is_admitted_only_if_its_cause_is_named() -> None:
    (script,) = scripts("psycopg_direct")
    gap, whole = Score({"a"}, set()), Score({"a"}, {"a"})
    assert script.blind == ("psycopg2",)
    assert Outcome(script, gap, whole, complete=False, named={"psycopg2"}).admits
    assert not Outcome(script, gap, whole, complete=False, named={"other"}).admits
    assert not Outcome(script, gap, whole, complete=True, named={"psycopg2"}).admits
    table = markdown([Outcome(script, gap, whole, complete=False, named={"psycopg2"})])
    assert "Of 1 scripts of which something is not seen, the coverage of 1 says" in table
