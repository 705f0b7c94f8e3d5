"""`artifacts init --restore`: the format file of a store is missing or damaged."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.errors import ArtifactKeyError, StoreFormatError
from tests.artifacts.support.commands import run, run_json
from tests.artifacts.support.store_files import flip
from tests.contracts.artifact_repository import content, new_run_uri, random_bytes

DATA = random_bytes(100_000)


@pytest.fixture(params=["plain", "encrypted", "listed"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "encrypted":
        monkeypatch.setenv("ARTIFACT_KEY", "07" * 32)
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_KEYS", "env:ARTIFACT_KEY")
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_ENCRYPT", "true")
    where = f"cas-file://{tmp_path}/store"
    if request.param == "listed":
        with monkeypatch.context() as patch:
            # A disk without hard links.
            patch.setattr(
                "mlflow_plugins_pack.artifacts.backends.local.LocalBackend.creates_exclusively",
                lambda self, folder: False,
            )
            run("init", where)
    return where


def damage(path: Path) -> None:
    flip(path, 100)


@pytest.mark.parametrize("how", [Path.unlink, damage], ids=["missing", "damaged"])
def test_restore(root, tmp_path, how: Callable[[Path], None]):
    uri = new_run_uri(root)
    (tmp_path / "f").write_bytes(DATA)
    get_artifact_repository(uri).log_artifact(str(tmp_path / "f"))
    how(tmp_path / "store/.cas/format.json")
    opening._stores.clear()
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    repository = get_artifact_repository(uri)
    command = re.escape(f"mlflow-pack artifacts init --restore {root.replace('///', '/')}")
    for call in (
        repository.list_artifacts,
        lambda: repository.download_artifacts("f"),
        repository.delete_artifacts,
        lambda: repository.log_artifact(str(tmp_path / "f")),
        lambda: get_artifact_repository(new_run_uri(root)).log_artifact(str(tmp_path / "f")),
        lambda: repository.lock("approved"),
        repository.locks,
        lambda: run("fsck", root),
        lambda: run("gc", root),
    ):
        with pytest.raises(StoreFormatError, match=command):
            call()
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    run("init", "--restore", root)
    opening._stores.clear()
    assert content(repository.download_artifacts("")) == {"f": DATA}
    repository.log_artifact(str(tmp_path / "f"), "again")
    assert run_json("fsck", "--read-data", root)["problems"] == []
    with pytest.raises(StoreFormatError, match="neither missing nor damaged"):
        run("init", "--restore", root)


@pytest.mark.parametrize("root", ["plain", "encrypted"], indirect=True)
def test_what_is_left_of_a_store_that_was_wiped_in_use(root, tmp_path):
    """A call that came while it was wiped, and nothing else."""
    uri = new_run_uri(root)
    (tmp_path / "f").write_bytes(b"small")
    get_artifact_repository(uri).log_artifact(str(tmp_path / "f"))
    is_encrypted = any((tmp_path / "store/.cas/keys").glob("*"))
    shutil.rmtree(tmp_path / "store/.cas")
    opening._stores.clear()
    if is_encrypted:
        with pytest.raises(ArtifactKeyError, match="has no keyring"):
            run("init", "--restore", root)
        return
    run("init", "--restore", root)
    get_artifact_repository(uri).log_artifact(str(tmp_path / "f"), "again")
    assert run_json("fsck", "--read-data", root)["problems"] == []


def test_there_is_no_store(tmp_path):
    with pytest.raises(StoreFormatError, match="There is no artifact store"):
        run("init", "--restore", f"cas-file://{tmp_path}")
    assert list(tmp_path.iterdir()) == []
