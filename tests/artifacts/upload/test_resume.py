"""What was interrupted goes on: killed or cut off, both ways, counted in bytes on the wire."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.download import staging
from mlflow_plugins_pack.errors import StorageUnavailableError
from tests.artifacts.support.hosts import fresh_host
from tests.contracts.artifact_repository import content, listing, new_run_uri, random_bytes
from tests.support import servers
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy

MIB = 1024 * 1024
SIZE = 48 * MIB
LIMIT = 24 * MIB
IN_TRANSIT = 8 * MIB
"""What a killed process may have got in vain: each of its eight readers loses a chunk or so."""


@pytest.fixture(scope="module")
def data() -> bytes:
    return random_bytes(SIZE)


@pytest.fixture
def proxy(moto: servers.ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with fault_proxy(moto.environment["MLFLOW_S3_ENDPOINT_URL"]) as proxy:
        for name, value in moto.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def root(
    request: pytest.FixtureRequest,
    proxy: FaultProxy,
    moto: servers.ObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    if getattr(request, "param", "plain") == "encrypted":
        monkeypatch.setenv("ARTIFACT_KEY", "07" * 32)
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_KEYS", "env:ARTIFACT_KEY")
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_ENCRYPT", "true")
    fresh_host(monkeypatch, tmp_path)
    return f"cas-{moto.new_root()}"


@pytest.fixture
def source(tmp_path: Path, data: bytes) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(data)
    (folder / "a small one").write_bytes(b"small")
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def kill_midway(
    proxy: FaultProxy, code: str, *arguments: str, has_come: Callable[[], bool] = lambda: True
) -> None:
    """Run code in a process that is killed once so many bytes have gone through."""
    proxy.moved.clear()
    proxy.hold_after = LIMIT
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], env=dict(os.environ))
    try:
        servers.wait_until(
            lambda: (proxy.is_holding() and has_come()) or process.poll() is not None,
            "the transfer's middle",
        )
        assert process.poll() is None, "it ended before it was killed"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        proxy.hold_after = None


DOWNLOAD = """
import sys
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
get_artifact_repository(sys.argv[1]).download_artifacts("", sys.argv[2])
"""

UPLOAD = """
import sys
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow_plugins_pack.artifacts.upload import pack_writer
pack_writer.PACK_BYTES, pack_writer._SECONDS_PER_DELTA = 4 << 20, 0
get_artifact_repository(sys.argv[1]).log_artifacts(sys.argv[2])
"""


@pytest.fixture
def repository(root: str, source: Path) -> ArtifactRepository:
    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifacts(str(source))
    return repository


def kill_download(proxy: FaultProxy, repository: ArtifactRepository, target: Path) -> None:
    """Kill a download once what has gone through has also been written."""

    def has_come() -> bool:
        return staging._size(str(target)) >= LIMIT - MIB

    kill_midway(proxy, DOWNLOAD, repository.artifact_uri, str(target), has_come=has_come)


def test_killed_download_goes_on(repository, proxy, source, target):
    kill_download(proxy, repository, target)
    (left,) = target.iterdir()
    assert left.name.startswith(".mlflow-pack-part-")
    proxy.moved.clear()
    repository.download_artifacts("", str(target))
    assert content(target) == content(source)
    assert proxy.moved["GET"] < SIZE - LIMIT + IN_TRANSIT


@pytest.mark.parametrize("root", ["plain", "encrypted"], indirect=True)
def test_left_bytes_are_checked_before_they_count(repository, proxy, source, target):
    kill_download(proxy, repository, target)
    (left,) = target.iterdir()
    for path in left.iterdir():
        if path.stat().st_size > MIB:
            with path.open("r+b") as file:
                file.seek(100)
                file.write(b"not what was there")
                file.seek(0, 2)
                file.write(b"and longer" * 10)
        elif path.name != "lock":
            path.write_bytes(b"something else, and longer than it should be")
    repository.download_artifacts("", str(target))
    assert content(target) == content(source)


def test_download_that_fails_goes_on(repository, proxy, source, target):
    proxy.faults.append(Fault("500", "GET", "/packs/", times=-1, after=8))
    with pytest.raises(StorageUnavailableError):
        repository.download_artifacts("", str(target))
    proxy.faults.clear()
    assert not (target / "weights.bin").exists()
    proxy.moved.clear()
    repository.download_artifacts("", str(target))
    assert content(target) == content(source)
    assert proxy.moved["GET"] < SIZE - 10 * MIB


def test_small_download_that_fails_leaves_nothing(repository, proxy, target, monkeypatch):
    monkeypatch.setattr(staging, "_WORTH_KEEPING_BYTES", SIZE)
    proxy.faults.append(Fault("500", "GET", "/packs/", times=-1, after=8))
    with pytest.raises(StorageUnavailableError):
        repository.download_artifacts("", str(target))
    assert list(target.iterdir()) == []


def test_killed_upload_goes_on(root, proxy, source, target, monkeypatch):
    uri = new_run_uri(root)
    get_artifact_repository(uri).log_artifact(str(source / "a small one"))
    kill_midway(proxy, UPLOAD, uri, str(source))
    repository = get_artifact_repository(uri)
    assert listing(repository) == [("a small one", False, 5)]
    proxy.moved.clear()
    repository.log_artifacts(str(source))
    # All that was stored but three packs of 4 MiB under way, and one that was being filled.
    assert proxy.moved["PUT"] < SIZE - LIMIT + 17 * MIB
    repository.download_artifacts("", str(target))
    assert content(target) == content(source)


# --- the folder it is kept in ---------------------------------------------------------------------


def test_two_at_once_do_not_meet(tmp_path):
    with staging.open_staging(str(tmp_path), "name") as first:
        with staging.open_staging(str(tmp_path), "name") as second:
            assert first.path != second.path
            assert not second.is_resumed
        assert Path(first.path).exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "open to others", "file"])
def test_what_is_not_ours_is_not_used(tmp_path, kind):
    path = tmp_path / ".mlflow-pack-part-name"
    (tmp_path / "other").mkdir(mode=0o700)
    if kind == "link":
        path.symlink_to(tmp_path / "other")
    elif kind == "file":
        path.write_bytes(b"")
    else:
        path.mkdir()
        path.chmod(0o777)
    with staging.open_staging(str(tmp_path), "name") as used:
        assert used.path != str(path)
        assert not used.is_resumed
    assert path.exists()


def test_what_nobody_went_on_with_is_removed(tmp_path):
    old = tmp_path / ".mlflow-pack-part-old"
    for path in (old, tmp_path / ".mlflow-pack-part-new"):
        path.mkdir(mode=0o700)
        (path / "0").write_bytes(b"x")
    os.utime(old, (0, 0))
    with staging.open_staging(str(tmp_path), "name"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == [".mlflow-pack-part-new"]


def test_second_of_two_downloads_leaves_nothing_for_ever(tmp_path):
    """Killed, the second of two at once leaves a folder that can never be resumed."""
    code = """
import os, sys
from mlflow_plugins_pack.artifacts.download import staging
with staging.open_staging(sys.argv[1], "name") as used:
    open(used.file(0), "wb").write(b"x" * 100)
    os._exit(9)
"""
    with staging.open_staging(str(tmp_path), "name") as first:
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
        (left,) = [p for p in tmp_path.iterdir() if p != Path(first.path)]
        assert [p.name for p in left.iterdir()] != []
        with staging.open_staging(str(tmp_path), "another"):
            assert not left.exists()
        assert Path(first.path).exists()
    assert list(tmp_path.iterdir()) == []
