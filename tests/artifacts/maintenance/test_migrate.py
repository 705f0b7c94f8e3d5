"""Export, import and migrate: between stock and ours, on every storage, interrupted or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from mlflow_plugins_pack.artifacts.backends.local import LocalBackend
from mlflow_plugins_pack.artifacts.maintenance import migrate
from mlflow_plugins_pack.errors import StorageUnavailableError
from tests.artifacts.support.commands import run, run_json
from tests.artifacts.support.store_files import flip, packs
from tests.contracts.artifact_repository import content, random_bytes

RUN = "1/0123456789abcdef0123456789abcdef/artifacts"
FILES = {
    f"{RUN}/model/MLmodel": b"text\n" * 100,
    f"{RUN}/model/weights.bin": random_bytes(700_000),
    f"{RUN}/empty": b"",
    f"{RUN}/ü %.txt": b"odd",
    "1/models/m-0123/artifacts/weights.bin": random_bytes(700_000),
}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    folder = tmp_path / "plain"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_in_and_out(plain, tmp_path):
    store, out = f"cas-file://{tmp_path}/store", tmp_path / "out"
    done = run_json("import", str(plain), store)
    assert done == {"files": 5, "bytes": sum(map(len, FILES.values())), "skipped": 0, "failed": {}}
    run_files = get_artifact_repository(f"{store}/{RUN}").download_artifacts("model")
    assert set(content(run_files)) == {"MLmodel", "weights.bin"}
    assert run_json("stats", store)["pack_bytes"] < 800_000
    assert run_json("import", str(plain), store)["skipped"] == 5
    out.mkdir()
    assert "5 files" in run("export", store, f"file://{out}").output
    assert content(out) == FILES


@pytest.mark.parametrize("server", ["moto", "azurite", "gcs"])
def test_between_clouds(server, plain, tmp_path, request, monkeypatch):
    storage = request.getfixturevalue(server)
    for name, value in storage.environment.items():
        monkeypatch.setenv(name, value)
    stock, ours = storage.new_root(), f"cas-{storage.new_root()}"
    for source, target in ((str(plain), stock), (stock, ours), (ours, f"{tmp_path}/back")):
        done = run_json("migrate", source, target)
        assert (done["files"], done["failed"]) == (5, {})
    assert content(tmp_path / "back") == FILES


def test_interrupted_copy_goes_on(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(migrate, "_BATCH_FILES", 1)
    store = f"cas-file://{tmp_path}/store"
    original, segments = LocalBackend.write_if_absent, []

    def write(self, key, data):
        if "/.m/" in key:
            segments.append(key)
            if len(segments) == 3:
                raise KeyboardInterrupt
        return original(self, key, data)

    monkeypatch.setattr(LocalBackend, "write_if_absent", write)
    with pytest.raises(KeyboardInterrupt):
        migrate.copy_artifacts(str(plain), store)
    done = migrate.copy_artifacts(str(plain), store)
    assert done.failed == {}
    assert done.files + done.skipped == 5
    assert done.skipped > 0
    run("export", store, str(tmp_path / "out"))
    assert content(tmp_path / "out") == FILES


def test_checksum_finds_what_the_size_does_not_tell(plain, tmp_path):
    store = f"cas-file://{tmp_path}/store"
    run("import", str(plain), store)
    (plain / RUN / "ü %.txt").write_bytes(b"odD")
    assert run_json("import", str(plain), store)["files"] == 0
    assert run_json("import", str(plain), store, "--checksum")["files"] == 1
    assert Path(
        get_artifact_repository(store).download_artifacts(f"{RUN}/ü %.txt")
    ).read_bytes() == (b"odD")


def test_what_cannot_be_copied_is_named(plain, tmp_path, monkeypatch):
    store = f"cas-file://{tmp_path}/store"
    (plain / "back\\slash").write_bytes(b"x")
    done = run_json("import", str(plain), store, code=1)
    assert (done["files"], list(done["failed"])) == (5, ["back\\slash"])
    flip(packs(tmp_path / "store")[0], 5000)
    result = run("export", store, str(tmp_path / "out"), "--json", code=1)
    failed = json.loads(result.stdout)["failed"]
    assert {name.rpartition("/")[2] for name in failed} == {"weights.bin"}
    assert not list((tmp_path / "out").rglob("weights.bin"))


def test_target_that_changes_bytes_is_found_out(plain, tmp_path, monkeypatch):
    original = LocalArtifactRepository.log_artifacts

    def log_artifacts(self, local_dir, artifact_path=None):
        original(self, local_dir, artifact_path)
        flip(Path(self.artifact_dir) / RUN / "model" / "weights.bin", 9)

    store = f"cas-file://{tmp_path}/store"
    run("import", str(plain), store)
    monkeypatch.setattr(LocalArtifactRepository, "log_artifacts", log_artifacts)
    done = run_json("export", store, str(tmp_path / "out"), code=1)
    assert done["failed"] == {f"{RUN}/model/weights.bin": "it came back different; copy it again"}


def test_failing_storage(plain, tmp_path, monkeypatch):
    def write(self, key, data):
        raise StorageUnavailableError("the disk is full")

    monkeypatch.setattr(LocalBackend, "write", write)
    done = run_json("import", str(plain), f"cas-file://{tmp_path}/store", code=1)
    assert set(done["failed"].values()) == {"the disk is full"}


def test_wrong_usage(plain, tmp_path):
    assert "must be a cas- URI" in run("export", str(plain), str(tmp_path), code=2).output
    assert "must be a cas- URI" in run("import", str(plain), str(tmp_path), code=2).output
    with pytest.raises(Exception, match="no artifact store"):
        run("export", f"cas-file://{tmp_path}/none", str(tmp_path / "out"))
