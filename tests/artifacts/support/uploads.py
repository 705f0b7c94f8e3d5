"""Large uploads through a stock server at once: what its workers take, and whether it answers.

    python -m tests.artifacts.support.uploads [--workers 4] [--uploads 16] [--mib 1024]

Sends random bytes as any client's proxied `log_artifact` does. Prints how much memory each of the
server's processes took beyond what it had before, and how long `/health` took meanwhile.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import random
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.folder_digest import digest_files
from tests.artifacts.support.memory import MIB, at_once, peak_mib, reset_peak
from tests.support import servers


@dataclass(frozen=True)
class Outcome:
    """What a server went through.

    Attributes:
        grown_mib: Each process's peak beyond what it had before, the largest first.
        answers: How long `/health` took while uploads were under way, in seconds.
        seconds: How long the uploads took.
    """

    grown_mib: list[float]
    answers: list[float]
    seconds: float


def path_of(number: int) -> str:
    return f"1/{number:032x}/artifacts"


def send(server: servers.MlflowServer, number: int, mib: int) -> tuple[int, str]:
    """Upload one file, holding one MiB of it; returns its size and sha256."""
    chance, sha256 = random.Random(number), hashlib.sha256()

    def body() -> Iterator[bytes]:
        for _ in range(mib):
            data = chance.randbytes(MIB)
            sha256.update(data)
            yield data

    address = urllib.parse.urlsplit(server.url).netloc
    connection = http.client.HTTPConnection(address, timeout=600)
    place = f"/api/2.0/mlflow-artifacts/artifacts/{path_of(number)}/w.bin"
    connection.request("PUT", place, body(), {"Content-Length": str(mib * MIB)})
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    assert answer.status == 200, said
    return mib * MIB, sha256.hexdigest()


def ask_health(server: servers.MlflowServer, until: threading.Event, answers: list[float]) -> None:
    """Ask again and again, each time over a new connection, so that every worker is asked."""
    while not until.wait(0.02):
        began = time.monotonic()
        answer = requests.get(f"{server.url}/health", timeout=120)
        assert answer.status_code == 200
        answers.append(time.monotonic() - began)


def measure(server: servers.MlflowServer, root: str, uploads: int, mib: int) -> Outcome:
    """Upload files at once and check that they are what was sent."""
    for number in range(40):
        # Every worker imports what it needs, and opens the store.
        send(server, 1000 + number, 1)
    processes = [server.process.pid]
    processes += [
        child.pid for child in psutil.Process(server.process.pid).children(recursive=True)
    ]
    before = {process: reset_peak(process) for process in processes}
    sent: dict[int, tuple[int, str]] = {}
    answers: list[float] = []
    done = threading.Event()
    asking = threading.Thread(target=ask_health, args=(server, done, answers))
    asking.start()
    began = time.monotonic()
    try:
        at_once(lambda n: sent.update({n: send(server, n, mib)}), uploads)
    finally:
        seconds = time.monotonic() - began
        done.set()
        asking.join()
    grown = sorted((peak_mib(process) - before[process] for process in processes), reverse=True)
    for number, (size, sha256) in sent.items():
        repository = get_artifact_repository(f"{root}/{path_of(number)}")
        assert repository.content_digest() == digest_files([("w.bin", size, sha256)])
    return Outcome(grown, answers, seconds)


def main(workers: int, uploads: int, mib: int, where: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="uploads-", dir=where) as name:
        root = f"cas-file://{name}/store"
        with servers.mlflow_server(Path(name), workers=workers, artifacts=root) as server:
            outcome = measure(server, root, uploads, mib)
    print(f"{uploads} uploads of {mib} MiB, {workers} workers: {outcome.seconds:.0f} s")
    print("processes grew by " + ", ".join(f"{grown:.0f}" for grown in outcome.grown_mib) + " MiB")
    answers = sorted(outcome.answers)
    print(
        f"/health answered {len(answers)} times, in {answers[len(answers) // 2] * 1000:.0f} ms in "
        f"the middle, {answers[-1] * 1000:.0f} ms at most"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--uploads", type=int, default=16)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    main(arguments.workers, arguments.uploads, arguments.mib, arguments.folder)
