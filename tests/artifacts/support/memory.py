"""What eight threads take at once: peak memory of one process that logs and downloads large files.

    python -m tests.artifacts.support.memory [--root cas-s3://...] [--threads 8] [--mib 1024]

Prints MiB beyond what the process has after its imports, once for logging, once for downloading.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MIB = 1 << 20


def peak_mib(process: int | str = "self") -> float:
    """Return the most memory that a process had in RAM since it began, or since `reset_peak`."""
    status = Path(f"/proc/{process}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def reset_peak(process: int | str = "self") -> float:
    """Forget the peak so far; returns the memory now, in MiB."""
    Path(f"/proc/{process}/clear_refs").write_text("5")
    return peak_mib(process)


def at_once(call: Callable[[int], None], threads: int) -> None:
    """Call with 0, 1, 2 ... in a thread each; raises what one of them failed with."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(call, range(threads)))


def write_random(path: Path, mib: int, seed: int) -> None:
    """Write a file that neither compresses nor repeats, holding one MiB at a time."""
    chance = random.Random(seed)
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(chance.randbytes(MIB))


def measure(root: str, folder: Path, threads: int) -> dict[str, float]:
    """Log the files in a folder's subfolders, one a thread, and download them again."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    warm = folder / "warm"
    warm.write_bytes(os.urandom(300_000))
    repository = get_artifact_repository(f"{root}/1/{99:032x}/artifacts")
    repository.log_artifact(str(warm))
    repository.download_artifacts("", str(folder))
    repositories = [get_artifact_repository(f"{root}/1/{n:032x}/artifacts") for n in range(threads)]

    def log(number: int) -> None:
        repositories[number].log_artifacts(str(folder / f"source-{number}"))

    def download(number: int) -> None:
        target = folder / f"target-{number}"
        target.mkdir()
        repositories[number].download_artifacts("", str(target))

    before = reset_peak()
    at_once(log, threads)
    logged = peak_mib() - before
    reset_peak()
    at_once(download, threads)
    return {"log": logged, "download": peak_mib() - before}


def run(
    root: str, folder: Path, threads: int, mib: int, environment: dict[str, str]
) -> dict[str, float]:
    """Measure in a process of its own, and compare what was downloaded."""
    for number in range(threads):
        source = folder / f"source-{number}"
        source.mkdir()
        write_random(source / "w.bin", mib, number)
    code = (
        "import json, sys; from pathlib import Path; "
        "from tests.artifacts.support.memory import measure; "
        f"print(json.dumps(measure({root!r}, Path({str(folder)!r}), {threads})))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, stdout=subprocess.PIPE, text=True
    )
    for number in range(threads):
        same = ["cmp", folder / f"source-{number}/w.bin", folder / f"target-{number}/w.bin"]
        subprocess.run(same, check=True)
    result: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return result


def main(root: str | None, threads: int, mib: int) -> None:
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        environment = {**os.environ, "MLFLOW_PACK_ARTIFACT_CACHE_DIR": f"{name}/cache"}
        peaks = run(root or f"cas-file://{name}/store", Path(name), threads, mib, environment)
        for what, peak in peaks.items():
            print(f"{threads} threads, {mib} MiB each, {what}: +{peak:.0f} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--mib", type=int, default=1024)
    arguments = parser.parse_args()
    main(arguments.root, arguments.threads, arguments.mib)
