"""Sets a storage back, or wipes it, under running servers and their clients.

    python -m tests.artifacts.support.served_set_backs disk|s3 [--encrypted] [--changes 10]

Two servers with two workers each write to one store, for clients each of which overwrites files of
its own in two runs and reads them through the other server. Every few seconds an operator wipes the
storage, or brings it to a state that it had earlier, object by object, while the clients go on:
states from before a later one was restored are newer than what stands there. What a call wrote that
began after the last change and returned is read by every later call, some seconds after the change
at the latest, at the end by servers that have just started, and `artifacts fsck --read-data` finds
nothing missing of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import requests

from tests.artifacts.support.hosts import Operator
from tests.contracts.artifact_repository import random_bytes
from tests.support import servers

RUNS = [f"1/{number:032x}/artifacts" for number in (1, 2)]
FOLDER = "/api/2.0/mlflow-artifacts/artifacts"
CLIENTS = 4
SECONDS_TO_RECOVER = 30
# A receipt that was written while the storage was wiped is withdrawn some seconds later.
SECONDS_TO_SETTLE = 8
# Some contents return, so that their chunks are known from before a change.
CONTENTS = [b"small %d" % n for n in range(20)] + [random_bytes(90_000, seed=n) for n in range(20)]


class Trial:
    """What clients and the operator share.

    Attributes:
        change: The number of the last change; None while one is being made.
        changed: When that was, in seconds of this process.
        known: By path, what was acknowledged since then.
        wrong: What must not have happened.
        answers: How often calls ended with a status.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = urls
        self.change: int | None = 0
        self.changed = time.monotonic()
        self.known: dict[str, bytes] = {}
        self.wrong: list[str] = []
        self.answers: Counter[str] = Counter()
        self.is_over = threading.Event()

    def live(self, number: int) -> None:
        """Write files and read them until all is over; one client's thread."""
        chance, session = random.Random(number), requests.Session()
        worked = time.monotonic()
        while not self.is_over.is_set():
            path = f"{chance.choice(RUNS)}/own-{number}-{chance.randrange(3)}"
            began, data = self.change, chance.choice(CONTENTS)
            self.known.pop(path, None)
            put = session.put(self._url(chance, path), data=data, timeout=120)
            self.answers[f"PUT {put.status_code}"] += 1
            if put.ok:
                worked = time.monotonic()
            elif time.monotonic() - worked > SECONDS_TO_RECOVER:
                self.wrong.append(f"{path} could not be written any more: {put.text[:300]}")
                worked = time.monotonic()
            if not put.ok or began is None or began != self.change:
                continue
            self.known[path] = data
            got = session.get(self._url(chance, path), timeout=120)
            while got.status_code == 409 and began == self.change and self.is_settling():
                time.sleep(0.5)
                got = session.get(self._url(chance, path), timeout=120)
            self.answers[f"GET {got.status_code}"] += 1
            if began == self.change:
                self._compare(path, data, got)

    def is_settling(self) -> bool:
        """Return whether the storage was changed a moment ago."""
        return time.monotonic() - self.changed < SECONDS_TO_SETTLE

    def check(self, urls: Sequence[str], when: str) -> None:
        """Read all that is known of through each server."""
        for url in urls:
            for path, data in self.known.items():
                self._compare(f"{path} {when}", data, requests.get(f"{url}{FOLDER}/{path}"))

    def _url(self, chance: random.Random, path: str) -> str:
        return f"{chance.choice(self.urls)}{FOLDER}/{path}"

    def _compare(self, path: str, data: bytes, got: requests.Response) -> None:
        if not got.ok or got.content != data:
            said = got.text[:300] if not got.ok else f"{got.content[:20]!r}"
            self.wrong.append(f"{path}: {got.status_code} {said} instead of {data[:20]!r}")


def operate(operator: Operator, trial: Trial, changes: int) -> None:
    """Change the storage some times behind the servers."""
    chance = random.Random(0)
    kept: list[dict[str, bytes]] = []
    for number in range(1, changes + 1):
        # What was under way at the last change has come to its end.
        time.sleep(SECONDS_TO_SETTLE + chance.uniform(2, 4))
        # A copy made under way is what a backup of a running store is.
        with contextlib.suppress(Exception):
            kept.append(operator.save())
        time.sleep(chance.uniform(1, 3))
        what = chance.choice(["wipe", "restore", "restore"]) if kept else "wipe"
        trial.change = None
        trial.known.clear()
        if what == "wipe":
            operator.wipe()
        else:
            operator.restore(chance.choice(kept))
        trial.known.clear()
        trial.changed = time.monotonic()
        trial.change = number
        print(f"{what} {number}, {dict(trial.answers)}, {len(trial.wrong)} wrong", flush=True)
    time.sleep(SECONDS_TO_SETTLE + 2)


@contextlib.contextmanager
def storage(kind: str, folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Make a new store; yield its root and the settings that it needs."""
    if kind == "disk":
        yield f"cas-file://{folder}/store", {}
        return
    with servers.moto() as moto:
        yield f"cas-{moto.new_root()}", moto.environment


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["disk", "s3"])
    parser.add_argument("--encrypted", action="store_true")
    parser.add_argument("--changes", type=int, default=10)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name, storage(given.kind, Path(name)) as (root, settings):
        if given.encrypted:
            settings = {
                **settings,
                "ARTIFACT_KEY": "07" * 32,
                "MLFLOW_PACK_ARTIFACT_KEYS": "env:ARTIFACT_KEY",
                "MLFLOW_PACK_ARTIFACT_ENCRYPT": "true",
            }
        os.environ.update(settings)
        with start(root, Path(name), settings, "before") as urls:
            trial = Trial(urls)
            clients = [threading.Thread(target=trial.live, args=(n,)) for n in range(CLIENTS)]
            for client in clients:
                client.start()
            try:
                operate(Operator(root), trial, given.changes)
            finally:
                trial.is_over.set()
                for client in clients:
                    client.join()
            trial.check(urls, "at the end")
        with start(root, Path(name), settings, "after") as urls:
            trial.check(urls, "after a restart")
        found = found_by_fsck(root, trial)
    print(
        f"{given.changes} changes, {dict(trial.answers)}, {len(trial.known)} files known: "
        f"{len(trial.wrong)} wrong; fsck names {len(found)} other problems"
    )
    print("\n".join(trial.wrong + found))
    return 1 if trial.wrong else 0


def found_by_fsck(root: str, trial: Trial) -> list[str]:
    """Return what `fsck` says is gone; what was acknowledged must not be among it."""
    from tests.artifacts.support.damage import check

    problems = json.loads(check(root))["problems"]
    trial.wrong += [f"fsck: {p}" for p in problems if p["where"] in trial.known]
    return [f"fsck: {p}" for p in problems if p["where"] not in trial.known]


@contextlib.contextmanager
def start(root: str, folder: Path, settings: dict[str, str], name: str) -> Iterator[list[str]]:
    """Start two servers with two workers each; yield their addresses."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                servers.mlflow_server(
                    folder / f"{name}-{number}", workers=2, artifacts=root, **settings
                )
            ).url
            for number in range(2)
        ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
