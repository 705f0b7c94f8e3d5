"""An operator wipes the storage, or restores another state of it, under a running server and job.

After the next call everything that was acknowledged since is readable to another host, or was
refused. The server has two workers, each with a memory of its own; the job writes directly.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from tests.artifacts.support.commands import run_json
from tests.artifacts.support.hosts import fresh_host
from tests.contracts.artifact_repository import content, random_bytes
from tests.support import servers

JOB = """
import json, sys
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
for line in sys.stdin:
    uri, path = json.loads(line)
    try:
        get_artifact_repository(uri).log_artifact(path)
        print("stored", flush=True)
    except Exception as exc:
        print("refused", exc, flush=True)
"""
SIZES = (1_000, 200_000)


@dataclass
class Site:
    """A store, a server in front of it, and a job that writes to it."""

    folder: Path
    url: str
    job: subprocess.Popen[str]
    acknowledged: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    @property
    def root(self) -> str:
        return f"cas-file://{self.folder}/store"

    def log(self, run: str, *seeds: int) -> None:
        """Log files to a run, each through the server's workers and by the job."""
        for seed in seeds:
            for size in SIZES:
                data = random_bytes(size, seed=seed)
                for number in range(2):
                    name = f"server-{seed}-{size}-{number}"
                    place = f"{self.url}/api/2.0/mlflow-artifacts/artifacts/{run}/{name}"
                    # Another connection each time, so that both workers are asked.
                    answer = requests.put(place, data=data, timeout=60)
                    self._note(run, name, data, answer.status_code == 200, answer.text)
                name = f"job-{seed}-{size}"
                (self.folder / name).write_bytes(data)
                assert self.job.stdin is not None
                assert self.job.stdout is not None
                request = [f"{self.root}/{run}", str(self.folder / name)]
                self.job.stdin.write(json.dumps(request) + "\n")
                self.job.stdin.flush()
                said = self.job.stdout.readline()
                self._note(run, name, data, said.startswith("stored"), said)

    def _note(self, run: str, name: str, data: bytes, stored: bool, said: str) -> None:
        if stored:
            self.acknowledged.setdefault(run, {})[name] = data
        else:
            self.refused.append(said)

    def save(self, name: str) -> None:
        # Servers write receipts seconds after a call: a file may get its name meanwhile.
        for _ in range(5):
            with contextlib.suppress(FileNotFoundError, shutil.Error):
                shutil.copytree(self.folder / "store", self.folder / name)
                return
            shutil.rmtree(self.folder / name, ignore_errors=True)
        pytest.fail("the store keeps changing")

    def wipe(self) -> None:
        """Remove the store at once: what is removed file by file gets new files meanwhile."""
        if (self.folder / "store").exists():
            wiped = self.folder / uuid.uuid4().hex
            (self.folder / "store").rename(wiped)
            shutil.rmtree(wiped, ignore_errors=True)

    def restore(self, name: str) -> None:
        self.wipe()
        shutil.copytree(self.folder / name, self.folder / "store", dirs_exist_ok=True)

    def expect_all(self) -> None:
        for run, files in self.acknowledged.items():
            target = self.folder / uuid.uuid4().hex
            target.mkdir()
            get_artifact_repository(f"{self.root}/{run}").download_artifacts("", str(target))
            found = content(target)
            assert {name: found.get(name) for name in files} == files
        assert run_json("fsck", self.root, "--read-data")["problems"] == []


@pytest.fixture(scope="module", params=["plain", "encrypted"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp(f"site-{request.param}")
    settings = {"MLFLOW_PACK_ARTIFACT_CACHE_DIR": str(folder / "cache")}
    if request.param == "encrypted":
        settings["ARTIFACT_KEY"] = "07" * 32
        settings["MLFLOW_PACK_ARTIFACT_KEYS"] = "env:ARTIFACT_KEY"
        settings["MLFLOW_PACK_ARTIFACT_ENCRYPT"] = "true"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            servers.mlflow_server(
                folder, workers=2, artifacts=f"cas-file://{folder}/store", **settings
            )
        )
        # Its input ends with the block, and the job with its input.
        job = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", JOB],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=servers.clean_environment(**settings),
            )
        )
        yield Site(folder, server.url, job)


@pytest.fixture
def changing(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site, with a state of yesterday, and two of today of which the last is there."""
    monkeypatch.setenv("ARTIFACT_KEY", "07" * 32)
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_KEYS", "env:ARTIFACT_KEY")
    for name in ("yesterday", "noon"):
        shutil.rmtree(site.folder / name, ignore_errors=True)
    site.wipe()
    site.acknowledged.clear()
    site.refused.clear()
    fresh_host(monkeypatch, tmp_path)
    site.log(RUNS[0], 1)
    site.save("yesterday")
    site.log(RUNS[0], 2)
    site.log(RUNS[1], 3)
    site.save("noon")
    site.log(RUNS[0], 4)
    # What is gone with the change was the operator's decision.
    site.acknowledged.clear()
    site.refused.clear()
    return site


RUNS = tuple(f"1/{number:032x}/artifacts" for number in range(2))


def wipe(site: Site) -> None:
    site.wipe()


def set_back(site: Site) -> None:
    site.restore("yesterday")


def set_back_and_forward(site: Site) -> None:
    """Restored to an older state, used, and then to a newer one than the processes know."""
    site.restore("yesterday")
    site.log(RUNS[0], 5)
    site.restore("noon")
    site.acknowledged.clear()


@pytest.mark.parametrize("change", [wipe, set_back, set_back_and_forward])
def test_acknowledged_is_readable(
    changing: Site, change: Callable[[Site], None], tmp_path, monkeypatch
):
    change(changing)
    for run in RUNS:
        changing.log(run, 1, 6)
    fresh_host(monkeypatch, tmp_path)
    changing.expect_all()
    assert sum(map(len, changing.acknowledged.values())) >= 16
    # Once a call has been refused, its process knows the store as it is now.
    assert len(changing.refused) <= 8, changing.refused
