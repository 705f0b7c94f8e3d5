"""Which run a content came from, by time and place."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow.entities import LifecycleStage, Run, RunData, RunInfo, RunStatus

from mlflow_plugins_pack.lineage.document.graph import Entry
from mlflow_plugins_pack.lineage.query.walk import could_feed, origins

CONTENT = "sha256:" + "ab" * 32


def run(name: str, started: int, ended: int | None) -> Any:
    """Return a run as MLflow gives it; times in seconds."""
    status = RunStatus.to_string(RunStatus.FINISHED if ended else RunStatus.RUNNING)
    times = {"start_time": started * 1000, "end_time": ended * 1000 if ended else None}
    info = RunInfo(name, "0", "user", status, lifecycle_stage=LifecycleStage.ACTIVE, **times)
    return Run(info, RunData())


def entry(modified: int | None = 100, uri: str = "file:///d/a.csv", **more: Any) -> Entry:
    return Entry(uri, CONTENT, 7, modified, coverage="full", **more)


@pytest.mark.parametrize(
    ("maker", "output", "expected"),
    [
        (run("before", 90, 101), entry(100), True),
        (run("still going on", 90, None), entry(100), True),
        (run("began after the reader ended", 300, 400), entry(100), False),
        (run("wrote after the reader ended", 90, 400), entry(250), False),
        (run("wrote after it was read", 110, 140), entry(130), False),
        (run("wrote elsewhere", 110, 140), entry(130, uri="file:///other/a.csv"), True),
        (run("an object store", 90, 101), entry(None), True),
    ],
    ids=lambda value: value.info.run_id if isinstance(value, Run) else "",
)
def test_nothing_is_an_origin_that_happened_later(
    maker: Any, output: Entry, expected: bool
) -> None:
    assert could_feed(maker, output, run("reader", 100, 200), entry(100)) == expected


def test_empty_files_are_copies_only_in_their_place() -> None:
    maker, reader = run("maker", 1, 2), run("reader", 3, 4)
    here = Entry("file:///d/_SUCCESS", CONTENT, 0, 1)
    elsewhere = Entry("file:///e/_SUCCESS", CONTENT, 0, 1)
    assert could_feed(maker, here, reader, here)
    assert not could_feed(maker, elsewhere, reader, here)


def test_last_writer_of_the_place_counts() -> None:
    first, second, other = run("first", 1, 2), run("second", 3, 4), run("other", 5, 6)
    makers = [
        (first, entry(10)),
        (second, entry(20)),
        (other, entry(30, uri="file:///elsewhere/a.csv")),
    ]
    assert [maker for maker, _ in origins(entry(20), makers)] == [second]
    copied = entry(40, uri="file:///copy.csv")
    assert [maker for maker, _ in origins(copied, makers)] == [second, other]


def test_table_is_made_of_all_that_was_written_to_it() -> None:
    table = Entry("postgresql://h:5432/d.s.t")
    makers = [(run("first", 1, 2), table), (run("second", 3, 4), table)]
    assert origins(table, makers) == makers
