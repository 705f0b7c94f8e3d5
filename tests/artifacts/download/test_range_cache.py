"""Parts of packs that a host keeps for the next version of a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.backends.s3 import S3Backend
from mlflow_plugins_pack.artifacts.download.range_cache import RangeCache
from mlflow_plugins_pack.artifacts.format.pack import Chunk
from tests.artifacts.support.hosts import fresh_host
from tests.contracts.artifact_repository import new_run_uri, random_bytes
from tests.support import servers

MIB = 1024 * 1024
PACK = b"\1" * 32


def chunk(start: int, end: int) -> Chunk:
    return Chunk(PACK, b"", start, end - start, end - start, 0)


@pytest.fixture(autouse=True)
def nothing_kept_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process counts what it keeps in all caches."""
    monkeypatch.setattr(RangeCache, "_kept_since_look", 0)


def test_ranges_are_joined_and_survive_a_cut_list(tmp_path):
    cache = RangeCache(tmp_path, 1000)
    cache.keep(PACK, 10, b"a" * 10)
    cache.keep(PACK, 30, b"b" * 10)
    cache.keep(PACK, 20, b"c" * 10)
    (listed,) = tmp_path.glob("*/*.ranges")
    with listed.open("ab") as file:
        file.write(b"cut")
    cache = RangeCache(tmp_path, 1000)
    assert [cache.holds(chunk(*r)) for r in ((10, 40), (9, 12), (39, 41), (15, 35))] == [
        *(True, False, False, True),
    ]
    assert cache.read(PACK, 15, 20) == b"a" * 5 + b"c" * 10 + b"b" * 5
    assert cache.read(PACK, 35, 10) is None
    assert not cache.holds(Chunk(b"\2" * 32, b"", 0, 1, 1, 0))
    cache.forget([PACK])
    assert list(tmp_path.glob("*/*")) == []


def test_the_least_recently_used_go(tmp_path):
    cache = RangeCache(tmp_path, 40_000)
    for number in range(8):
        name = bytes([number]) * 32
        cache.keep(name, 0, bytes(8192))
        (listed,) = tmp_path.glob(f"{number:02x}/*.ranges")
        os.utime(listed, (number, number))
    left = sorted(path.name[:2] for path in tmp_path.glob("??/*.ranges"))
    assert 3 <= len(left) <= 6
    assert left[-1] == "07"
    assert left[0] != "00"


@pytest.fixture
def versions(
    moto: servers.ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, bytes]]:
    """Three versions of a file, each logged by a run of its own, and nothing known of them."""
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    root, data, logged = moto.new_root(), bytearray(random_bytes(6 * MIB)), []
    for number in range(3):
        data[number * MIB : number * MIB + 1000] = random_bytes(1000, seed=number + 1)
        path = tmp_path / "w.bin"
        path.write_bytes(data)
        logged.append((new_run_uri(f"cas-{root}"), bytes(data)))
        get_artifact_repository(logged[-1][0]).log_artifact(str(path))
    fresh_host(monkeypatch, tmp_path)
    return logged


class Reads:
    """Counts what is read of packs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        original = S3Backend.read

        def read(backend, key, start=0, length=None):
            data = original(backend, key, start, length)
            self.bytes += len(data) if "/packs/" in key else 0
            return data

        monkeypatch.setattr(S3Backend, "read", read)

    def of(self, uri: str, expected: bytes) -> int:
        """Return how many bytes a download reads."""
        self.bytes = 0
        path = get_artifact_repository(uri).download_artifacts("w.bin")
        assert Path(path).read_bytes() == expected
        return self.bytes


def cached(tmp_path: Path) -> list[Path]:
    return [path for path in tmp_path.rglob("ranges/*/*") if path.suffix != ".ranges"]


def test_of_the_next_version_only_what_changed_is_read(versions, tmp_path, monkeypatch):
    reads = Reads(monkeypatch)
    assert reads.of(*versions[0]) >= 6 * MIB
    assert cached(tmp_path) == []
    assert reads.of(*versions[1]) >= 6 * MIB
    assert reads.of(*versions[2]) < MIB
    for path in cached(tmp_path):
        path.write_bytes(bytes(path.stat().st_size))
    reads.of(*versions[2])
    assert reads.of(*versions[2]) > 6 * MIB, "what was wrong is forgotten"
    assert reads.of(*versions[2]) < MIB


def test_it_can_be_switched_off(versions, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_RANGE_CACHE_BYTES", "0")
    reads = Reads(monkeypatch)
    reads.of(*versions[1])
    assert reads.of(*versions[2]) >= 6 * MIB
    assert cached(tmp_path) == []
