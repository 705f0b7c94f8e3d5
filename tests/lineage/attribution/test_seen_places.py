"""Files beyond those that a run may list: looked at in batches, and as they were when read."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from mlflow_plugins_pack.lineage.attribution.seen_places import Seen
from mlflow_plugins_pack.lineage.capture.noise_filter import NoiseFilter
from mlflow_plugins_pack.lineage.files import unpacked
from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript
from tests.support import servers


def seen(limit: int = 100, **patterns: list[str]) -> Seen:
    return Seen(limit, NoiseFilter(**patterns).data_of)


def test_what_is_no_file_or_no_data_is_left_out(tmp_path: Path) -> None:
    names = ["a.png", ".hidden", "lock.lock", "b.py", "stock"]
    for name in names:
        (tmp_path / name).write_bytes(b"12345")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    few = seen()
    for name in [*names, "folder", "pipe", "missing", "a\0b", "a.png"]:
        few.add(f"{tmp_path}/{name}")
    kept = few.look_at_all()
    assert {path.rpartition("/")[2] for path in kept} == {"a.png", "stock"}
    assert unpacked(kept[f"{tmp_path}/a.png"]) == (5, (tmp_path / "a.png").stat().st_mtime_ns)


def test_patterns_hold_for_each_of_many(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "c.py"):
        (tmp_path / name).touch()
    some = seen(exclude=[f"{tmp_path}/b*"], include=[str(tmp_path)])
    for name in ("a.csv", "b.csv", "c.py"):
        some.add(f"{tmp_path}/{name}")
    assert list(some.look_at_all()) == [f"{tmp_path}/a.csv"]


def test_full_batches_are_looked_at_at_once(tmp_path: Path) -> None:
    many = seen()
    for number in range(300):
        path = tmp_path / str(number)
        path.write_text("x" * number)
        many.add(str(path))
        if number == 280:
            for earlier in range(200):
                (tmp_path / str(earlier)).unlink()
    states = many.look_at_all()
    assert [unpacked(states[str(tmp_path / str(n))])[0] for n in range(300)] == list(range(300))


def test_there_are_bounds(tmp_path: Path) -> None:
    few = Seen(2, list, beyond=3)
    paths = [str(tmp_path / str(number)) for number in range(12)]
    for path in paths:
        Path(path).touch()
    few.exact.update(paths[:2])
    assert few.is_full()
    assert few.is_new(paths[2])
    assert not few.is_new(paths[1])
    for path in (*paths[2:11], paths[0], paths[3]):
        few.add(path)
    few.look()
    assert (len(few.more), few.dropped) == (6, 3)
    assert few.is_crowded()
    assert not few.is_new(paths[11])
    assert few.dropped == 4


def test_what_another_thread_is_looking_at_counts(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    end, begun = threading.Event(), threading.Event()

    def slowly(paths: list[str]) -> list[str]:
        if threading.current_thread() is other:
            begun.set()
            end.wait(10)
        return paths

    some = Seen(10, slowly)
    some.add(str(tmp_path / "a"))
    other = threading.Thread(target=some.look)
    other.start()
    assert begun.wait(10)
    some.add(str(tmp_path / "b"))
    assert set(some.look_at_all()) == {str(tmp_path / name) for name in "ab"}
    end.set()
    other.join()


def test_further_files_are_hashed_ahead_in_turn(tmp_path: Path) -> None:
    some = seen()
    paths = [str(tmp_path / str(number)) for number in range(5)]
    for path in paths:
        Path(path).touch()
        some.add(path)
    turns = [[path for path, _ in some.ahead(2)] for _ in range(4)]
    assert turns == [paths[:2], paths[2:4], paths[4:], []]


SCRIPT = """
import json, os, subprocess, sys, threading, mlflow
write = "import os\\nos.mkdir('images')\\n" \\
    "for i in range(400): open(f'images/{i:03}.png', 'w').write('x' * i)"
subprocess.run([sys.executable, "-S", "-c", write], check=True)
here = os.getcwd()

def read(name):
    open(name).read()

def everything(place):
    for number in range(400):
        name = f"{place}/{number:03}.png"
        if mode == "missing" and number % 4 == 3:
            try:
                open(name + ".cache")
            except OSError:
                pass
        read(name)
        if mode == "removed":
            os.remove(name)
        if mode == "rewritten":
            with open(name, "w") as file:
                file.write("other")

mode = sys.argv[1]
with mlflow.start_run() as run:
    if mode == "threads":
        threads = [threading.Thread(target=everything, args=(f"{here}/images",)) for _ in "abc"]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    elif mode == "nested":
        everything(f"{here}/images")
        with mlflow.start_run(nested=True):
            pass
    else:
        everything("images" if mode == "relative" else f"{here}/images")
print(json.dumps(run.info.run_id))
"""


@pytest.mark.parametrize(
    "mode", ["absolute", "relative", "threads", "nested", "missing", "removed", "rewritten"]
)
def test_each_file_is_as_it_was_read(
    run_script: RunScript, server: servers.MlflowServer, tmp_path: Path, mode: str
) -> None:
    outcome = run_script(
        SCRIPT.replace("sys.argv[1]", repr(mode)),
        server.url,
        MLFLOW_PACK_LINEAGE_MAX_INPUTS="50",
    )
    record = RunRecord(server.url, outcome.value)
    entry = record.entries()["images"]
    assert (entry["files"], entry["n"]) == (400, sum(range(400)))
    assert len(record.document(tmp_path)["members"][entry["u"]]) == 400
