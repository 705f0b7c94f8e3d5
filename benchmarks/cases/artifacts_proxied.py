"""Artifacts through the server, as most installations send them: stock clients, four workers.

Two real ``mlflow server``, one whose destination is stock's repository and one whose destination is
ours, in front of the same storage. The clients are processes with stock's own repository for a
server's artifacts; one alone, or eight at once that share the same files between them.
"""

from __future__ import annotations

import contextlib
import http.client
import multiprocessing
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import psutil

from benchmarks.cases.artifacts import KINDS, checkpoints, expect_same, models
from benchmarks.frame import PACK, STOCK, Case, Figure, Options, Sample, interleave, stopwatch
from benchmarks.targets import Target, target
from tests.support import servers

WORKERS = 4
"""MLflow's own default."""
AT_ONCE = 8

KIB, MIB = 1024, 1024 * 1024
Job = tuple[str, Path]
"""A run's place on the server, and the folder that is logged to it."""
Maker = Callable[[Options, Path, int], Iterator[Path]]
"""Makes the folders to log, one a run, for so many clients."""


def _many_files(
    count: int, size: int, options: Options, folder: Path, clients: int
) -> Iterator[Path]:
    random = np.random.default_rng(size)
    for client in range(clients):
        path = folder / f"client-{client}"
        path.mkdir()
        for index in range(client, options.count(count), clients):
            (path / f"{index:04}.bin").write_bytes(random.bytes(size))
        yield path


