"""Long jobs that other processes and machines do: the same answer, also when some are lost."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.maintenance import artifact_check, gc_mark, pack_check, rekey
from mlflow_plugins_pack.artifacts.maintenance.fsck import check_store
from mlflow_plugins_pack.artifacts.maintenance.gc import collect
from mlflow_plugins_pack.artifacts.maintenance.migrate import copy_artifacts
from mlflow_plugins_pack.artifacts.pieces import ExecutorWorkers, InProcess, workers
from mlflow_plugins_pack.artifacts.store.opening import open_store
from mlflow_plugins_pack.artifacts.upload import pack_writer
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from mlflow_plugins_pack.errors import ConfigurationError, StorageError, WorkersLostError
from tests.artifacts.support.commands import run_json
from tests.contracts.artifact_repository import content, new_run_uri, random_bytes


class Pickling(ThreadPoolExecutor):
    """Hands over what it runs as another process would get it."""

    def submit(self, call: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        return super().submit(_unpickled, pickle.dumps((call, arguments)))


def _unpickled(work: bytes) -> Any:
    call, arguments = pickle.loads(work)
    return pickle.loads(pickle.dumps(call(*arguments)))


def pickling() -> ExecutorWorkers:
    return ExecutorWorkers(partial(Pickling, 2), 4)


def nothing() -> None:
    """Hold no lease."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of eight runs and many packs, some of them unneeded and one damaged."""
    monkeypatch.setattr(pack_writer, "PACK_BYTES", 200_000)
    monkeypatch.setattr(pack_check, "_BATCH_PACKS", 2)
    monkeypatch.setattr(artifact_check, "_BATCH_FILES", 2)
    monkeypatch.setattr(gc_mark, "_SCOPES_TOGETHER", 3)
    monkeypatch.setattr(rekey, "_OBJECTS_TOGETHER", 3)
    root = f"cas-file://{tmp_path}/store"
    fill(root, tmp_path)
    return root


def fill(root: str, tmp_path: Path) -> None:
    shared = random_bytes(400_000)
    for number in range(8):
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        (folder / "own").write_bytes(random_bytes(300_000, seed=number + 1))
        (folder / "shared").write_bytes(shared + bytes([number]) * 1000)
        (folder / "small").write_bytes(b"small")
        repository = get_artifact_repository(new_run_uri(root))
        repository.log_artifacts(str(folder))
        if number % 3 == 0:
            repository.delete_artifacts()


def damage(tmp_path: Path) -> None:
    found = max((tmp_path / "store" / ".cas" / "packs").rglob("*"), key=lambda p: p.stat().st_size)
    data = bytearray(found.read_bytes())
    data[1000] ^= 1
    found.chmod(0o644)
    found.write_bytes(data)


@pytest.mark.parametrize("read_data", [False, True])
def test_check(root, tmp_path, read_data):
    damage(tmp_path)
    store = open_store(parse_location(root))
    alone = check_store(store, read_data=read_data)
    assert check_store(store, read_data=read_data, workers=pickling()) == alone
    assert bool(alone.problems) == read_data


def test_collection(root):
    store = open_store(parse_location(root))
    alone = collect(store, 0, dry_run=True)
    assert alone.condemned_packs > 3
    assert collect(store, 0, dry_run=True, workers=pickling()) == alone
    done = collect(store, 0, workers=pickling())
    assert done.removed_packs >= alone.condemned_packs
    assert check_store(store, read_data=True).problems == []


def test_copy(root, tmp_path):
    alone = copy_artifacts(root, f"{tmp_path}/alone")
    seen = []
    shared = copy_artifacts(
        root, f"{tmp_path}/shared", workers=pickling(), file_done=lambda: seen.append(1)
    )
    assert asdict(shared) == asdict(alone)
    assert len(seen) == alone.files == 15
    assert content(tmp_path / "shared") == content(tmp_path / "alone")
    again = copy_artifacts(root, f"{tmp_path}/shared", workers=pickling())
    assert (again.files, again.skipped) == (0, 15)


def test_rekey(tmp_path, monkeypatch):
    monkeypatch.setattr(rekey, "_OBJECTS_TOGETHER", 3)
    monkeypatch.setattr(pack_writer, "PACK_BYTES", 200_000)
    monkeypatch.setenv("ARTIFACT_KEY", "07" * 32)
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_KEYS", "env:ARTIFACT_KEY")
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_ENCRYPT", "true")
    root = f"cas-file://{tmp_path}/store"
    fill(root, tmp_path)
    store = open_store(parse_location(root))
    packs = len(store.packs.stored())
    done = rekey.rekey(store, reencrypt=True, workers=pickling())
    assert (done.data_keys, done.condemned_packs) == (2, packs)
    assert done.rewritten_objects > 8
    assert collect(store, 0, workers=pickling()).removed_packs == packs
    assert check_store(store, read_data=True, workers=pickling()).problems == []
    # All is sealed with the new key by now.
    again = rekey.rekey(store, reencrypt=True)
    assert again.condemned_packs == len(store.packs.stored())


