"""Receipts: that a run's last call was written is written down, soon and without slowing it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts import deferred
from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.errors import ArtifactCorruptError
from tests.artifacts.support.commands import run, run_json
from tests.contracts.artifact_repository import content, new_run_uri

LATER = deferred.later


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return new_run_uri(f"cas-file://{tmp_path}/store")


def log(uri: str, tmp_path: Path, *names: str) -> None:
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
        get_artifact_repository(uri).log_artifact(str(tmp_path / name))


def receipts(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.rglob(".m/receipt-*"))


def test_only_the_last_receipt_stays(uri, tmp_path, monkeypatch):
    monkeypatch.setattr(deferred, "later", lambda key, call: call())
    log(uri, tmp_path, "a", "b", "c")
    assert receipts(tmp_path) == ["receipt-000000000003"]


def test_a_process_writes_one_for_many_calls_in_the_background(uri, tmp_path, monkeypatch):
    monkeypatch.setattr(deferred, "later", LATER)
    monkeypatch.setattr(deferred, "DELAY_SECONDS", 0.5)
    log(uri, tmp_path, "a", "b", "c")
    assert receipts(tmp_path) == []
    waited = threading.Event()
    for _ in range(100):
        if receipts(tmp_path):
            break
        waited.wait(0.05)
    assert receipts(tmp_path) == ["receipt-000000000003"]


def test_a_process_that_ends_writes_it_at_once(uri, tmp_path):
    program = (
        "import sys; from mlflow.store.artifact.artifact_repository_registry import *\n"
        f"get_artifact_repository({uri!r}).log_artifact(sys.executable)"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", program], check=True, env=dict(os.environ))
    assert receipts(tmp_path) == ["receipt-000000000001"]
    assert time.monotonic() - began < 60


def test_a_collection_writes_what_a_killed_writer_owes(uri, tmp_path):
    log(uri, tmp_path, "a", "b")
    run("gc", uri.partition("/1/")[0])
    assert receipts(tmp_path) == ["receipt-000000000002"]


def test_a_lock_is_not_lost_unnoticed(uri, tmp_path, monkeypatch):
    """Its receipt does not wait."""
    asked = {}
    monkeypatch.setattr(deferred, "later", asked.__setitem__)
    monkeypatch.setattr(deferred, "now", lambda key: asked.pop(key)())
    log(uri, tmp_path, "a")
    get_artifact_repository(uri).lock("approved")
    assert receipts(tmp_path) == ["receipt-000000000002"]


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_one_that_was_written_while_the_storage_was_set_back(uri, tmp_path, monkeypatch, kept):
    """What was listed before it was written is removed, and the receipt is not."""
    asked = {}
    monkeypatch.setattr(deferred, "later", asked.__setitem__)
    log(uri, tmp_path, "a", "b", "c")
    for call in [asked.pop(key) for key in list(asked)]:
        call()
    assert receipts(tmp_path) == ["receipt-000000000003"]
    for path in sorted(tmp_path.rglob(".m/0*"))[kept:]:
        path.unlink()
    if not kept:
        shutil.rmtree(tmp_path / "store/.cas")
    for call in asked.values():
        call()
    assert receipts(tmp_path) == []
    opening._stores.clear()
    log(uri, tmp_path, "d")
    found = content(get_artifact_repository(uri).download_artifacts(""))
    assert found == {name: name.encode() for name in [*["a", "b"][:kept], "d"]}


def test_one_that_is_left_alone_is_not_a_store(uri, tmp_path, monkeypatch):
    """Its writer was killed: the run is repaired by a command, others are used as ever."""
    monkeypatch.setattr(deferred, "later", lambda key, call: call())
    log(uri, tmp_path, "a")
    shutil.rmtree(tmp_path / "store/.cas")
    next(tmp_path.rglob(".m/0*")).unlink()
    opening._stores.clear()
    assert get_artifact_repository(uri).list_artifacts() == []
    root = uri.partition("/1/")[0]
    log(new_run_uri(root), tmp_path, "b")
    with pytest.raises(ArtifactCorruptError, match="--repair-manifests"):
        log(uri, tmp_path, "c")
    run("fsck", root, "--repair-manifests", code=1)
    log(uri, tmp_path, "c")


@pytest.mark.parametrize("lost", [1, 2])
def test_the_last_calls_are_lost(uri, tmp_path, monkeypatch, lost):
    monkeypatch.setattr(deferred, "later", lambda key, call: call())
    log(uri, tmp_path, "a", "b", "c")
    entries = sorted(tmp_path.rglob(".m/0*"))
    for path in entries[-lost:]:
        path.unlink()
    opening._stores.clear()
    repository = get_artifact_repository(uri)
    for call in (
        repository.list_artifacts,
        lambda: log(uri, tmp_path, "d"),
        lambda: repository.delete_artifacts("a"),
        lambda: repository.lock("approved"),
    ):
        with pytest.raises(ArtifactCorruptError, match=r"\.m/00000000000[23].* is missing"):
            call()
    root = uri.partition("/1/")[0]
    (problem,) = run_json("fsck", root, code=1)["problems"]
    assert problem["where"].rpartition("/")[2].endswith("000000000003")
    run("fsck", root, "--repair-manifests", code=1)
    log(uri, tmp_path, "d")
    left = {"a", "b", "c", "d"} - {"b", "c"} if lost == 2 else {"a", "b", "d"}
    assert set(content(repository.download_artifacts(""))) == left
    assert run_json("fsck", root)["problems"] == []


def test_storage_that_was_set_back_owes_no_receipt(uri, tmp_path, monkeypatch):
    """What is written in the background must not declare lost what an operator removed."""
    asked = {}
    monkeypatch.setattr(deferred, "later", asked.__setitem__)
    log(uri, tmp_path, "a", "b")
    for path in tmp_path.rglob(".m/000000000002"):
        path.unlink()
    for call in asked.values():
        call()
    assert receipts(tmp_path) == []
