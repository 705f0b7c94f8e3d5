"""Small files logged one by one stay in the entry that brought them when entries are joined."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.commit import heads
from mlflow_plugins_pack.artifacts.format.segment_names import entry_name
from mlflow_plugins_pack.errors import ArtifactCorruptError
from tests.artifacts.support.commands import run, run_json
from tests.artifacts.support.hosts import fresh_host
from tests.artifacts.support.store_files import flip, segments
from tests.contracts.artifact_repository import content, new_run_uri, random_bytes

FILES = 70
SIZE = 5_000


@pytest.fixture(params=["plain", "encrypted"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "encrypted":
        monkeypatch.setenv("ARTIFACT_KEY", "07" * 32)
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_KEYS", "env:ARTIFACT_KEY")
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_ENCRYPT", "true")
    fresh_host(monkeypatch, tmp_path)
    return f"cas-file://{tmp_path}/store"


def fill(root: str) -> tuple[ArtifactRepository, dict[str, bytes]]:
    repository = get_artifact_repository(new_run_uri(root))
    files = {f"{n:02}": random_bytes(SIZE if n % 3 else 100, seed=n) for n in range(FILES)}
    for name, data in files.items():
        repository.log_artifact_from_stream(io.BytesIO(data), name)
    return repository, files


def named(root: str, tmp_path: Path) -> list[str]:
    return [path.name for path in segments(tmp_path / "store")]


def grow_old(tmp_path: Path) -> None:
    then = time.time() - 4000
    for path in segments(tmp_path / "store"):
        os.utime(path, (then, then))


def test_joined_segments_do_not_carry_them(root, tmp_path, monkeypatch):
    repository, files = fill(root)
    assert content(repository.download_artifacts("")) == files
    joined = [p for p in segments(tmp_path / "store") if "-" in p.name]
    assert len(joined) == 4
    # 16 files of 5,000 random bytes, of which one in three has 100 bytes that it does carry.
    assert all(path.stat().st_size < 5_000 for path in joined)
    fresh_host(monkeypatch, tmp_path)
    assert content(repository.download_artifacts("")) == files
    with repository.open_artifact("04") as file:
        file.seek(4000)
        assert file.read() == files["04"][4000:]
    usage = run_json("du", root)["total"]
    assert usage["logical_bytes"] == usage["stored_bytes"] == sum(map(len, files.values()))
    assert run_json("fsck", root, "--read-data")["problems"] == []


def test_a_collection_keeps_what_is_held_and_removes_the_rest(root, tmp_path, monkeypatch):
    repository, files = fill(root)
    repository.delete_artifacts("01")
    grow_old(tmp_path)
    run("gc", root)
    kept = [name for name in named(root, tmp_path) if "-" not in name]
    # Of the first 64 calls those remain whose files joined segments do not carry; a joined one
    # still refers to the deleted file.
    assert len([name for name in kept if int(name) <= 64]) == sum(1 for n in range(64) if n % 3)
    fresh_host(monkeypatch, tmp_path)
    del files["01"]
    assert content(repository.download_artifacts("")) == files
    repository.delete_artifacts()
    for _ in range(3):
        grow_old(tmp_path)
        run("gc", root)
    assert len(named(root, tmp_path)) == 1
    assert content(repository.download_artifacts("")) == {}


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_a_lost_holder_is_named(root, tmp_path, monkeypatch, how):
    repository, files = fill(root)
    (holder,) = [p for p in segments(tmp_path / "store") if p.name == entry_name(5)]
    if how == "missing":
        holder.unlink()
    else:
        flip(holder, 100)
    fresh_host(monkeypatch, tmp_path)
    with pytest.raises(ArtifactCorruptError, match=holder.name):
        repository.download_artifacts("04")
    assert Path(repository.download_artifacts("05")).read_bytes() == files["05"]
    *damaged, lost = run_json("fsck", root, "--repair-manifests", code=1)["problems"]
    assert lost["where"].endswith("/04")
    assert [problem["where"].rpartition("/")[2] for problem in damaged] == (
        [] if how == "missing" else [holder.name]
    )
    fresh_host(monkeypatch, tmp_path)
    (tmp_path / "04").write_bytes(files["04"])
    repository.log_artifact(str(tmp_path / "04"))
    assert content(repository.download_artifacts("")) == files
    assert run_json("fsck", root, "--read-data")["problems"] == []


def test_a_process_does_not_keep_the_bytes_of_many_files(root, tmp_path, monkeypatch):
    monkeypatch.setattr(heads, "_KEPT_INLINE_BYTES", 20_000)
    repository, files = fill(root)
    assert content(repository.download_artifacts("")) == files
    repository.lock("approved")
    fresh_host(monkeypatch, tmp_path)
    assert content(repository.download_artifacts("")) == files
    assert repository.locks() == {"": ["approved"]}
