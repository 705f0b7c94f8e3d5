"""Many writers of one run: does each read what it wrote, right after it wrote it, and at the end?

    python -m tests.artifacts.support.stress disk  [--writers 8] [--calls 2000] [--where FOLDER]
    python -m tests.artifacts.support.stress proxy [--servers 3] [--workers 4] ...
    python -m tests.artifacts.support.stress s3    [--writers 8] [--calls 100]

Every writer is a process that overwrites, and now and then deletes, a file of its own, in a run
that all of them share, and reads it after each call. `disk` writes to a local store; `proxy` goes
through several servers with several workers each, and reads from another one than it wrote to;
`s3` has a server that answers 503 to one PUT of a manifest in ten, answers others late, and loses
the answers of some that took effect, so that they are repeated.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import requests
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from tests.support import servers
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.support.paths import ROOT

RUN = f"1/{'5' * 32}/artifacts"
DELETE_EVERY = 50
FOLDER = "/api/2.0/mlflow-artifacts/artifacts"


class Direct:
    """Writes to the storage itself."""

    def __init__(self, root: str) -> None:
        self._repository = get_artifact_repository(f"{root}/{RUN}")

    def put(self, name: str, data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / name).write_bytes(data)
            self._repository.log_artifact(str(Path(folder) / name), "d")

    def get(self, name: str) -> bytes | None:
        if name not in {
            info.path.rpartition("/")[2] for info in self._repository.list_artifacts("d")
        }:
            return None
        with tempfile.TemporaryDirectory() as folder:
            return Path(self._repository.download_artifacts(f"d/{name}", folder)).read_bytes()

    def delete(self, name: str) -> None:
        self._repository.delete_artifacts(f"d/{name}")


class Proxied:
    """Goes through servers, each call through the next one."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls, self._calls = urls, 0
        self._session = requests.Session()

    def _request(self, method: str, name: str, data: bytes | None = None) -> requests.Response:
        self._calls += 1
        url = self._urls[self._calls % len(self._urls)]
        return self._session.request(
            method, f"{url}{FOLDER}/{RUN}/d/{name}", data=data, timeout=120
        )

    def put(self, name: str, data: bytes) -> None:
        self._request("PUT", name, data).raise_for_status()

    def get(self, name: str) -> bytes | None:
        answer = self._request("GET", name)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer.content

    def delete(self, name: str) -> None:
        self._request("DELETE", name).raise_for_status()


def write(client: Direct | Proxied, number: int, calls: int) -> None:
    """Change a file and read it, again and again; print what was wrong, and the last content."""
    wrong: list[str] = []
    refused = 0
    name, expected = f"own-{number}.txt", None
    for call in range(calls):
        value = None if call % DELETE_EVERY == DELETE_EVERY - 1 else f"{number}:{call}".encode()
        try:
            if value is None:
                client.delete(name)
            else:
                client.put(name, value)
        except Exception as exc:
            refused += 1
            print(f"refused: {exc}", file=sys.stderr)
            expected = client.get(name)
            continue
        expected = value
        found = client.get(name)
        if found != expected:
            wrong.append(f"call {call}: {found!r} instead of {expected!r}")
    print(f"{len(wrong)} {refused} {'' if expected is None else expected.decode()}")
    print("\n".join(wrong))


def stress(target: Sequence[str], writers: int, calls: int, **environment: str) -> int:
    """Run the writers; return how many calls were undone or not seen.

    Args:
        target: A store's root, or the addresses of servers.
        writers: How many processes.
        calls: How many changes each makes.
        environment: Their settings.
    """
    began = time.monotonic()
    environment["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    command = [sys.executable, "-m", "tests.artifacts.support.stress", "writer", *target]
    running = [
        subprocess.Popen(
            [*command, "--number", str(number), "--calls", str(calls)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=servers.clean_environment(**environment),
        )
        for number in range(writers)
    ]
    lost = refused = 0
    client = client_of(target)
    said = [process.communicate()[0] for process in running]
    for number, (process, text) in enumerate(zip(running, said, strict=True)):
        assert process.returncode == 0, text
        first, *wrong = text.splitlines()
        count, failed, last = first.split(" ", 2)
        lost, refused = lost + int(count), refused + int(failed)
        found = client.get(f"own-{number}.txt")
        if (found or b"").decode() != last:
            lost += 1
            wrong.append(f"at the end {found!r} instead of {last!r}")
        print("\n".join(wrong), end="")
    passed = time.monotonic() - began
    print(f"{writers} x {calls} calls: {lost} lost, {refused} refused, {passed:.0f} s", flush=True)
    return lost


def client_of(target: Sequence[str]) -> Direct | Proxied:
    return Proxied(target) if target[0].startswith("http") else Direct(target[0])


@contextlib.contextmanager
def failing_s3(requests_in_all: int) -> Iterator[tuple[str, dict[str, str]]]:
    """An S3 server whose manifests are hard to write; gives a root and the settings for it."""
    with servers.moto() as moto, fault_proxy(moto.environment["MLFLOW_S3_ENDPOINT_URL"]) as proxy:
        root = f"cas-{moto.new_root()}"
        proxy.seconds_per_answer = 0.3
        proxy.faults += plan_faults(requests_in_all)
        yield root, {**moto.environment, "MLFLOW_S3_ENDPOINT_URL": proxy.url}
        report(proxy)


def plan_faults(requests_in_all: int) -> list[Fault]:
    chance = random.Random(0)
    return [
        Fault(what, "PUT", "/.m/", after=at)
        for at in range(10, requests_in_all, 10)
        for what in [chance.choice(["slow down", "slow down", "no answer", "cut answer", "slow"])]
    ]


def report(proxy: FaultProxy) -> None:
    print(f"{len(proxy.done)} PUTs of manifests failed, were late, or lost their answers")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("where", choices=["disk", "proxy", "s3", "writer"])
    parser.add_argument("target", nargs="*")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--number", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the store goes")
    given = parser.parse_args(arguments)
    if given.where == "writer":
        write(client_of(given.target), given.number, given.calls)
        return 0
    if given.where == "s3":
        with failing_s3(3 * given.writers * given.calls) as (root, environment):
            os.environ.update(environment)
            return stress([root], given.writers, given.calls, **environment)
    with tempfile.TemporaryDirectory(dir=given.folder) as name, contextlib.ExitStack() as stack:
        root = f"cas-file://{name}/store"
        if given.where == "disk":
            return stress([root], given.writers, given.calls)
        urls = [
            stack.enter_context(
                servers.mlflow_server(
                    Path(name) / f"server-{number}", workers=given.workers, artifacts=root
                )
            ).url
            for number in range(given.servers)
        ]
        return stress(urls, given.writers, given.calls)


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
