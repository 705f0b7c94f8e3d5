"""Two servers of four workers each on one store: is any read older than an acknowledged write?

    python -m tests.artifacts.support.coherence [--operations 100000] [--clients 16] [--kills 20]

Clients write, overwrite, delete and read the same few paths, each request to a server chosen at
random and over a connection of its own. Now and then a worker is killed. What each call was
answered, and when, is checked afterwards: prints every answer that no single sequential store could
have given.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import math
import os
import random
import signal
import tempfile
import threading
import time
import urllib.parse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support import servers

PATHS = 6
ABSENT = b""


@dataclass(frozen=True)
class Call:
    """One answered call on one path.

    Attributes:
        kind: ``write``, ``delete`` or ``read``.
        path: Which file.
        value: What was written or read, each write's its own; `ABSENT` for no file.
        start, end: When it was sent and answered; the end is infinite if the answer was lost.
    """

    kind: str
    path: str
    value: bytes
    start: float
    end: float


# --- the checker ----------------------------------------------------------------------------------


def contradictions(calls: Iterable[Call]) -> Iterator[str]:
    """Yield what no single store that takes one call after the other could have answered.

    For the values of writes this is the test of Gibbons and Korach ("Testing Shared Memories",
    1997) for registers whose writes differ. Of the reads that find no file it is required that a
    deletion (or the beginning) was not surely overwritten before they began.
    """
    by_path: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        by_path[call.path].append(call)
    for path, found in by_path.items():
        yield from (f"{path}: {what}" for what in _of_values(found))
        yield from (f"{path}: {what}" for what in _of_absence(found))


def _of_values(calls: Sequence[Call]) -> Iterator[str]:
    writes = {call.value: call for call in calls if call.kind == "write"}
    reads: dict[bytes, list[Call]] = defaultdict(list)
    for call in calls:
        if call.kind == "read" and call.value != ABSENT:
            reads[call.value].append(call)
    for value in reads.keys() - writes.keys():
        yield f"{value!r} was read and never written"
    zones = []
    for value, write in writes.items():
        if write.end == math.inf and value not in reads:
            continue  # it may never have taken effect
        cluster = [write, *reads[value]]
        if any(read.end < write.start for read in cluster):
            yield f"{value!r} was read before it was written"
        first_end, last_start = min(c.end for c in cluster), max(c.start for c in cluster)
        zones.append((first_end, last_start, value))
    # A deletion must not lie wholly within the time in which a value surely was there.
    deletes = [(c.end, c.start, ABSENT) for c in calls if c.kind == "delete" and c.end < math.inf]
    surely = sorted(zone for zone in zones if zone[0] < zone[1])
    for one, other in itertools.pairwise(surely):
        if other[0] < one[1]:
            yield f"{one[2]!r} and {other[2]!r} were there in turns"
    for first_end, last_start, value in zones + deletes:
        if first_end < last_start:
            continue
        for begin, end, surely_there in surely:
            if begin < last_start and first_end < end and value != surely_there:
                yield f"{surely_there!r} was read after {value!r} had replaced it"


def _of_absence(calls: Sequence[Call]) -> Iterator[str]:
    writes = [call for call in calls if call.kind == "write" and call.end < math.inf]
    deletes = [call for call in calls if call.kind == "delete"]
    beginning = Call("delete", "", ABSENT, -math.inf, -math.inf)
    for read in calls:
        if read.kind != "read" or read.value != ABSENT:
            continue
        # The writes that surely were before the read; after the last of them a deletion is needed.
        before = max((w.start for w in writes if w.end < read.start), default=-math.inf)
        if not any(d.start < read.end and d.end >= before for d in (beginning, *deletes)):
            yield f"no file was found at {read.start:.3f}, though one had been written"


# --- the clients ----------------------------------------------------------------------------------


class Client:
    """Sends calls and remembers what came of them."""

    def __init__(self, urls: Sequence[str], number: int, count: int) -> None:
        self._urls, self._number, self._count = urls, number, count
        self._chance = random.Random(number)
        self.calls: list[Call] = []

    def run(self) -> None:
        for step in range(self._count):
            kind = self._chance.choices(("read", "write", "delete"), (5, 4, 1))[0]
            value = b"%d.%d" % (self._number, step) if kind == "write" else ABSENT
            # Some are longer than what joined segments carry.
            body = value + b" " * self._chance.choice((0, 2_000))
            self._call(kind, f"f{self._chance.randrange(PATHS)}", value, body)

    def _call(self, kind: str, path: str, value: bytes, body: bytes) -> None:
        method = {"read": "GET", "write": "PUT", "delete": "DELETE"}[kind]
        address = urllib.parse.urlsplit(self._chance.choice(self._urls)).netloc
        place = f"/api/2.0/mlflow-artifacts/artifacts/1/{1:032x}/artifacts/{path}"
        start = time.monotonic()
        try:
            connection = http.client.HTTPConnection(address, timeout=60)
            with contextlib.closing(connection):
                connection.request(method, place, body if kind == "write" else None)
                answer = connection.getresponse()
                text = answer.read()
        except (OSError, http.client.HTTPException):
            # A worker was killed: a change may or may not have taken effect, now or a moment later.
            if kind != "read":
                self.calls.append(Call(kind, path, value, start, math.inf))
            return
        end = time.monotonic()
        if kind == "read":
            if answer.status not in (200, 404):
                raise AssertionError(f"GET was answered {answer.status}: {text!r}")
            value = text.rstrip() if answer.status == 200 else ABSENT
        elif answer.status != 200:
            raise AssertionError(f"{method} was answered {answer.status}: {text!r}")
        self.calls.append(Call(kind, path, value, start, end))


def _kill_workers(found: Sequence[servers.MlflowServer], kills: int, done: threading.Event) -> None:
    """Kill workers one after the other; the server starts others in their place."""
    chance = random.Random(kills)
    for _ in range(kills):
        if done.wait(2):
            return
        server = psutil.Process(chance.choice(found).process.pid)
        workers = [p for p in server.children(recursive=True) if p.memory_info().rss > 100 << 20]
        if workers:
            os.kill(chance.choice(workers).pid, signal.SIGKILL)


def measure(
    found: Sequence[servers.MlflowServer], operations: int, clients: int, kills: int = 0
) -> list[Call]:
    """Let clients work on servers; return all their calls."""
    urls = [server.url for server in found]
    working = [Client(urls, n, operations // clients) for n in range(clients)]
    failures: list[BaseException] = []

    def run(client: Client) -> None:
        try:
            client.run()
        except BaseException as exc:
            failures.append(exc)

    done = threading.Event()
    threads = [threading.Thread(target=run, args=(client,)) for client in working]
    killing = threading.Thread(target=_kill_workers, args=(found, kills, done))
    for thread in (*threads, killing):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    killing.join()
    if failures:
        raise failures[0]
    return [call for client in working for call in client.calls]


@contextlib.contextmanager
def two_servers(
    folder: Path, root: str, workers: int, **environment: str
) -> Iterator[list[servers.MlflowServer]]:
    """Start two servers that store artifacts in one place."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                servers.mlflow_server(folder / name, workers=workers, artifacts=root, **environment)
            )
            for name in ("one", "two")
        ]


def main(operations: int, clients: int, kills: int, where: Path) -> int:
    with tempfile.TemporaryDirectory(prefix="coherence-", dir=where) as name:
        folder = Path(name)
        with two_servers(folder, f"cas-file://{folder}/store", workers=4) as found:
            began = time.monotonic()
            calls = measure(found, operations, clients, kills)
            seconds = time.monotonic() - began
    wrong = list(contradictions(calls))
    lost = sum(call.end == math.inf for call in calls)
    print(f"{len(calls)} calls in {seconds:.0f} s, {lost} without an answer")
    print("\n".join(wrong) or "no answer contradicts another one")
    return bool(wrong)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    given = parser.parse_args()
    raise SystemExit(main(given.operations, given.clients, given.kills, given.folder))
