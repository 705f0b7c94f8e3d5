"""Parts of files, and the cache of whole files on hosts that serve."""

from __future__ import annotations

import io
import os
import random
import zipfile
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.backends.local import LocalBackend
from mlflow_plugins_pack.errors import ArtifactCorruptError, ArtifactNotFoundError
from tests.artifacts.support.store_files import flip, packs
from tests.contracts.artifact_repository import content, new_run_uri, random_bytes

MIB = 1024 * 1024


@pytest.fixture
def repository(tmp_path):
    return get_artifact_repository(new_run_uri(f"cas-file://{tmp_path}/store"))


@pytest.fixture
def reads(monkeypatch):
    """Bytes of packs that were read from the storage."""
    count = [0]
    original = LocalBackend.read

    def read(self, key, start=0, length=None):
        data = original(self, key, start, length)
        count[0] += len(data) if "/packs/" in key else 0
        return data

    monkeypatch.setattr(LocalBackend, "read", read)
    return count


def log(repository, tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    repository.log_artifact(str(tmp_path / name))


@pytest.mark.parametrize("size", [0, 10, 200_000, 9 * MIB])
def test_any_part_of_a_file(repository, tmp_path, size):
    data = random_bytes(size)
    log(repository, tmp_path, "f", data)
    chance = random.Random(1)
    with repository.open_artifact("f") as file:
        for _ in range(20):
            start, length = chance.randrange(size + 10), chance.randrange(size + 10)
            file.seek(start)
            assert file.read(length) == data[start : start + length]
        assert file.seek(0, os.SEEK_END) == size
        file.seek(0)
        assert file.read() == data
        assert file.tell() == size
        with pytest.raises(ValueError):
            file.seek(-1)


def test_only_what_is_needed_is_read(repository, tmp_path, reads):
    log(repository, tmp_path, "f", random_bytes(12 * MIB))
    reads[0] = 0
    with repository.open_artifact("f") as file:
        file.seek(6 * MIB)
        file.read(100)
    assert 100 <= reads[0] < 2 * MIB


def test_a_program_that_seeks(repository, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(20):
            archive.writestr(f"m{number}", random_bytes(100_000, seed=number))
    log(repository, tmp_path, "a.zip", buffer.getvalue())
    with zipfile.ZipFile(repository.open_artifact("a.zip")) as archive:
        assert archive.read("m7") == random_bytes(100_000, seed=7)


def test_damage_is_found_in_a_part_too(repository, tmp_path):
    log(repository, tmp_path, "f", random_bytes(2 * MIB))
    flip(packs(tmp_path / "store")[0], MIB)
    with repository.open_artifact("f") as file:
        assert len(file.read(1000)) == 1000
        with pytest.raises(ArtifactCorruptError, match="'f'"):
            file.read()
    with pytest.raises(ArtifactNotFoundError):
        repository.open_artifact("missing")


# --- the cache ------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_CACHE_BYTES", str(3 * MIB))
    return tmp_path / "cache" / "files"


def cached(folder: Path) -> list[Path]:
    return sorted(folder.glob("??/*"))


def test_second_download_reads_no_pack(repository, tmp_path, cache, reads):
    files = {"a": random_bytes(MIB), "b": random_bytes(MIB, seed=1), "small": b"x"}
    for name, data in files.items():
        log(repository, tmp_path, name, data)
    assert content(repository.download_artifacts("")) == files
    assert len(cached(cache)) == 2
    reads[0] = 0
    assert content(repository.download_artifacts("")) == files
    assert reads[0] == 0
    local = Path(repository.download_artifacts("a"))
    local.write_bytes(b"changed by its user")
    assert Path(repository.download_artifacts("a")).read_bytes() == files["a"]


def test_damaged_copy_is_fetched_again(repository, tmp_path, cache):
    log(repository, tmp_path, "a", random_bytes(MIB))
    repository.download_artifacts("a")
    flip(cached(cache)[0], 5000)
    assert Path(repository.download_artifacts("a")).read_bytes() == random_bytes(MIB)
    flip_back = cached(cache)[0].read_bytes()
    assert flip_back == random_bytes(MIB)


def test_least_recently_used_goes(repository, tmp_path, cache, reads):
    for number in range(5):
        log(repository, tmp_path, f"f{number}", random_bytes(MIB, seed=number))
    log(repository, tmp_path, "too-large", random_bytes(4 * MIB, seed=9))
    for number in range(3):
        repository.download_artifacts(f"f{number}")
        os.utime(max(cached(cache), key=lambda p: p.stat().st_mtime_ns), (number, number))
    repository.download_artifacts("f0")
    repository.download_artifacts("f3")
    repository.download_artifacts("too-large")
    assert len(cached(cache)) == 3
    reads[0] = 0
    for name in ("f0", "f2", "f3"):
        repository.download_artifacts(name)
    assert reads[0] == 0
    repository.download_artifacts("f1")
    assert reads[0] > 0


def test_cache_that_cannot_be_written_stops_nobody(repository, tmp_path, cache):
    cache.parent.mkdir()
    cache.write_bytes(b"a file is in the way")
    log(repository, tmp_path, "a", random_bytes(MIB))
    assert Path(repository.download_artifacts("a")).read_bytes() == random_bytes(MIB)


def test_nothing_is_kept_unless_asked_for(repository, tmp_path, cache, monkeypatch):
    monkeypatch.delenv("MLFLOW_PACK_ARTIFACT_CACHE_BYTES")
    log(repository, tmp_path, "a", random_bytes(MIB))
    repository.download_artifacts("a")
    assert cached(cache) == []
