"""What one call through a server costs in runs of 100 to 100,000 files, however they came there.

A run is made by one call or file by file; then single files are read and written and a folder of
100 is listed, again and again, through a server that has used the run before.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import random
import statistics
import tempfile
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cases.artifacts_proxied import processor_seconds
from benchmarks.frame import PACK, STOCK, Options, Survey, stopwatch
from benchmarks.targets import RequestCounter, Target, target
from tests.support import servers

SIZES = (100, 1_000, 10_000)
LARGEST = 100_000
"""Takes hours: only if it is asked for by ``--only 100000``."""
FOLDER_FILES = 100
FILE_BYTES = 3_000
CALLS = 40

_API = "/api/2.0/mlflow-artifacts/artifacts"


@dataclass(frozen=True)
class _Cost:
    """Medians of one kind of call: wall and server's processor milliseconds, storage requests."""

    wall_ms: float
    processor_ms: float
    requests: float

    def __str__(self) -> str:
        return f"{self.wall_ms:.1f} / {self.processor_ms:.1f} / {self.requests:.1f}"


def _name(number: int) -> str:
    return f"d{number // FOLDER_FILES:04}/f{number:06}"


class _Server:
    """One server and a connection to it."""

    def __init__(self, server: servers.MlflowServer, counter: RequestCounter) -> None:
        self._server, self._counter = server, counter
        self.connect()

    def connect(self) -> None:
        """Open a new connection: the server closes one that is idle for some seconds."""
        netloc = urllib.parse.urlsplit(self._server.url).netloc
        self._connection = http.client.HTTPConnection(netloc, timeout=300)

    def ask(self, method: str, path: str, body: bytes | None = None) -> None:
        self._connection.request(method, path, body)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")

    def cost(self, call: Callable[[], None]) -> _Cost:
        """Call again and again, over one connection to one worker, which has used the run."""
        self.connect()
        call()
        self._counter.since()
        before, walls = processor_seconds(self._server), []
        for _ in range(CALLS):
            with stopwatch() as watch:
                call()
            walls.append(watch.wall_seconds * 1000)
        used = (processor_seconds(self._server) - before) * 1000 / CALLS
        return _Cost(statistics.median(walls), used, self._counter.since().total() / CALLS)


def _fill_at_once(root: str, scheme_prefix: str, run: str, count: int, folder: Path) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    chance = random.Random(count)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for number in range(count):
            path = Path(name) / _name(number)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(chance.randbytes(FILE_BYTES))
        get_artifact_repository(f"{scheme_prefix}{root}/{run}").log_artifacts(name)


def _fill_singly(root: str, run: str, count: int) -> None:
    """Log file by file, as servers do, but without one, which takes longer than the rest."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    chance = random.Random(count)
    repository = get_artifact_repository(f"cas-{root}/{run}")
    for number in range(count):
        folder, _, name = _name(number).partition("/")
        data = io.BytesIO(chance.randbytes(FILE_BYTES))
        repository.log_artifact_from_stream(data, name, folder)


def _measure(server: _Server, run: str, count: int) -> tuple[_Cost, _Cost, _Cost]:
    chance = random.Random(1)

    def get() -> None:
        server.ask("GET", f"{_API}/{run}/{_name(chance.randrange(count))}")

    def put() -> None:
        name = f"new/{chance.randrange(10**9)}"
        server.ask("PUT", f"{_API}/{run}/{name}", chance.randbytes(FILE_BYTES))

    def listing() -> None:
        path = _name(chance.randrange(count)).partition("/")[0]
        server.ask("GET", f"{_API}?path={run}/{path}")

    return server.cost(get), server.cost(put), server.cost(listing)


def _run_side(
    side: str, place: Target, folder: Path, sizes: list[int], progress: Callable[[str], None]
) -> dict[tuple[str, int], tuple[_Cost, _Cost, _Cost]]:
    found = {}
    root, prefix = place.new_root(), "cas-" if side == PACK else ""
    with servers.mlflow_server(
        folder / side,
        artifacts=prefix + root,
        **place.environment,
        MLFLOW_PACK_ARTIFACT_CACHE_DIR=str(folder / "cache"),
    ) as started:
        counter = place.requests(root)
        if counter is None:
            raise RuntimeError("this storage counts no requests")
        server = _Server(started, counter)
        for number, count in enumerate(sizes):
            for how in ("one call", "one by one") if side == PACK else ("one call",):
                run = f"1/{number * 2 + (how == 'one call'):032x}/artifacts"
                if how == "one call":
                    _fill_at_once(root, prefix, run, count, folder)
                else:
                    _fill_singly(root, run, count)
                found[how, count] = _measure(server, run, count)
                costs = ", ".join(map(str, found[how, count]))
                progress(f"{side}, {count} files, {how}: {costs}")
    return found


def _run(options: Options, only: str) -> str:
    sizes = [LARGEST] if only == str(LARGEST) else [options.count(size) for size in SIZES]
    with contextlib.ExitStack() as stack:
        name = tempfile.TemporaryDirectory(dir=options.work, prefix="benchmark-")
        folder = Path(stack.enter_context(name))
        place = stack.enter_context(target("s3", folder))
        found = {
            side: _run_side(side, place, folder, sizes, options.progress) for side in (STOCK, PACK)
        }
    lines = [
        f"Wall ms / server's processor ms / requests to S3 of one of {CALLS} calls; on loopback.",
        "",
        "| files in the run | | GET of a file | PUT of a file | list of a folder of 100 |",
        "|---|---|---|---|---|",
    ]
    for count in sizes:
        for side, results in found.items():
            for how in ("one call", "one by one"):
                if (how, count) in results:
                    label = f"pack, made by {how}" if side == PACK else side
                    costs = " | ".join(map(str, results[how, count]))
                    lines.append(f"| {count:,} | {label} | {costs} |")
    return "\n".join(lines)


SURVEY = Survey(
    "artifacts-growth", "what a call through a server costs as its run grows to 10,000 files", _run
)
