"""Four processes log, read, delete and collect in one store for a while; then all is checked.

    python -m tests.artifacts.support.soak [--minutes 10] [--root cas-file:///...]

Each process has caches of its own, as on a host of its own. One of the four is killed without
warning now and then and started again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROCESSES = 4


def live(root: str, number: int, folder: Path, seconds: float) -> None:
    """Log files, read them back, delete some; the second process also collects."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    from mlflow_plugins_pack.artifacts.maintenance import gc
    from mlflow_plugins_pack.artifacts.store.opening import open_store
    from mlflow_plugins_pack.artifacts.uri.location import parse_location
    from mlflow_plugins_pack.errors import CollectionRunningError

    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    journal = folder / "journal.jsonl"
    turn = len(journal.read_text().splitlines()) if journal.exists() else 0
    while time.monotonic() < deadline:
        turn += 1
        repository = get_artifact_repository(f"{root}/1/{number:08x}{turn % 12:024x}/artifacts")
        seed = random.randrange(40)
        name = f"f{seed % 5}"
        data = random.Random(seed).randbytes(300_000) + random.Random(seed // 2).randbytes(300_000)
        (folder / name).write_bytes(data)
        write(journal, [turn % 12, name, None])
        repository.log_artifact(str(folder / name))
        write(journal, [turn % 12, name, seed])
        assert Path(repository.download_artifacts(name)).read_bytes() == data, (number, turn)
        if random.random() < 0.3:
            write(journal, [turn % 12, "", None])
            repository.delete_artifacts()
            write(journal, [turn % 12, "", -1])
        if number == 1 and turn % 5 == 0:
            try:
                gc.collect(open_store(parse_location(root)), random.choice([0, 0, 2]))
            except CollectionRunningError:
                continue


def write(journal: Path, line: list[object]) -> None:
    with journal.open("a") as file:
        file.write(json.dumps(line) + "\n")


def expected(journal: Path) -> dict[int, dict[str, int] | None]:
    """Return per run which content each file must have; None where a call did not return."""
    runs: dict[int, dict[str, int] | None] = {}
    pending = None
    for text in journal.read_text().splitlines():
        run, name, seed = json.loads(text)
        if pending is not None and seed is None:
            runs[pending] = None
        pending = run if seed is None else None
        files = runs.setdefault(run, {})
        if files is None or seed is None:
            continue
        if seed < 0:
            files.clear()
        else:
            files[name] = seed
    if pending is not None:
        runs[pending] = None
    return runs


def check(root: str, folder: Path) -> int:
    """Compare what is stored with the journals; returns the number of files compared."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    compared = 0
    for number in range(PROCESSES):
        journal = folder / str(number) / "journal.jsonl"
        for run, files in expected(journal).items():
            repository = get_artifact_repository(f"{root}/1/{number:08x}{run:024x}/artifacts")
            local = Path(repository.download_artifacts(""))
            if files is None:
                continue
            assert {p.name for p in local.iterdir()} == set(files), (number, run)
            for name, seed in files.items():
                first, second = random.Random(seed), random.Random(seed // 2)
                data = first.randbytes(300_000) + second.randbytes(300_000)
                assert (local / name).read_bytes() == data, (number, run, name)
                compared += 1
    return compared


def main(minutes: float, root: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        root = root or f"cas-file://{folder}/store"
        subprocess.run(
            [sys.executable, "-m", "mlflow_plugins_pack.cli", "artifacts", "init", root],
            check=True,
        )
        end = time.monotonic() + minutes * 60
        running: dict[int, subprocess.Popen[bytes]] = {}
        kills = 0

        def start(number: int) -> None:
            environment = {
                **os.environ,
                "MLFLOW_PACK_ARTIFACT_CACHE_DIR": str(folder / f"cache-{number}"),
            }
            seconds = max(1.0, end - time.monotonic())
            call = f"live({root!r}, {number}, Path({str(folder / str(number))!r}), {seconds})"
            code = (
                f"from pathlib import Path; from tests.artifacts.support.soak import live; {call}"
            )
            running[number] = subprocess.Popen([sys.executable, "-c", code], env=environment)

        for number in range(PROCESSES):
            start(number)
        try:
            while time.monotonic() < end:
                time.sleep(min(10, max(0.1, end - time.monotonic())))
                for number, process in list(running.items()):
                    if process.poll() not in (None, 0):
                        raise SystemExit(f"process {number} failed: {process.returncode}")
                if time.monotonic() < end - 15:
                    victim = random.randrange(PROCESSES)
                    running[victim].send_signal(signal.SIGKILL)
                    running[victim].wait()
                    kills += 1
                    start(victim)
            for number, process in running.items():
                if process.wait(120) != 0:
                    raise SystemExit(f"process {number} failed: {process.returncode}")
        finally:
            for process in running.values():
                process.kill()
        compared = check(root, folder)
        fsck = [sys.executable, "-m", "mlflow_plugins_pack.cli", "artifacts"]
        # A killed collection's lease runs out after ten minutes; the check needs none.
        subprocess.run([*fsck, "fsck", "--read-data", "--repair-index", root], check=True)
        turns = sum(
            len((folder / str(n) / "journal.jsonl").read_text().splitlines())
            for n in range(PROCESSES)
        )
        print(f"{minutes} minutes, {turns} journal lines, {kills} kills: {compared} files equal")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--root")
    arguments = parser.parse_args()
    main(arguments.minutes, arguments.root)