def _one_file(options: Options, folder: Path, clients: int) -> Iterator[Path]:
    random = np.random.default_rng(1)
    for client in range(clients):
        path = folder / f"client-{client}"
        path.mkdir()
        with (path / "weights.bin").open("wb") as file:
            for _ in range(max(1, options.count(1024) // clients)):
                file.write(random.bytes(MIB))
        yield path


def _steps(
    make: Callable[[Options, Path], Iterator[Path]], options: Options, folder: Path, _clients: int
) -> Iterator[Path]:
    yield from make(options, folder)


# --- what a client does, in a process of its own --------------------------------------------------


def _each(action: Callable[[str, str, Path], None], url: str, jobs: list[Job]) -> None:
    for place, folder in jobs:
        action(url, place, folder)


def _repository(url: str, place: str):  # type: ignore[no-untyped-def] # stock's, untyped
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(f"mlflow-artifacts:/{place}", tracking_uri=url)


def _log(url: str, place: str, folder: Path) -> None:
    _repository(url, place).log_artifacts(str(folder))


def _download(url: str, place: str, folder: Path) -> None:
    _repository(url, place).download_artifacts("", str(folder))


def _list(url: str, place: str, _folder: Path) -> None:
    _repository(url, place).list_artifacts()


# --- measuring ------------------------------------------------------------------------------------


def processor_seconds(server: servers.MlflowServer) -> float:
    """Return the processor time of a server and all its workers."""
    root = psutil.Process(server.process.pid)
    return sum(
        times.user + times.system
        for times in (process.cpu_times() for process in (root, *root.children(recursive=True)))
    )


class _Side:
    """One server, its storage and the clients."""

    def __init__(
        self,
        place: Target,
        root: str,
        server: servers.MlflowServer,
        clients: list[Executor],
    ) -> None:
        self._place, self._root, self._server, self._clients = place, root, server, clients
        self._requests = place.requests(root)
        self._runs = 0

    def _act(
        self, action: Callable[[str, str, Path], None], jobs: list[Job]
    ) -> tuple[float, float, int]:
        """Return wall time, the server's processor time and the number of storage requests."""
        if self._requests is not None:
            self._requests.since()
        before = processor_seconds(self._server)
        with stopwatch() as watch:
            waiting = [
                client.submit(_each, action, self._server.url, jobs[number :: len(self._clients)])
                for number, client in enumerate(self._clients)
            ]
            for future in waiting:
                future.result()
        used = processor_seconds(self._server) - before
        count = self._requests.since().total() if self._requests is not None else 0
        return watch.wall_seconds, used, count

    def warm_up(self) -> None:
        """Have every worker import what it needs and open the store.

        Which worker takes a connection is left to chance.
        """
        netloc = urllib.parse.urlsplit(self._server.url).netloc
        place = f"/api/2.0/mlflow-artifacts/artifacts/1/{0:032x}/artifacts"
        for number in range(8 * WORKERS):
            connection = http.client.HTTPConnection(netloc, timeout=300)
            for method, path in (
                ("PUT", f"{place}/{number}"),
                ("GET", f"{place}/{number}"),
            ):
                connection.request(method, path, bytes(40 * KIB) if method == "PUT" else None)
                if connection.getresponse().read() and method == "PUT":
                    raise RuntimeError("a file could not be logged")
            connection.close()

    def measure(self, maker: Maker, options: Options, work: Path) -> Sample:
        """Log, list, download and compare once."""
        with tempfile.TemporaryDirectory(dir=work) as name:
            source, copy = Path(name) / "source", Path(name) / "copy"
            source.mkdir()
            jobs, goals, files = [], [], 0
            stored = self._place.stored_bytes(self._root)
            up = up_processor = 0.0
            up_requests = 0
            # A batch is made when the one before is logged, so that steps that grow out of each
            # other are there one at a time.
            made = maker(options, source, len(self._clients))
            while batch := list(islice(made, len(self._clients))):
                new: list[Job] = []
                for folder in batch:
                    self._runs += 1
                    new.append((f"1/{self._runs:032x}/artifacts", folder))
                    goals.append((new[-1][0], copy / str(len(goals))))
                    goals[-1][1].mkdir(parents=True)
                    files += sum(1 for path in folder.rglob("*") if path.is_file())
                seconds, processor, requests = self._act(_log, new)
                up, up_processor = up + seconds, up_processor + processor
                up_requests += requests
                jobs += new
            stored = self._place.stored_bytes(self._root) - stored
            listing, _, list_requests = self._act(_list, jobs)
            down, down_processor, down_requests = self._act(_download, goals)
            for (_, folder), (_, goal) in zip(jobs, goals, strict=True):
                expect_same(folder, goal)
        return {
            "up": up,
            "up, server's processor": up_processor,
            "up, requests a file": up_requests / files,
            "down": down,
            "down, server's processor": down_processor,
            "down, requests a file": down_requests / files,
            "listing": listing / len(jobs) * 1000,
            "listing, requests": list_requests / len(jobs),
            "stored": stored,
        }


def _run(kind: str, maker: Maker, clients: int, options: Options, blocks: int) -> list[Figure]:
    figures = [
        Figure("up", "s", goal=">= 1x"),
        Figure("up, server's processor", "s"),
        Figure("up, requests a file", ""),
        Figure("down", "s", goal=">= 1x"),
        Figure("down, server's processor", "s"),
        Figure("down, requests a file", ""),
        Figure("listing", "ms", goal=">= 1x"),
        Figure("listing, requests", ""),
        Figure("stored", "B"),
    ]
    if kind == "disk":
        figures = [figure for figure in figures if "requests" not in figure.name]
    with contextlib.ExitStack() as stack:
        name = tempfile.TemporaryDirectory(dir=options.work, prefix="benchmark-")
        folder = Path(stack.enter_context(name))
        place = stack.enter_context(target(kind, folder))
        processes: list[Executor] = [
            stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
            for _ in range(clients)
        ]
        sides: dict[str, Callable[[], Sample]] = {}
        for side, prefix in ((STOCK, ""), (PACK, "cas-")):
            root = place.new_root()
            server = stack.enter_context(
                servers.mlflow_server(
                    folder / side,
                    artifacts=prefix + root,
                    workers=WORKERS,
                    **place.environment,
                    MLFLOW_PACK_ARTIFACT_CACHE_DIR=str(folder / "cache"),
                )
            )
            opened = _Side(place, root, server, processes)
            opened.warm_up()
            sides[side] = partial(opened.measure, maker, options, folder)
        return interleave(sides, figures, blocks, options.progress)


_STORIES: tuple[tuple[str, str, Maker], ...] = (
    ("tiny", "300 files of 200 B", partial(_many_files, 300, 200)),
    ("small", "2,000 files of 20 KiB", partial(_many_files, 2000, 20 * KIB)),
    ("models", "50 scikit-learn model folders", partial(_steps, models)),
    ("checkpoints", "10 checkpoints of 200 MiB, 1 % changed", partial(_steps, checkpoints)),
    ("file", "1 GiB, one file a client", _one_file),
)

CASES = tuple(
    Case(
        f"artifacts-proxied-{name}{'-8' if clients > 1 else ''}-{kind}",
        f"{summary} through the server, {'8 clients' if clients > 1 else 'one client'}, {where}",
        5,
        partial(_run, kind, maker, clients),
    )
    for kind, where in KINDS.items()
    for name, summary, maker in _STORIES
    for clients in (1, AT_ONCE)
)