@pytest.mark.nightly
def test_processes(root):
    """As the command does it: processes that are started for it, and import what they need."""
    alone = run_json("fsck", root, "--read-data")
    assert run_json("fsck", root, "--read-data", "--processes", "2") == alone


def test_dask(root):
    from distributed import LocalCluster

    alone = run_json("fsck", root, "--read-data")
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        assert run_json("fsck", root, "--read-data", "--dask", address) == alone


@pytest.mark.parametrize("who", [lambda: None, pickling])
def test_killed_check_goes_on(root, tmp_path, monkeypatch, who):
    damage(tmp_path)
    store = open_store(parse_location(root))
    alone = check_store(store, read_data=True)
    read, compute = pack_check._read_pack, artifact_check._problem_of_whole
    packs: list[str] = []
    files: list[bytes] = []

    def read_pack(store, key, size, read_data):
        if read_data:
            packs.append(key)
        return read(store, key, size, read_data)

    def problem_of_whole(store, entry):
        files.append(entry.sha256)
        if len(files) == 7:
            raise KeyboardInterrupt
        return compute(store, entry)

    monkeypatch.setattr(pack_check, "_read_pack", read_pack)
    monkeypatch.setattr(artifact_check, "_problem_of_whole", problem_of_whole)
    with pytest.raises(KeyboardInterrupt):
        check_store(store, read_data=True, workers=who())
    assert len(packs) == alone.packs
    packs.clear()
    assert check_store(store, read_data=True, workers=who(), resume=True) == alone
    assert len(packs) == 1  # the damaged one
    if who() is None:
        # Of the six before, none was read again; of pieces that were under way some may be.
        assert len(set(files)) == len(files) - 1
    packs.clear()
    assert check_store(store, read_data=True, resume=True) == alone
    assert len(packs) == alone.packs


# --- what is lost ---------------------------------------------------------------------------------


def _die_once(marks: str, number: int) -> int:
    """End the process the first time that the third piece is run."""
    mark = Path(marks) / str(number)
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with mark.open("a") as file:
        file.write("x")
    return number * number


def test_lost_process_costs_its_piece(tmp_path):
    found = list(workers(2, None).map(partial(_die_once, str(tmp_path)), range(12), nothing))
    assert found == [number * number for number in range(12)]
    # What was under way, at most, was done twice.
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 12 + 8


def _die(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@pytest.mark.nightly
def test_processes_that_are_lost_again_and_again(tmp_path):
    with pytest.raises(WorkersLostError, match="ended 4 times at the same piece"):
        list(workers(1, None).map(_die, range(3), nothing))


def _fail(number: int) -> int:
    if number == 2:
        raise StorageError("The storage failed.")
    return number


@pytest.mark.parametrize("who", [InProcess, pickling])
def test_failure_of_a_piece_is_the_jobs(who):
    found = who().map(_fail, range(5), nothing)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(StorageError, match="The storage failed"):
        next(found)


def test_pieces_are_made_as_they_are_needed():
    made: list[int] = []

    def pieces() -> Any:
        for number in range(1000):
            made.append(number)
            yield number

    found = ExecutorWorkers(partial(ThreadPoolExecutor, 1), 4).map(_fail, pieces(), nothing)
    assert next(found) == 0
    assert len(made) <= 5
    found.close()


def test_lease_is_held_meanwhile(monkeypatch):
    monkeypatch.setattr("mlflow_plugins_pack.artifacts.pieces._POLL_SECONDS", 0.01)
    ticks: list[int] = []

    class Slow(ThreadPoolExecutor):
        def submit(self, call: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
            return super().submit(_wait_for, ticks, *arguments)

    def opened() -> Executor:
        return Slow(1)

    assert list(ExecutorWorkers(opened, 1).map(_fail, [7], lambda: ticks.append(1))) == [7]
    assert len(ticks) >= 4


def _wait_for(ticks: list[int], value: int) -> int:
    import time

    while len(ticks) < 3:
        time.sleep(0.005)
    return value


def test_one_of_the_two():
    with pytest.raises(ConfigurationError, match="--processes or --dask"):
        workers(2, "tcp://127.0.0.1:1")
