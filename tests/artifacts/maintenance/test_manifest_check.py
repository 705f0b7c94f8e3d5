"""Damaged and missing manifest segments: named by fsck, and taken out so that all goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.errors import ArtifactCorruptError
from tests.artifacts.support.commands import run, run_json
from tests.artifacts.support.store_files import flip, segments
from tests.contracts.artifact_repository import content, listing, new_run_uri, random_bytes


@pytest.fixture(params=["plain", "encrypted"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "encrypted":
        monkeypatch.setenv("ARTIFACT_KEY", "07" * 32)
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_KEYS", "env:ARTIFACT_KEY")
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_ENCRYPT", "true")
    return f"cas-file://{tmp_path}/store"


def fill(root: str, tmp_path: Path, count: int) -> tuple[ArtifactRepository, dict[str, bytes]]:
    """Log files in one call each, the first of them large."""
    repository, files = get_artifact_repository(new_run_uri(root)), {}
    for number in range(count):
        path = tmp_path / f"f{number:02}"
        files[path.name] = random_bytes(60_000 if number < 3 else 50, seed=number)
        path.write_bytes(files[path.name])
        repository.log_artifact(str(path))
    return repository, files


def damage(path: Path) -> None:
    flip(path, path.stat().st_size // 2)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


@pytest.mark.parametrize("how", [damage, cut, Path.unlink], ids=["flipped", "cut", "missing"])
@pytest.mark.parametrize("lost", [(0,), (1,), (1, 2), (3,)], ids=str)
def test_lost_calls(root, tmp_path, how: Callable[[Path], None], lost):
    if how is Path.unlink and 3 in lost:
        pytest.skip("the last call has no successor that names it")
    repository, files = fill(root, tmp_path, 4)
    for number in lost:
        how(
            segments(tmp_path / "store")[number]
            if how is not Path.unlink
            else segments(tmp_path / "store")[lost[0]]
        )
    opening._stores.clear()
    calls = [
        lambda: listing(repository),
        lambda: repository.download_artifacts("f00"),
        lambda: repository.delete_artifacts(),
    ]
    for call in calls:
        with pytest.raises(ArtifactCorruptError, match="--repair-manifests"):
            call()
    with pytest.raises(ArtifactCorruptError, match="nothing more was condemned or removed"):
        run("gc", root, "--grace", "0s")
    before = {p: p.read_bytes() for p in (tmp_path / "store").rglob("*") if p.is_file()}
    problems = run_json("fsck", root, code=1)["problems"]
    assert {p["kind"] for p in problems} == {"manifest"}
    assert any("lost: files that were logged there are missing" in p["what"] for p in problems)
    assert {p: p.read_bytes() for p in (tmp_path / "store").rglob("*") if p.is_file()} == before
    done = run_json("fsck", root, "--repair-manifests", code=1)
    assert done["manifests_repaired"] == 1
    assert done["problems"] == problems
    for number in lost:
        del files[f"f{number:02}"]
    assert content(repository.download_artifacts("")) == files
    assert run_json("fsck", root, "--read-data")["problems"] == []
    kept = [p for p in (tmp_path / "store/.cas/damaged").rglob("*") if p.is_file()]
    assert len(kept) == (0 if how is Path.unlink else len(lost))
    # What was lost is logged again, and everything else works.
    for number in lost:
        repository.log_artifact(str(tmp_path / f"f{number:02}"))
    opening._stores.clear()
    assert [p for p, *_ in listing(repository)] == [f"f{n:02}" for n in range(4)]
    run("gc", root, "--grace", "0s")
    repository.delete_artifacts()
    assert listing(repository) == []


def test_damaged_segment_whose_calls_others_hold(root, tmp_path):
    """A joined segment next to its entries: nothing is lost."""
    repository, files = fill(root, tmp_path, 17)
    (joined,) = [p for p in segments(tmp_path / "store") if len(p.name) == 25]
    damage(joined)
    opening._stores.clear()
    problems = run_json("fsck", root, "--repair-manifests", code=1)["problems"]
    assert [p["where"].rpartition("/")[2] for p in problems] == [joined.name]
    assert not joined.exists()
    assert content(repository.download_artifacts("")) == files
    assert run_json("fsck", root, "--read-data")["problems"] == []


def test_damaged_segment_that_alone_holds_its_calls(root, tmp_path):
    repository, files = fill(root, tmp_path, 17)
    (joined,) = [p for p in segments(tmp_path / "store") if len(p.name) == 25]
    for path in segments(tmp_path / "store")[:-1]:
        if path != joined:
            path.unlink()
    left = segments(tmp_path / "store")
    assert joined in left
    damage(joined)
    opening._stores.clear()
    run_json("fsck", root, "--repair-manifests", code=1)
    remaining = {n: d for n, d in files.items() if n == "f16"}
    assert content(repository.download_artifacts("")) == remaining
    repository.log_artifact(str(tmp_path / "f00"))
    assert run_json("fsck", root, "--read-data")["problems"] == []
