"""Windows: which run a read belongs to."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack.lineage.attribution.runs import Runs
from mlflow_plugins_pack.lineage.attribution.windows import Recorder
from mlflow_plugins_pack.lineage.capture.event import MOVE, READ, WRITE, Event
from mlflow_plugins_pack.lineage.document.graph import Graph
from mlflow_plugins_pack.lineage.files import FileState

STATE = FileState(1, 1, 1, 1, 1)
_sequence = itertools.count(1)


def event(kind: str, where: str, *owners: str, thread: int = 1, source: str | None = None) -> Event:
    return Event(next(_sequence), kind, where, "audit", owners, thread, STATE, source=source)


def test_preamble_is_the_first_runs_own_and_shared_with_the_rest() -> None:
    runs = Runs()
    recorder = Recorder(runs, 10)
    recorder.add(event(READ, "/pre"))
    first = recorder.window("r1", 1)
    assert set(first.own.reads) == {"/pre"}
    recorder.close("r1", 1)
    recorder.add(event(READ, "/between"))
    second = recorder.window("r2", 1)
    assert set(second.own.reads) == {"/between"}
    assert set(second.shared.reads) == {"/pre"}
    recorder.close("r2", 1)
    third = recorder.window("r3", 1)
    assert not third.own.reads
    assert set(third.shared.reads) == {"/pre"}


def test_parent_has_the_union_and_children_their_parents_reads() -> None:
    runs = Runs()
    recorder = Recorder(runs, 10)
    runs.sight("parent", None)
    recorder.add(event(READ, "/parent", "parent"))
    runs.sight("child", "parent")
    recorder.add(event(READ, "/child", "child", thread=2))
    assert set(recorder.window("parent", 1).own.reads) == {"/parent", "/child"}
    child = recorder.window("child", 2)
    assert set(child.own.reads) == {"/child"}
    assert set(child.shared.reads) == {"/parent"}
    recorder.close("child", 2)
    runs.sight("sibling", "parent")
    assert "/child" not in recorder.window("sibling", 2).shared.reads
    assert set(recorder.window("parent", 1).own.reads) == {"/parent", "/child"}


def test_written_then_read_is_intermediate_or_comes_from_another_run() -> None:
    runs = Runs()
    recorder = Recorder(runs, 10)
    recorder.add(event(WRITE, "/prepared"))
    recorder.add(event(WRITE, "/stage", "r1"))
    for path in ("/stage", "/prepared"):
        recorder.add(event(READ, path, "r1"))
    window = recorder.window("r1", 1)
    assert window.intermediate == {"/stage"}
    assert window.upstream == ()
    recorder.close("r1", 1)
    recorder.add(event(READ, "/stage", "r2"))
    window = recorder.window("r2", 1)
    assert window.intermediate == frozenset()
    assert window.upstream == ("r1",)


def test_rename_moves_the_write() -> None:
    runs = Runs()
    recorder = Recorder(runs, 10)
    recorder.add(event(WRITE, "/a.tmp", "r"))
    recorder.add(event(MOVE, "/a", "r", source="/a.tmp"))
    assert set(recorder.window("r", 1).own.writes) == {"/a"}


def test_beyond_the_limit_is_counted() -> None:
    runs = Runs()
    recorder = Recorder(runs, 3)
    for index in range(3 * 10 + 2):
        recorder.add(event(READ, f"/{index}", "r"))
        recorder.add(event(READ, f"/{index}", "r"))
    own = recorder.window("r", 1).own
    assert (len(own.reads), len(own.more)) == (3, 27)
    assert own.dropped == 4  # a place beyond all limits is not remembered, so it counts each time


def test_a_forked_child_knows_what_is_in_memory_but_not_the_runs() -> None:
    runs = Runs()
    recorder = Recorder(runs, 10)
    runs.sight("r", None)
    recorder.add(event(READ, "/a", "r"))
    recorder.forked()
    assert runs.open() == []
    assert set(recorder.window("new", 1).shared.reads) == {"/a"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["read", "close"]),
            st.sampled_from(["", "a", "b", "c"]),
            st.integers(0, 5),
            st.integers(1, 2),
        ),
        max_size=40,
    )
)
def test_what_a_run_reads_is_never_lost(steps: list[tuple[str, str, int, int]]) -> None:
    runs = Runs()
    recorder = Recorder(runs, 100)
    parents = {"a": None, "b": "a", "c": "b"}
    reads: dict[str, set[str]] = {run: set() for run in parents}
    for action, run, number, thread in steps:
        place = f"/{number}"
        if action == "read":
            if run:
                runs.sight(run, parents[run])
            recorder.add(event(READ, place, *([run] if run else []), thread=thread))
            if run:
                reads[run].add(place)
        elif run:
            window = recorder.window(run, thread)
            assert reads[run] <= set(window.own.reads)
            assert not set(window.own.reads) & set(window.shared.reads)
            recorder.close(run, thread)
            reads[run].clear()


def test_a_resumed_run_goes_on_where_it_was_and_ended_ones_are_forgotten() -> None:
    runs = Runs()
    first = runs.sight("first", "parent")
    first.base = Graph(dropped=1)
    runs.end("first")
    assert runs.is_finished("first")
    assert not runs.open()
    assert runs.sight("first").base == Graph(dropped=1)
    assert not runs.is_finished("first")
    assert [state.run_id for state in runs.open()] == ["first"]
    for number in range(2_000):
        runs.sight(f"{number}")
        runs.end(f"{number}")
    assert runs.find("1999") is not None
    assert runs.find("0") is None
    assert runs.find("first") is first


def version(kind: str, where: str, number: str | None, *owners: str) -> Event:
    return Event(next(_sequence), kind, where, "boto", owners, 1, version=number)


def test_two_versions_of_one_object_are_two_reads() -> None:
    recorder = Recorder(Runs(), 10)
    for number in ("v1", "v2", "v1"):
        recorder.add(version(READ, "s3://b/k", number, "r"))
    own = recorder.window("r", 1).own
    assert [(e.where, e.version) for e in own.reads.values()] == [
        ("s3://b/k", "v1"),
        ("s3://b/k", "v2"),
    ]


def test_only_the_version_that_a_run_wrote_is_intermediate() -> None:
    recorder = Recorder(Runs(), 10)
    recorder.add(version(WRITE, "s3://b/k", "mine", "r"))
    for number in ("theirs", "mine"):
        recorder.add(version(READ, "s3://b/k", number, "r"))
    window = recorder.window("r", 1)
    assert {window.own.reads[key].version for key in window.intermediate} == {"mine"}
    # A layer that does not know the version cannot tell them apart.
    recorder.add(version(WRITE, "https://h/x", None, "r"))
    recorder.add(version(READ, "https://h/x", "etag", "r"))
    assert "https://h/x\0etag" in recorder.window("r", 1).intermediate


def test_a_version_written_by_one_run_and_read_by_another_is_upstream() -> None:
    recorder = Recorder(Runs(), 10)
    recorder.add(version(WRITE, "s3://b/k", "v1", "r1"))
    recorder.close("r1", 1)
    recorder.add(version(READ, "s3://b/k", "v2", "r2"))
    assert recorder.window("r2", 1).upstream == ()
    recorder.add(version(READ, "s3://b/k", "v1", "r2"))
    assert recorder.window("r2", 1).upstream == ("r1",)


def test_writes_outside_of_runs_belong_to_the_next_run_as_reads_do() -> None:
    runs = Runs()
    recorder = Recorder(runs, 10)
    recorder.add(event(WRITE, "/before"))
    recorder.add(event(READ, "/before"))
    first = recorder.window("r1", 1)
    assert set(first.own.writes) == {"/before"}
    # It is an input too: another run may prepare it next time.
    assert set(first.own.reads) == {"/before"}
    assert first.intermediate == frozenset()
    recorder.close("r1", 1)
    recorder.add(event(WRITE, "/between"))
    recorder.add(event(WRITE, "/elsewhere", thread=2))
    second = recorder.window("r2", 1)
    assert set(second.own.writes) == {"/between"}
    recorder.close("r2", 1)
    assert not recorder.window("r3", 1).own.writes
    runs.sight("r4", "parent")
    recorder.add(event(WRITE, "/nested"))
    assert not recorder.window("r4", 1).own.writes


def test_a_file_that_was_renamed_outside_of_runs_is_written_under_its_new_name() -> None:
    recorder = Recorder(Runs(), 10)
    recorder.add(event(WRITE, "/a.tmp"))
    recorder.add(event(MOVE, "/a", source="/a.tmp"))
    assert set(recorder.window("r", 1).own.writes) == {"/a"}
