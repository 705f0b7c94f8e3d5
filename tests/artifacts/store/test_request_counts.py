"""What a call costs in requests to the storage, and that it does not grow with the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.backends.s3 import S3Backend
from mlflow_plugins_pack.artifacts.commit import heads
from mlflow_plugins_pack.artifacts.store import manifests, opening
from mlflow_plugins_pack.artifacts.store.objects import StoreObjects
from mlflow_plugins_pack.artifacts.upload import pack_writer
from tests.contracts.artifact_repository import new_run_uri, random_bytes
from tests.support import servers

CALLS = ("read", "write", "write_if_absent", "list", "size", "delete", "folders")


class Counting:
    """Counts what a backend is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: Counter[str] = Counter()
        for name in CALLS:
            monkeypatch.setattr(S3Backend, name, self._counted(name, getattr(S3Backend, name)))

    def _counted(self, name: str, original: Any) -> Any:
        def call(backend: S3Backend, *arguments: Any) -> Any:
            self.asked[name] += 1
            return original(backend, *arguments)

        return call

    def of(self, call: Any) -> Counter[str]:
        """Return the requests of one call."""
        self.asked.clear()
        call()
        return Counter(self.asked)


@pytest.fixture
def repository(moto: servers.ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ArtifactRepository:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    return get_artifact_repository(new_run_uri(f"cas-{moto.new_root()}"))


@pytest.fixture
def files(tmp_path: Path) -> Iterator[str]:
    def written() -> Iterator[str]:
        number = 0
        while True:
            number += 1
            (tmp_path / f"{number}.txt").write_text(f"{number}")
            yield str(tmp_path / f"{number}.txt")

    return written()


@pytest.mark.parametrize(("near_seconds", "reads"), [(600, 1), (0, 2)])
def test_calls_on_small_files_cost_the_same_however_large_the_run(
    repository, files, monkeypatch, near_seconds, reads
):
    monkeypatch.setattr(manifests, "_NEAR_SECONDS", near_seconds)
    counting = Counting(monkeypatch)
    monkeypatch.setattr(StoreObjects, "TRUST_SECONDS", 600)
    repository.log_artifact(next(files))
    repository.list_artifacts()
    for count in (2, 62):
        for _ in range(count):
            repository.log_artifact(next(files))
        # Whether the calls before are still there is read afterwards from a near storage, and at
        # the same time, then of two calls, from a far one.
        put = counting.of(lambda: repository.log_artifact(next(files)))
        assert put == {"write_if_absent": 1, "read": reads}
        with monkeypatch.context() as later:
            # Once a second, it is read before whether the store is.
            later.setattr(StoreObjects, "TRUST_SECONDS", 0)
            put = counting.of(lambda: repository.log_artifact(next(files)))
            assert put == {"write_if_absent": 1, "read": reads + 1}
        # Whether the last calls are still there, and at the same time, whether another one is.
        listed = counting.of(repository.list_artifacts)
        assert listed == {"read": reads + 1}
        fetched = counting.of(lambda: repository.download_artifacts("2.txt"))
        assert fetched == {"read": 2}
    assert len(repository.list_artifacts()) == 69


def test_files_that_threads_log_at_once_share_entries(repository, files, monkeypatch):
    repository.log_artifact(next(files))
    paths = [next(files) for _ in range(48)]
    counting = Counting(monkeypatch)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(repository.log_artifact, paths))
    # Joining 16 entries is one more write.
    assert counting.asked["write_if_absent"] <= len(paths) + 3
    names = {info.path for info in repository.list_artifacts()}
    assert names == {Path(path).name for path in paths} | {"1.txt"}


def test_a_process_that_knows_nothing_reads_few_segments(repository, files, monkeypatch):
    for _ in range(70):
        repository.log_artifact(next(files))
    opening._stores.clear()
    counting = Counting(monkeypatch)
    listed = counting.of(repository.list_artifacts)
    # Four joined segments and the six after them; besides, the store's format is looked for.
    assert listed["list"] == 1
    assert listed["read"] <= 4 + 6 + 4
    opening._stores.clear()
    put = counting.of(lambda: repository.log_artifact(next(files)))
    assert put["list"] == 1
    assert put["write_if_absent"] == 1


def test_files_that_are_not_tiny(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(StoreObjects, "TRUST_SECONDS", 600)
    monkeypatch.setattr(manifests, "_NEAR_SECONDS", 600)
    monkeypatch.setattr(pack_writer, "_INDEX_SECONDS", 600)
    monkeypatch.setattr(heads, "_KEPT_INLINE_BYTES", 10_000)
    for name, size in (("small", 20_000), ("large", 300_000), ("other", 300_000)):
        (tmp_path / name).write_bytes(random_bytes(size, seed=len(name) + ord(name[0])))
    repository.log_artifact(str(tmp_path / "large"))
    (tmp_path / "tiny").write_bytes(b"x")
    repository.log_artifact(str(tmp_path / "tiny"))
    for _ in range(2):
        repository.list_artifacts()
    counting = Counting(monkeypatch)
    put = counting.of(lambda: repository.log_artifact(str(tmp_path / "small")))
    assert put == {"write_if_absent": 1, "read": 1}
    # Whether the last call is still that is asked while the bytes come.
    fetched = counting.of(lambda: repository.download_artifacts("small"))
    assert fetched == {"read": 3}
    # Pack and index, entry, and then whether something was condemned.
    put = counting.of(lambda: repository.log_artifact(str(tmp_path / "other")))
    assert put == {"write": 2, "write_if_absent": 1, "read": 2, "list": 1}
    # Of a file that is there its packs are looked for, and nothing is written but the entry.
    put = counting.of(lambda: repository.log_artifact(str(tmp_path / "large"), "again"))
    assert put == {"size": 1, "write_if_absent": 1, "read": 2, "list": 1}
    fetched = counting.of(lambda: repository.download_artifacts("other"))
    assert fetched == {"read": 3}
