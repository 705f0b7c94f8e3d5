"""Server programs that start once a run, however many workers pytest-xdist has.

The first test that needs one starts a process that holds it, ``python -m
tests.support.shared_servers NAME FOLDER OWNER``; all workers read its address from a file in the
run's folder. It ends with the run: on SIGTERM from the process that started the workers, or when
that process is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import servers
from tests.support.locks import once
from tests.support.paths import ROOT

START_SECONDS = 2 * servers.START_SECONDS
_KINDS: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "postgresql": servers.postgresql,
    "mariadb": servers.mariadb,
    "moto": servers.moto,
    "azurite": servers.azurite,
    "gcs": servers.gcs,
}

# Kept, since Python warns of a child that is forgotten while it runs.
_holders: list[subprocess.Popen[bytes]] = []


def address_of(name: str, folder: Path) -> dict[str, Any]:
    """Return what a client needs to reach the run's server, which is started if it is not running.

    Args:
        name: One of postgresql, mariadb, moto, azurite and gcs.
        folder: The run's, which all its workers share.
    """
    told = folder / f"{name}.json"
    with once(folder, name):
        if not told.exists():
            _start(name, folder, told)
    answer: dict[str, Any] = json.loads(told.read_text())
    if "skipped" in answer:
        pytest.skip(answer["skipped"])
    if "failed" in answer:
        pytest.fail(answer["failed"])
    del answer["process"]
    return answer


def stop_all(folder: Path) -> None:
    """End the servers of a run and wait until they are gone."""
    for told in folder.glob("*.json"):
        process = json.loads(told.read_text()).get("process")
        if process is None:
            continue
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while told.exists() and time.monotonic() < deadline:
            time.sleep(0.05)


def _start(name: str, folder: Path, told: Path) -> None:
    owner = os.environ.get("PYTEST_XDIST_WORKER") and os.getppid()
    required = os.environ.get("MLFLOW_PACK_REQUIRE", "")
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        holder = subprocess.Popen(
            [sys.executable, "-m", __name__, name, str(folder), str(owner or os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=servers.clean_environment(MLFLOW_PACK_REQUIRE=required),
            cwd=ROOT,
            start_new_session=True,
        )
    _holders.append(holder)
    deadline = time.monotonic() + START_SECONDS
    while not told.exists():
        if holder.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{name} did not start:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.02)


def _hold(name: str, folder: Path, owner: int) -> None:
    """Start the server, write down where it is, and end it with the run."""
    told = folder / f"{name}.json"
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(_KINDS[name]())
            answer = {
                key: value for key, value in vars(server).items() if not key.startswith("_")
            } | {"process": os.getpid()}
        except pytest.skip.Exception as refused:
            answer = {"skipped": str(refused)}
        except pytest.fail.Exception as refused:
            answer = {"failed": str(refused)}
        new = folder / f"{name}.new"
        new.write_text(json.dumps(answer))
        os.replace(new, told)
        while "process" in answer and not done.wait(1) and _is_running(owner):
            pass
    if "process" in answer:
        told.unlink()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    _hold(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
