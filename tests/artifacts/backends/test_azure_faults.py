"""The main faults once more, with Azurite behind the proxy: its library fails in its own ways."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.backends import azure
from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.errors import StorageUnavailableError
from tests.artifacts.support.commands import run_json
from tests.artifacts.support.hosts import DATA, expect_good, fresh_host
from tests.contracts.artifact_repository import listing, new_run_uri
from tests.support import servers
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy

_NAME = "AZURE_STORAGE_CONNECTION_STRING"


@pytest.fixture
def proxy(
    azurite: servers.ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FaultProxy]:
    text = azurite.environment[_NAME]
    address = urlsplit(text.split("BlobEndpoint=")[1])
    with fault_proxy(f"http://{address.netloc}") as proxy:
        monkeypatch.setenv(_NAME, text.replace(f"http://{address.netloc}", proxy.url))
        monkeypatch.setattr(azure, "_BACKOFF_SECONDS", 0)
        fresh_host(monkeypatch, tmp_path)
        yield proxy


@pytest.fixture
def root(proxy: FaultProxy, azurite: servers.ObjectStore) -> str:
    return f"cas-{azurite.new_root()}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(DATA)
    (folder / "small.txt").write_bytes(b"small")
    return folder


@pytest.mark.parametrize("part", ["/packs/", "/.m/"], ids=["pack", "segment"])
@pytest.mark.parametrize("what", ["cut request", "no answer", "500"])
def test_passing_fault_of_an_upload(proxy, root, source, what, part):
    repository = get_artifact_repository(new_run_uri(root))
    proxy.faults.append(Fault(what, "PUT", part))
    repository.log_artifacts(str(source))
    assert len(proxy.done) == 1
    expect_good(repository)
    assert run_json("fsck", root, "--read-data")["problems"] == []


@pytest.mark.parametrize("part", ["/packs/", "/.m/"], ids=["pack", "segment"])
@pytest.mark.parametrize("what", ["cut answer", "no answer", "500", "slow", "flip answer"])
def test_passing_fault_of_a_download(proxy, root, source, what, part, tmp_path, monkeypatch):
    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifacts(str(source))
    fresh_host(monkeypatch, tmp_path)
    proxy.faults.append(Fault(what, "GET", part))
    expect_good(repository)
    assert proxy.done


def test_retry_after_is_honoured(proxy, root, source):
    repository = get_artifact_repository(new_run_uri(root))
    proxy.faults.append(Fault("busy", "PUT", "/packs/"))
    before = time.monotonic()
    repository.log_artifacts(str(source))
    assert time.monotonic() - before >= 2


def test_fault_that_stays_is_told_and_nothing_is_visible(proxy, root, source, monkeypatch):
    monkeypatch.setattr(azure, "_RETRIES", 1)
    opening._backends.clear()
    repository = get_artifact_repository(new_run_uri(root))
    proxy.faults.append(Fault("500", "PUT", "/packs/", times=-1))
    with pytest.raises(StorageUnavailableError):
        repository.log_artifacts(str(source))
    proxy.faults.clear()
    assert listing(repository) == []
    repository.log_artifacts(str(source))
    expect_good(repository)
