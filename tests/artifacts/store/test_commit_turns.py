"""Threads of one process that commit to one scope at the same time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest

from mlflow_plugins_pack.artifacts.format.manifest import Folder, Operation
from mlflow_plugins_pack.artifacts.store.commit_turns import CommitTurns
from mlflow_plugins_pack.errors import ArtifactLockedError, StorageUnavailableError


class Entries:
    """Takes what is committed, the first time only once it is told to go on."""

    def __init__(self) -> None:
        self.committed: list[list[str]] = []
        self.is_held = threading.Event()
        self.may_go_on = threading.Event()
        self.error: BaseException | None = None

    def commit(self, operations: Sequence[Operation]) -> None:
        if not self.is_held.is_set():
            self.is_held.set()
            assert self.may_go_on.wait(30)
        paths = [operation.path for operation in operations]
        if "locked" in paths:
            raise ArtifactLockedError("It is locked. Nothing was changed.")
        if len(paths) > 1 and self.error is not None:
            raise self.error
        self.committed.append(paths)


def run_beside_a_slow_one(turns: CommitTurns, entries: Entries, paths: list[str]) -> list[object]:
    """Commit one path, and the others while it is under way; return what each thread got."""

    def commit(path: str) -> object:
        try:
            turns.together("scope", [Folder(path)], entries.commit)
        except (ArtifactLockedError, StorageUnavailableError, KeyboardInterrupt) as exc:
            return type(exc)
        return "done"

    with ThreadPoolExecutor(len(paths) + 1) as pool:
        first = pool.submit(commit, "first")
        assert entries.is_held.wait(30)
        others = [pool.submit(commit, path) for path in paths]
        turn = turns._turns["scope"]
        while len(turn.waiting) < len(paths):
            pass
        entries.may_go_on.set()
        return [future.result(30) for future in (first, *others)]


def test_what_waits_goes_into_one_entry():
    turns, entries = CommitTurns(), Entries()
    results = run_beside_a_slow_one(turns, entries, ["a", "b", "c"])
    assert results == ["done"] * 4
    assert [sorted(paths) for paths in entries.committed] == [["first"], ["a", "b", "c"]]
    assert turns._turns == {}


def test_what_is_locked_fails_alone():
    turns, entries = CommitTurns(), Entries()
    results = run_beside_a_slow_one(turns, entries, ["a", "locked", "c"])
    assert results == ["done", "done", ArtifactLockedError, "done"]
    assert sorted(chain.from_iterable(entries.committed)) == ["a", "c", "first"]


@pytest.mark.parametrize("error", [StorageUnavailableError("It failed."), KeyboardInterrupt()])
def test_what_fails_fails_for_all_that_went_with_it(error):
    turns, entries = CommitTurns(), Entries()
    entries.error = error
    results = run_beside_a_slow_one(turns, entries, ["a", "b"])
    assert results[0] == "done"
    assert set(results[1:]) <= {StorageUnavailableError, KeyboardInterrupt}
    assert entries.committed == [["first"]]
    assert turns._turns == {}


def test_few_enough_for_one_entry(monkeypatch):
    monkeypatch.setattr("mlflow_plugins_pack.artifacts.store.commit_turns._MOST_OPERATIONS", 2)
    turns, entries = CommitTurns(), Entries()
    assert run_beside_a_slow_one(turns, entries, ["a", "b", "c", "d", "e"]) == ["done"] * 6
    assert max(map(len, entries.committed)) == 2
    assert sorted(chain.from_iterable(entries.committed)) == ["a", "b", "c", "d", "e", "first"]
