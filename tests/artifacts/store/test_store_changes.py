"""The storage changes under a running process: wiped, restored to an older state, keys lost.

After the next call everything acknowledged is readable to a fresh host, or the call was refused.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.backends.s3 import S3Backend
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.format_file import DamagedFormatError
from mlflow_plugins_pack.artifacts.format.manifest import Segment, Unlock
from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.artifacts.store.segment_io import SegmentIO
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from mlflow_plugins_pack.errors import (
    ArtifactCorruptError,
    ArtifactKeyError,
    ArtifactLockedError,
    StorageUnavailableError,
    StoreChangedError,
)
from tests.artifacts.support import set_backs
from tests.artifacts.support.commands import run, run_json
from tests.artifacts.support.hosts import Operator, fresh_host
from tests.contracts.artifact_repository import content, new_run_uri, random_bytes
from tests.support import servers

SIZES = (1_000, 200_000)


@pytest.fixture(params=["disk", "disk-encrypted", "s3", "s3-encrypted"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param.endswith("encrypted"):
        monkeypatch.setenv("ARTIFACT_KEY", "07" * 32)
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_KEYS", "env:ARTIFACT_KEY")
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_ENCRYPT", "true")
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_CACHE_DIR", str(tmp_path / "cache"))
    opening._stores.clear()
    if request.param.startswith("disk"):
        return f"cas-file://{tmp_path}/store"
    moto: servers.ObjectStore = request.getfixturevalue("moto")
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    return f"cas-{moto.new_root()}"


@pytest.fixture
def operator(root: str) -> Operator:
    return Operator(root)


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


def test_wiped(root, operator, tmp_path, monkeypatch):
    log(root, tmp_path, 1)
    operator.wipe()
    uri, files = log(root, tmp_path, 1, 2)
    fresh_host(monkeypatch, tmp_path)
    expect(uri, files, tmp_path)
    assert run_json("fsck", root, "--read-data")["problems"] == []


def test_wiped_and_used_by_another_host(root, operator, tmp_path, monkeypatch):
    """The other host made a store of its own there, with other keys."""
    log(root, tmp_path, 1)
    stores = dict(opening._stores)
    operator.wipe()
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


@pytest.mark.parametrize("part", ["", ".cas", ".cas/packs"])
def test_restored_to_an_older_state(root, operator, tmp_path, monkeypatch, part):
    old = log(root, tmp_path, 1)
    saved = operator.save()
    log(root, tmp_path, 2)
    operator.restore(saved, part)
    uri, files = log(root, tmp_path, 1, 2, 3)
    fresh_host(monkeypatch, tmp_path)
    expect(uri, files, tmp_path)
    expect(*old, tmp_path)


@pytest.mark.parametrize("action", ["log", "delete", "lock"])
def test_restored_to_an_older_state_of_the_run(root, operator, tmp_path, monkeypatch, action):
    """The number that a call takes is after what is there, not after what was there."""
    uri, files = log(root, tmp_path, 1)
    saved = operator.save()
    repository = get_artifact_repository(uri)
    for number in range(3):
        repository.log_artifact_from_stream(io.BytesIO(b"x"), f"lost-{number}")
    operator.restore(saved)
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


def test_wiped_while_a_call_reads_the_run(root, operator, tmp_path, monkeypatch):
    """What the call lists then says nothing of a store; nor does what it made itself."""
    uri, _ = log(root, tmp_path, 1)
    location = parse_location(uri)
    store = opening.open_store(location)
    scope = object_keys.relative_to(location.path, store.location.path)
    # What the call itself wrote stands in this process's memory.
    store.manifests.forget(scope)
    store.manifests.locate(scope)
    read = SegmentIO._read_segment
    wiping = [operator.wipe]

    def read_segment(self: SegmentIO, scope: str, name: str) -> Segment:
        while wiping:
            wiping.pop()()
        return read(self, scope, name)

    monkeypatch.setattr(SegmentIO, "_read_segment", read_segment)
    with pytest.raises(StoreChangedError):
        store.manifests.change(scope, lambda view: [Unlock("", "why")])
    assert not wiping
    if operator.save():
        # Others may have built on its entry, which stays.
        with pytest.raises(DamagedFormatError, match="artifacts init --restore"):
            get_artifact_repository(uri).log_artifact(str(tmp_path / "f1-1000"))
        run("init", root, "--restore")
    (tmp_path / "later").write_bytes(b"later")
    get_artifact_repository(uri).log_artifact(str(tmp_path / "later"))
    fresh_host(monkeypatch, tmp_path)
    expect(uri, {"later": b"later"}, tmp_path)


def test_packs_vanish(root, operator, tmp_path, monkeypatch):
    log(root, tmp_path, 1)
    operator.wipe(".cas/packs")
    uri, files = log(root, tmp_path, 1)
    fresh_host(monkeypatch, tmp_path)
    expect(uri, files, tmp_path)


def test_stream_is_refused_once(root, operator, tmp_path):
    """What can be read only once cannot be tried again."""
    uri, _ = log(root, tmp_path, 1)
    operator.wipe()
    repository = get_artifact_repository(uri)
    data = random_bytes(200_000)
    with pytest.raises(StoreChangedError, match="Nothing was committed"):
        repository.log_artifact_from_stream(io.BytesIO(data), "stream")
    repository.log_artifact_from_stream(io.BytesIO(data), "stream")
    expect(uri, {"stream": data}, tmp_path)


@pytest.mark.parametrize("root", ["disk-encrypted", "s3-encrypted"], indirect=True)
def test_lost_keyring(root, operator, tmp_path):
    """Without its keyring a store could be opened by no later process: nothing more goes in."""
    uri, _ = log(root, tmp_path, 1)
    operator.wipe(".cas/keys")
    for size in SIZES:
        with pytest.raises((StoreChangedError, ArtifactKeyError)):
            get_artifact_repository(uri).log_artifact_from_stream(
                io.BytesIO(random_bytes(size)), "new"
            )


@pytest.mark.parametrize("others", [4, 6])
def test_set_back_and_used_by_another_process(root, operator, tmp_path, monkeypatch, others):
    """The numbers that this process knows are those of other calls by now."""
    uri, files = log(root, tmp_path, 1)
    saved = operator.save()
    repository = get_artifact_repository(uri)
    for number in range(4):
        repository.log_artifact_from_stream(io.BytesIO(b"x" * 1000), f"undone-{number}")
    known = dict(opening._stores)
    operator.restore(saved)
    opening._stores.clear()
    for number in range(others):
        files[f"other-{number}"] = b"%d" % number * 1000
        repository.log_artifact_from_stream(io.BytesIO(files[f"other-{number}"]), f"other-{number}")
    opening._stores.clear()
    opening._stores.update(known)
    expect(uri, files, tmp_path)
    # It joins what it and the other process have written.
    for number in range(20):
        files[f"mine-{number}"] = b"m%02d" % number * 1000
        repository.log_artifact_from_stream(io.BytesIO(files[f"mine-{number}"]), f"mine-{number}")
    fresh_host(monkeypatch, tmp_path)
    expect(uri, files, tmp_path)
    assert run_json("fsck", root, "--read-data")["problems"] == []


def test_set_back_and_written_by_this_process_only(root, operator, tmp_path, monkeypatch):
    """What it joins is what is there, not what it remembers to have written under these numbers."""
    uri, files = log(root, tmp_path, 1)
    saved = operator.save()
    repository = get_artifact_repository(uri)
    for number in range(8):
        repository.log_artifact_from_stream(io.BytesIO(b"x" * 1000), f"undone-{number}")
    operator.restore(saved)
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


def test_set_back_and_locked_by_another_process(root, operator, tmp_path, monkeypatch):
    """What is written over a lock that this process cannot know of is not acknowledged."""
    uri, files = log(root, tmp_path, 1)
    saved = operator.save()
    repository = get_artifact_repository(uri)
    for number in range(2):
        repository.log_artifact_from_stream(io.BytesIO(b"x"), f"undone-{number}")
    known = dict(opening._stores)
    operator.restore(saved)
    opening._stores.clear()
    repository.log_artifact_from_stream(io.BytesIO(b"other"), "other")
    repository.lock("approved")
    opening._stores.clear()
    opening._stores.update(known)
    with pytest.raises((ArtifactLockedError, StorageUnavailableError)):
        repository.log_artifact_from_stream(io.BytesIO(b"mine"), "other")
    with pytest.raises(ArtifactLockedError):
        repository.delete_artifacts("other")
    fresh_host(monkeypatch, tmp_path)
    expect(uri, {**files, "other": b"other"}, tmp_path)


@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_set_back_between_a_lock_and_its_marker(root, operator, tmp_path, monkeypatch):
    """The lock holds then, though its locker was told that this is unknown: writers must see it."""
    uri, files = log(root, tmp_path, 1)
    saved = operator.save()
    repository = get_artifact_repository(uri)
    repository.log_artifact_from_stream(io.BytesIO(b"x"), "undone")
    create = S3Backend.write_if_absent

    def set_back_and_create(backend: S3Backend, key: str, data: bytes) -> bool:
        monkeypatch.setattr(S3Backend, "write_if_absent", create)
        operator.restore(saved)
        return create(backend, key, data)

    monkeypatch.setattr(S3Backend, "write_if_absent", set_back_and_create)
    with pytest.raises(StorageUnavailableError, match="is unknown"):
        repository.lock("approved")
    fresh_host(monkeypatch, tmp_path)
    assert repository.locks() == {"": ["approved"]}
    fresh_host(monkeypatch, tmp_path)
    with pytest.raises(ArtifactLockedError):
        repository.log_artifact_from_stream(io.BytesIO(b"new"), "f1-1000")
    # What the lock binds is what its locker read, before that was undone.
    expect(uri, {**files, "undone": b"x"}, tmp_path)


def test_an_entry_is_missing_to_writers_too(root, operator, tmp_path, monkeypatch):
    """What follows a lost call could not be read: it is refused, not acknowledged."""
    uri, files = log(root, tmp_path, 1)
    saved = operator.save()
    lost = next(key for key in saved if key.endswith("/.m/000000000001"))
    operator.restore({key: data for key, data in saved.items() if key != lost})
    fresh_host(monkeypatch, tmp_path)
    with pytest.raises(ArtifactCorruptError, match="000000000001 is missing"):
        get_artifact_repository(uri).log_artifact_from_stream(io.BytesIO(b"x"), "new")
    run("fsck", root, "--repair-manifests", code=1)
    get_artifact_repository(uri).log_artifact_from_stream(io.BytesIO(b"x"), "new")
    fresh_host(monkeypatch, tmp_path)
    del files["f1-1000"]
    expect(uri, {**files, "new": b"x"}, tmp_path)


@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_writers_whose_numbers_are_gone_leave_nothing_behind(root, operator, tmp_path, monkeypatch):
    """Each of two processes has written one number too far before it learns of the change."""
    uri, files = log(root, tmp_path, 1)
    saved = operator.save()
    repository = get_artifact_repository(uri)
    for number in range(8):
        repository.log_artifact_from_stream(io.BytesIO(b"x"), f"undone-{number}")
    first = dict(opening._stores)
    opening._stores.clear()
    repository.log_artifact_from_stream(io.BytesIO(b"x"), "undone-8")
    operator.restore(saved)
    for number in range(4):
        other = dict(opening._stores)
        opening._stores.clear()
        opening._stores.update(first)
        first = other
        repository.log_artifact_from_stream(io.BytesIO(b"%d" % number), f"mine-{number}")
        files[f"mine-{number}"] = b"%d" % number
        expect(uri, files, tmp_path)
    fresh_host(monkeypatch, tmp_path)
    expect(uri, files, tmp_path)
    assert run_json("fsck", root, "--read-data")["problems"] == []


FOUND = (34, 193, 549)
"""Orders of events in which something went wrong once."""


def test_nothing_is_lost_in_any_order_of_events():
    """`python -m tests.artifacts.support.set_backs 10000` looks further."""
    with set_backs.patched() as chance:
        ran = [set_backs.run_schedule(seed, chance) for seed in (*range(25), *FOUND)]
    # Else the schedules would not show what they are for.
    assert sum(truth.changes for truth in ran) > 25
    assert sum(truth.refused["StoreChangedError"] for truth in ran) > 5
