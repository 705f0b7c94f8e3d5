"""The storage changes under a running process: wiped, restored to an older state, keys lost.

After the next call everything acknowledged is readable to a fresh host, or the call was refused.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.store import manifests, opening
from mlflow_plugins_pack.artifacts.store.objects import StoreObjects
from mlflow_plugins_pack.errors import ArtifactKeyError, StoreChangedError
from tests.artifacts.support.commands import run_json
from tests.artifacts.support.hosts import fresh_host
from tests.contracts.artifact_repository import content, new_run_uri, random_bytes

SIZES = (1_000, 200_000)


@pytest.fixture(params=["plain", "encrypted"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "encrypted":
        monkeypatch.setenv("ARTIFACT_KEY", "07" * 32)
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_KEYS", "env:ARTIFACT_KEY")
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_ENCRYPT", "true")
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_CACHE_DIR", str(tmp_path / "cache"))
    # As if a moment had passed between one call and the next.
    monkeypatch.setattr(StoreObjects, "TRUST_SECONDS", 0)
    opening._stores.clear()
    return f"cas-file://{tmp_path}/store"


def log(root: str, tmp_path: Path, *seeds: int) -> tuple[str, dict[str, bytes]]:
    """Log files of several sizes to a new run; returns its URI and what it must hold."""
    uri, files = new_run_uri(root), {}
    for seed in seeds:
        for size in SIZES:
            files[f"f{seed}-{size}"] = random_bytes(size, seed=seed)
            path = tmp_path / f"f{seed}-{size}"
            path.write_bytes(files[path.name])
            get_artifact_repository(uri).log_artifact(str(path))
    return uri, files


def expect(uri: str, files: dict[str, bytes], tmp_path: Path) -> None:
    target = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
    target.mkdir()
    get_artifact_repository(uri).download_artifacts("", str(target))
    assert content(target) == files


def test_wiped(root, tmp_path, monkeypatch):
    log(root, tmp_path, 1)
    shutil.rmtree(tmp_path / "store")
    uri, files = log(root, tmp_path, 1, 2)
    fresh_host(monkeypatch, tmp_path)
    expect(uri, files, tmp_path)
    assert run_json("fsck", root, "--read-data")["problems"] == []


def test_wiped_and_used_by_another_host(root, tmp_path, monkeypatch):
    """The other host made a store of its own there, with other keys."""
    log(root, tmp_path, 1)
    stores = dict(opening._stores)
    shutil.rmtree(tmp_path / "store")
    opening._stores.clear()
    others = log(root, tmp_path, 2)
    opening._stores.clear()
    opening._stores.update(stores)
    uri, files = log(root, tmp_path, 1, 2)
    expect(*others, tmp_path)
    fresh_host(monkeypatch, tmp_path)
    expect(uri, files, tmp_path)
    expect(*others, tmp_path)
    assert run_json("fsck", root, "--read-data")["problems"] == []


@pytest.mark.parametrize("part", ["store", "store/.cas", "store/.cas/packs"])
def test_restored_to_an_older_state(root, tmp_path, monkeypatch, part):
    old = log(root, tmp_path, 1)
    shutil.copytree(tmp_path / "store", tmp_path / "backup/store")
    log(root, tmp_path, 2)
    shutil.rmtree(tmp_path / part)
    shutil.copytree(tmp_path / "backup" / part, tmp_path / part)
    uri, files = log(root, tmp_path, 1, 2, 3)
    fresh_host(monkeypatch, tmp_path)
    expect(uri, files, tmp_path)
    expect(*old, tmp_path)


@pytest.mark.parametrize("action", ["log", "delete", "lock"])
def test_restored_to_an_older_state_of_the_run(root, tmp_path, monkeypatch, action):
    """The number that a call takes is after what is there, not after what was there."""
    uri, files = log(root, tmp_path, 1)
    shutil.copytree(tmp_path / "store", tmp_path / "backup")
    repository = get_artifact_repository(uri)
    for number in range(3):
        repository.log_artifact_from_stream(io.BytesIO(b"x"), f"lost-{number}")
    shutil.rmtree(tmp_path / "store")
    shutil.copytree(tmp_path / "backup", tmp_path / "store")
    if action == "log":
        repository.log_artifact_from_stream(io.BytesIO(b"later"), "later")
        files["later"] = b"later"
    elif action == "delete":
        repository.delete_artifacts("f1-1000")
        del files["f1-1000"]
    else:
        repository.lock("approved")
    fresh_host(monkeypatch, tmp_path)
    expect(uri, files, tmp_path)
    assert repository.locks() == ({"": ["approved"]} if action == "lock" else {})


def test_packs_vanish(root, tmp_path, monkeypatch):
    log(root, tmp_path, 1)
    shutil.rmtree(tmp_path / "store/.cas/packs")
    uri, files = log(root, tmp_path, 1)
    fresh_host(monkeypatch, tmp_path)
    expect(uri, files, tmp_path)


def test_stream_is_refused_once(root, tmp_path):
    """What can be read only once cannot be tried again."""
    uri, _ = log(root, tmp_path, 1)
    shutil.rmtree(tmp_path / "store")
    repository = get_artifact_repository(uri)
    data = random_bytes(200_000)
    with pytest.raises(StoreChangedError, match="Nothing was committed"):
        repository.log_artifact_from_stream(io.BytesIO(data), "stream")
    repository.log_artifact_from_stream(io.BytesIO(data), "stream")
    expect(uri, {"stream": data}, tmp_path)


@pytest.mark.parametrize("root", ["encrypted"], indirect=True)
def test_lost_keyring(root, tmp_path):
    """Without its keyring a store could be opened by no later process: nothing more goes in."""
    uri, _ = log(root, tmp_path, 1)
    shutil.rmtree(tmp_path / "store/.cas/keys")
    for size in SIZES:
        with pytest.raises((StoreChangedError, ArtifactKeyError)):
            get_artifact_repository(uri).log_artifact_from_stream(
                io.BytesIO(random_bytes(size)), "new"
            )


@pytest.mark.parametrize(("others", "trust_seconds"), [(4, 0), (6, 600)])
def test_set_back_and_used_by_another_process(root, tmp_path, monkeypatch, others, trust_seconds):
    """The numbers that this process knows are those of other calls by now."""
    uri, files = log(root, tmp_path, 1)
    shutil.copytree(tmp_path / "store", tmp_path / "backup")
    repository = get_artifact_repository(uri)
    for number in range(4):
        repository.log_artifact_from_stream(io.BytesIO(b"x" * 1000), f"undone-{number}")
    known = dict(opening._stores)
    shutil.rmtree(tmp_path / "store")
    shutil.copytree(tmp_path / "backup", tmp_path / "store")
    opening._stores.clear()
    for number in range(others):
        files[f"other-{number}"] = b"%d" % number * 1000
        repository.log_artifact_from_stream(io.BytesIO(files[f"other-{number}"]), f"other-{number}")
    opening._stores.clear()
    opening._stores.update(known)
    monkeypatch.setattr(manifests, "_READER_TRUST_SECONDS", trust_seconds)
    expect(uri, files, tmp_path)
    # It joins what it and the other process have written.
    for number in range(20):
        files[f"mine-{number}"] = b"m%02d" % number * 1000
        repository.log_artifact_from_stream(io.BytesIO(files[f"mine-{number}"]), f"mine-{number}")
    fresh_host(monkeypatch, tmp_path)
    expect(uri, files, tmp_path)
    assert run_json("fsck", root, "--read-data")["problems"] == []


def test_set_back_and_written_by_this_process_only(root, tmp_path, monkeypatch):
    """What it joins is what is there, not what it remembers to have written under these numbers."""
    uri, files = log(root, tmp_path, 1)
    shutil.copytree(tmp_path / "store", tmp_path / "backup")
    repository = get_artifact_repository(uri)
    for number in range(8):
        repository.log_artifact_from_stream(io.BytesIO(b"x" * 1000), f"undone-{number}")
    shutil.rmtree(tmp_path / "store")
    shutil.copytree(tmp_path / "backup", tmp_path / "store")
    known = dict(opening._stores)
    opening._stores.clear()
    for number in range(2):
        files[f"other-{number}"] = b"%d" % number * 1000
        repository.log_artifact_from_stream(io.BytesIO(files[f"other-{number}"]), f"other-{number}")
    opening._stores.clear()
    opening._stores.update(known)
    for number in range(20):
        files[f"mine-{number}"] = b"m%02d" % number * 1000
        repository.log_artifact_from_stream(io.BytesIO(files[f"mine-{number}"]), f"mine-{number}")
    fresh_host(monkeypatch, tmp_path)
    expect(uri, files, tmp_path)
