"""`mlflow-pack artifacts`, and what fsck finds and mends."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.backends.local import LocalBackend
from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.errors import (
    ArtifactCorruptError,
    StorageDeniedError,
    StorageMissingError,
)
from tests.artifacts.support.commands import run, run_json
from tests.artifacts.support.store_files import flip, packs, segments
from tests.contracts.artifact_repository import new_run_uri, random_bytes

MIB = 1024 * 1024


@pytest.fixture
def root(tmp_path: Path) -> str:
    return f"cas-file://{tmp_path}/store"


@pytest.fixture
def filled(root: str, tmp_path: Path) -> str:
    """Two runs of one experiment that share a file of 6 MiB."""
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "shared.bin").write_bytes(random_bytes(6 * MIB))
    (source / "sub" / "small.txt").write_bytes(b"small")
    for _ in range(2):
        get_artifact_repository(new_run_uri(root)).log_artifacts(str(source), "model")
    return root


def test_init_makes_one_store_and_none_below(root, tmp_path):
    made = run_json("init", root)
    assert made["created"] is True
    assert made["conditional_writes"] is True
    again = run_json("init", root)
    assert (again["created"], again["store_id"]) == (False, made["store_id"])
    assert "inside the store" in run("init", f"{root}/below", code=1).output
    assert "Made a store" in run("init", f"cas-file://{tmp_path}/second").output
    left = {p.name for p in (tmp_path / "store").rglob("*") if p.is_file()}
    assert left == {"format.json", "reserve"}


def test_init_on_s3(moto, monkeypatch):
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    assert run_json("init", f"cas-{moto.new_root()}")["conditional_writes"] is True
    with pytest.raises(StorageMissingError):
        run("init", "cas-s3://not-there-at-all/x")


def test_ls(filled, tmp_path):
    assert run_json("ls", filled) == [{"path": "1", "size": None, "is_dir": True}]
    (first, *_) = (tmp_path / "store" / "1").iterdir()
    listed = run_json("ls", f"{filled}/1/{first.name}/artifacts", "model")
    assert [(f["path"], f["size"]) for f in listed] == [
        ("model/shared.bin", 6 * MIB),
        ("model/sub", None),
    ]
    assert "model/sub/" in run("ls", f"{filled}/1/{first.name}/artifacts", "model").output


@pytest.mark.parametrize("command", ["ls", "du", "stats", "fsck"])
def test_no_store(command, tmp_path):
    result = run(command, f"cas-file://{tmp_path}/nothing", code=1)
    assert "artifacts init" in result.output
    assert list(tmp_path.iterdir()) == []


def test_du_counts_shared_bytes_once(filled):
    report = run_json("du", filled)
    assert [r["logical_bytes"] for r in report["runs"]] == [6 * MIB + 5] * 2
    assert report["total"]["logical_bytes"] == 12 * MIB + 10
    for line in (*report["runs"], report["total"]):
        assert 6 * MIB <= line["stored_bytes"] < 6.1 * MIB
    by_experiment = run_json("du", filled, "--by", "experiment")
    assert [(r["path"], r["files"]) for r in by_experiment["experiments"]] == [("1", 4)]
    assert "12.0 MiB" in run("du", filled).output


def test_stats(filled):
    values = run_json("stats", filled)
    assert values["files"] == 4
    assert values["scopes"] == 2
    assert values["manifest_segments"] == 2
    assert 1.9 < values["ratio"] <= 2
    assert "ratio" in run("stats", filled).output


def test_fsck_of_a_good_store(filled):
    report = run_json("fsck", filled, "--read-data")
    assert report["problems"] == []
    assert report["files"] == 4
    assert report["bytes_read"] >= 6 * MIB
    assert "no problems" in run("fsck", filled).output


def test_fsck_names_what_is_lost_and_lets_it_be_stored_again(filled, tmp_path):
    pack = max(packs(tmp_path / "store"), key=lambda p: p.stat().st_size)
    flip(pack, 2 * MIB)
    assert run_json("fsck", filled)["problems"] == []
    report = run_json("fsck", filled, "--read-data", code=1)
    assert {p["kind"] for p in report["problems"]} == {"pack", "artifact", "index"}
    lost = [p for p in report["problems"] if p["kind"] == "artifact"]
    assert len(lost) == 2
    assert all(p["where"].endswith("model/shared.bin") for p in lost)
    # Stored again now, the file would lean on the damaged copy; not so once that is forgotten.
    run("fsck", filled, "--read-data", "--repair-index", code=1)
    repository = get_artifact_repository(new_run_uri(filled))
    repository.log_artifacts(str(tmp_path / "source"))
    again = Path(repository.download_artifacts("shared.bin"))
    assert again.read_bytes() == random_bytes(6 * MIB)
    # And the new copy mends the two old runs, since their chunks have the same hashes.
    assert run_json("fsck", filled)["problems"] == []


def test_fsck_finds_a_missing_pack_and_a_damaged_segment(filled, tmp_path):
    store = tmp_path / "store"
    max(packs(store), key=lambda p: p.stat().st_size).unlink()
    report = run_json("fsck", filled, code=1)
    assert {p["kind"] for p in report["problems"]} == {"artifact", "index"}


def test_index_is_rebuilt_from_packs(filled, tmp_path):
    store = tmp_path / "store"
    deltas = list((store / ".cas/index").iterdir())
    flip(deltas[0], 50)
    assert {p["kind"] for p in run_json("fsck", filled, code=1)["problems"]} == {"index"}
    report = run_json("fsck", filled, "--repair-index")
    assert report["index_repaired"] is True
    assert run_json("fsck", filled)["problems"] == []
    assert not set(deltas) & set((store / ".cas/index").iterdir())
    before = sum(p.stat().st_size for p in packs(store))
    get_artifact_repository(new_run_uri(filled)).log_artifacts(str(tmp_path / "source"))
    assert sum(p.stat().st_size for p in packs(store)) == before


def test_damaged_index_stops_nobody(filled, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_CACHE_DIR", str(tmp_path / "cache"))
    for delta in (tmp_path / "store" / ".cas/index").iterdir():
        flip(delta, 50)
    opening._stores.clear()
    repository = get_artifact_repository(new_run_uri(filled))
    repository.log_artifacts(str(tmp_path / "source"))
    assert "Going on without it" in caplog.text
    path = Path(repository.download_artifacts("shared.bin"))
    assert path.read_bytes() == random_bytes(6 * MIB)


def test_tampered_store_of_segments(filled, tmp_path):
    flip(segments(tmp_path / "store")[0], 60)
    opening._stores.clear()
    problems = run_json("fsck", filled, code=1)["problems"]
    assert "manifest" in {p["kind"] for p in problems}
    with pytest.raises(ArtifactCorruptError):
        run("du", filled)


@pytest.mark.parametrize("may_delete", [True, False])
def test_many_deltas_are_combined(root, tmp_path, monkeypatch, may_delete):
    if not may_delete:

        def refuse(self, keys):
            raise StorageDeniedError("no")

        monkeypatch.setattr(LocalBackend, "delete", refuse)
    for number in range(40):
        (tmp_path / "f").write_bytes(random_bytes(60_000, seed=number))
        get_artifact_repository(new_run_uri(root)).log_artifact(str(tmp_path / "f"))
    values = run_json("stats", root)
    assert values["packs"] == 40
    assert values["index_objects"] < 20 if may_delete else values["index_objects"] == 41
    (tmp_path / "f").write_bytes(random_bytes(60_000, seed=3))
    get_artifact_repository(new_run_uri(root)).log_artifact(str(tmp_path / "f"))
    assert run_json("stats", root)["packs"] == 40
    assert run_json("fsck", root)["problems"] == []
