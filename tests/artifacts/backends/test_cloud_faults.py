"""The main faults once more, with Azure's and Google's libraries, which fail in their own ways."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.backends import azure, gs
from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.errors import StorageUnavailableError
from tests.artifacts.support.commands import run_json
from tests.artifacts.support.hosts import DATA, expect_good, fresh_host
from tests.contracts.artifact_repository import listing, new_run_uri
from tests.support import servers
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy


@pytest.fixture(params=["azurite", "gcs"])
def server(request: pytest.FixtureRequest) -> servers.ObjectStore:
    server: servers.ObjectStore = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def upload(server: servers.ObjectStore) -> str:
    """The method of the request with which an object is written."""
    return "POST" if server.scheme == "gs" else "PUT"


@pytest.fixture
def proxy(
    server: servers.ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FaultProxy]:
    ((name, text),) = server.environment.items()
    address = "http://" + urlsplit(text.split("BlobEndpoint=")[-1]).netloc
    with fault_proxy(address) as proxy:
        monkeypatch.setenv(name, text.replace(address, proxy.url))
        monkeypatch.setattr(azure, "_BACKOFF_SECONDS", 0)
        monkeypatch.setattr(gs, "_BACKOFF_SECONDS", 0.01)
        fresh_host(monkeypatch, tmp_path)
        yield proxy


@pytest.fixture
def root(proxy: FaultProxy, server: servers.ObjectStore) -> str:
    return f"cas-{server.new_root()}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(DATA)
    (folder / "small.txt").write_bytes(b"small")
    return folder


@pytest.mark.parametrize("part", ["/packs/", "/.m/"], ids=["pack", "segment"])
@pytest.mark.parametrize("what", ["cut request", "no answer", "500"])
def test_passing_fault_of_an_upload(proxy, root, source, upload, what, part):
    repository = get_artifact_repository(new_run_uri(root))
    proxy.faults.append(Fault(what, upload, part))
    repository.log_artifacts(str(source))
    assert len(proxy.done) == 1
    expect_good(repository)
    assert run_json("fsck", root, "--read-data")["problems"] == []


@pytest.mark.parametrize("part", ["/packs/", "/.m/"], ids=["pack", "segment"])
@pytest.mark.parametrize(
    "what", ["cut answer", "no answer", "500", "slow", "flip answer", "stall answer"]
)
def test_passing_fault_of_a_download(proxy, root, source, what, part, tmp_path, monkeypatch):
    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifacts(str(source))
    fresh_host(monkeypatch, tmp_path)
    proxy.faults.append(Fault(what, "GET", part))
    expect_good(repository)
    assert proxy.done


def test_transfer_that_stalls_in_the_middle_is_repeated(
    proxy, root, source, upload, tmp_path, monkeypatch
):
    monkeypatch.setattr(azure, "_STALL_SECONDS", 2)
    monkeypatch.setattr(gs, "_TIMEOUT_SECONDS", 2)
    fresh_host(monkeypatch, tmp_path)
    repository = get_artifact_repository(new_run_uri(root))
    proxy.faults.append(Fault("stall request", upload, "/packs/"))
    repository.log_artifacts(str(source))
    fresh_host(monkeypatch, tmp_path)
    proxy.faults.append(Fault("stall answer", "GET", "/packs/"))
    expect_good(repository)
    assert len(proxy.done) == 2


@pytest.mark.parametrize("server", ["azurite"], indirect=True)
def test_retry_after_is_honoured(proxy, root, source):
    repository = get_artifact_repository(new_run_uri(root))
    proxy.faults.append(Fault("busy", "PUT", "/packs/"))
    before = time.monotonic()
    repository.log_artifacts(str(source))
    assert time.monotonic() - before >= 2


def test_fault_that_stays_is_told_and_nothing_is_visible(proxy, root, source, upload, monkeypatch):
    monkeypatch.setattr(azure, "_RETRIES", 1)
    monkeypatch.setattr(gs, "_PATIENCE_SECONDS", 0.1)
    opening._backends.clear()
    repository = get_artifact_repository(new_run_uri(root))
    proxy.faults.append(Fault("500", upload, "/packs/", times=-1))
    with pytest.raises(StorageUnavailableError):
        repository.log_artifacts(str(source))
    proxy.faults.clear()
    assert listing(repository) == []
    repository.log_artifacts(str(source))
    expect_good(repository)
