"""A file is handed over with exactly its bytes, whatever a manifest, recipe or cache says."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.pack import PackBuilder
from mlflow_plugins_pack.artifacts.format.recipe import encode_recipe_part
from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.artifacts.store.chunk_reader import read_recipe
from mlflow_plugins_pack.artifacts.store.opening import open_store
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from mlflow_plugins_pack.errors import ArtifactCorruptError
from tests.artifacts.support.commands import run_json
from tests.contracts.artifact_repository import content, new_run_uri, random_bytes

MIB = 1024 * 1024


@pytest.fixture
def store_folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def repository(store_folder: Path) -> ArtifactRepository:
    return get_artifact_repository(new_run_uri(f"cas-file://{store_folder}"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def log(repository: ArtifactRepository, tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "f"
    path.write_bytes(data)
    repository.log_artifact(str(path))
    return path


def logged(repository: ArtifactRepository) -> tuple[Store, str, FileEntry]:
    """Return the store, the scope and the only entry of a repository."""
    store = open_store(parse_location(repository.artifact_uri))
    (scope,) = store.manifests.scopes_under("")
    (entry,) = store.manifests.view(scope).files.values()
    return store, scope, entry


@pytest.mark.parametrize("size", [100_000, 300_000])
@pytest.mark.parametrize("field", ["stored", "raw", "offset", "codec"])
@pytest.mark.parametrize("which", ["first", "last"])
def test_wrong_place_in_a_manifest(
    repository, store_folder, tmp_path, target, monkeypatch, size, field, which
):
    """A writer that was told nonsense commits a place that is off: never other bytes."""
    data = random_bytes(size)
    log(repository, tmp_path, data)
    store, scope, entry = logged(repository)
    at = 0 if which == "first" else -1
    chunks = list(entry.chunks)
    wrong = {field: getattr(chunks[at], field) + (1 if field == "codec" else 2)}
    chunks[at] = chunks[at]._replace(**wrong)
    total = sum(chunk.raw for chunk in chunks)
    store.manifests.commit(scope, [replace(entry, path="g", size=total, chunks=tuple(chunks))])
    open_of_g = partial(repository.open_artifact, "g")
    if field == "raw":
        # The file claims to be longer than what its hash was taken of.
        with pytest.raises(ArtifactCorruptError):
            repository.download_artifacts("g", str(target))
        assert content(target) == {}
        with open_of_g() as file, pytest.raises(ArtifactCorruptError):
            file.read()
    else:
        # The chunk's hash finds it where the index has it.
        assert Path(repository.download_artifacts("g", str(target))).read_bytes() == data
        with open_of_g() as file:
            assert file.read() == data
    problems = run_json("fsck", f"cas-file://{store_folder}", code=1)["problems"]
    assert [p["where"].rpartition("/")[2] for p in problems] == ["g"]


@pytest.mark.parametrize("column", ["place", "stored", "raw", "codec"])
def test_wrong_place_in_the_index_cache(
    repository, store_folder, tmp_path, target, monkeypatch, column
):
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_CACHE_DIR", str(tmp_path / "cache"))
    opening._stores.clear()
    data = random_bytes(200_000)
    path = log(repository, tmp_path, data)
    opening._stores.clear()
    (cache,) = (tmp_path / "cache").glob("*.sqlite")
    with contextlib.closing(sqlite3.connect(cache)) as database, database:
        database.execute("DELETE FROM files")
        database.execute(f"UPDATE chunks SET {column} = {column} + 2 WHERE raw > 16")
    other = get_artifact_repository(new_run_uri(f"cas-file://{store_folder}"))
    other.log_artifact(str(path))
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_CACHE_DIR", str(tmp_path / "fresh"))
    opening._stores.clear()
    assert Path(other.download_artifacts("f", str(target))).read_bytes() == data
    assert run_json("fsck", f"cas-file://{store_folder}", "--read-data")["problems"] == []


def test_recipe_that_ends_early_is_found_by_every_reader(
    repository, tmp_path, store_folder, target
):
    data = random_bytes(9 * MIB)
    log(repository, tmp_path, data)
    store, scope, entry = logged(repository)
    (place,) = entry.recipe
    part = read_recipe(store, place)
    short = encode_recipe_part(entry.sha256, entry.size, 0, 1, part.chunks[:-1])
    builder = PackBuilder(store.sealer)
    record = builder.add(1, 0, store.sealer.chunk_id(short), short, len(short))
    name, packed, _ = builder.finish()
    store.packs.write(name, packed)
    store.manifests.commit(scope, [replace(entry, path="g", recipe=(record.at(name),))])
    with pytest.raises(ArtifactCorruptError, match="do not add up"):
        repository.download_artifacts("g", str(target))
    with (
        repository.open_artifact("g") as file,
        pytest.raises(ArtifactCorruptError, match=f"of its {len(data)} bytes"),
    ):
        file.read()
