"""The same calls on stock MLflow's repository and on ours: same listings, bytes and refusals."""

from __future__ import annotations

import shutil
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from tests.contracts.artifact_repository import content, listing
from tests.support import servers

PATHS = (None, "a", "a/b", "a/b/c", "b", "with space", "ü/%", "missing")
NAMES = ("a", "b", "f.txt", "ü%.bin")
DATA = (b"", b"small", b"x" * 70_000)

folders = st.dictionaries(
    st.sampled_from(["f", "sub/f", "sub/g", "ü %/h", "b/c"]), st.sampled_from(DATA), max_size=3
)
calls = st.one_of(
    st.tuples(
        st.just("log_artifact"),
        st.sampled_from(NAMES),
        st.sampled_from(DATA),
        st.sampled_from(PATHS[:-1]),
    ),
    st.tuples(
        st.just("log_artifacts"),
        folders,
        st.booleans(),
        st.sampled_from(PATHS[:-1]),
    ),
    st.tuples(st.just("delete_artifacts"), st.sampled_from(["a/b", "a", "b", "missing", "a/a"])),
)


def perform(repository: ArtifactRepository, call: tuple[Any, ...], scratch: Path) -> str | None:
    """Perform a call; returns the class of what it refused with."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    name, *arguments = call
    try:
        if name == "log_artifact":
            file_name, data, path = arguments
            (scratch / file_name).write_bytes(data)
            repository.log_artifact(str(scratch / file_name), path)
        elif name == "log_artifacts":
            files, with_empty, path = arguments
            for inner, data in files.items():
                (scratch / inner).parent.mkdir(parents=True, exist_ok=True)
                (scratch / inner).write_bytes(data)
            if with_empty:
                (scratch / "empty" / "deep").mkdir(parents=True)
            repository.log_artifacts(str(scratch), path)
        else:
            repository.delete_artifacts(*arguments)
    except (OSError, MlflowException) as exc:
        return type(exc).__name__
    return None


def is_empty_folder(call: tuple[Any, ...]) -> bool:
    return call[0] == "log_artifacts" and not call[1] and not call[2]


def state(repository: ArtifactRepository, scratch: Path) -> Any:
    """Return all that can be seen of a repository."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    seen: dict[str | None, Any] = {}
    waiting: list[str | None] = [None]
    while waiting:
        path = waiting.pop()
        seen[path] = listing(repository, path)
        waiting += [p for p, is_dir, _ in seen[path] if is_dir]
        for found, is_dir, _ in seen[path]:
            if not is_dir:
                assert listing(repository, found) == []
    repository.download_artifacts("", str(scratch))
    empty = {p.relative_to(scratch).as_posix() for p in scratch.rglob("*") if p.is_dir()}
    return seen, content(scratch), empty


def expect_all_applied(applied: Counter[str]) -> None:
    """Both repositories took calls of every kind; else comparing their states shows nothing."""
    kinds = {"log_artifact", "log_artifacts", "delete_artifacts"}
    assert (+applied).keys() >= kinds, applied


def test_disk(tmp_path: Path) -> None:
    applied: Counter[str] = Counter()

    @settings(max_examples=40, deadline=None)
    @given(made=st.lists(calls, min_size=1, max_size=6))
    @example(made=[("log_artifact", "b", b"", None), ("log_artifacts", {}, False, "b")])
    @example(made=[("log_artifact", "a", b"", "b/c"), ("log_artifacts", {"b/c": b""}, False, None)])
    @example(made=[("log_artifact", "a", b"", "b"), ("delete_artifacts", "b/a")])
    def compare(made: list[tuple[Any, ...]]) -> None:
        base = tmp_path / uuid.uuid4().hex
        base.mkdir()
        stock = get_artifact_repository(f"file://{base}/stock")
        ours = get_artifact_repository(f"cas-file://{base}/store/1/{uuid.uuid4().hex}/artifacts")
        for call in made:
            refused = perform(stock, call, base / "scratch")
            also_refused = perform(ours, call, base / "scratch")
            if also_refused == "ArtifactConflictError" and is_empty_folder(call):
                # Stock makes no folder where a file is in the way, and does not say so.
                continue
            if also_refused == "ArtifactConflictError" and call[0] == "log_artifacts":
                # Stock puts a file into the folder of its name instead of refusing it.
                return
            assert (also_refused is None) == (refused is None), call
            if refused is not None and call[0] == "log_artifacts":
                # Stock stops half-way where a name is taken; ours takes all or nothing.
                return
            applied[call[0]] += refused is None
        # Stock makes the folder that holds everything on the first write only.
        (base / "stock").mkdir(exist_ok=True)
        assert state(ours, base / "out") == state(stock, base / "out")

    compare()
    expect_all_applied(applied)


def test_s3(tmp_path: Path, moto: servers.ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    applied: Counter[str] = Counter()

    @settings(max_examples=12, deadline=None)
    @given(made=st.lists(calls, min_size=1, max_size=5))
    @example(made=[("log_artifact", "a", b"1", None), ("log_artifact", "a", b"2", "a")])
    @example(made=[("log_artifacts", {"f": b""}, False, "a"), ("delete_artifacts", "a")])
    def compare(made: list[tuple[Any, ...]]) -> None:
        base = tmp_path / uuid.uuid4().hex
        base.mkdir()
        root = moto.new_root()
        stock = get_artifact_repository(f"{root}/stock")
        ours = get_artifact_repository(f"cas-{root}/store/1/{uuid.uuid4().hex}/artifacts")
        for call in made:
            refused = perform(stock, call, base / "scratch")
            assert perform(ours, call, base / "scratch") == refused
            applied[call[0]] += refused is None
        listed, theirs = all_listings(ours), all_listings(stock)
        assert listed == theirs
        clash = any(
            {p for p, is_dir, _ in found if is_dir} & {p for p, is_dir, _ in found if not is_dir}
            for found in listed.values()
        )
        # A file and a folder of one name can be stored but not downloaded together, in stock
        # neither.
        if not clash:
            assert state(ours, base / "out") == state(stock, base / "out")

    compare()
    expect_all_applied(applied)


def all_listings(repository: ArtifactRepository) -> dict[str | None, Any]:
    seen: dict[str | None, Any] = {}
    waiting: list[str | None] = [None]
    while waiting:
        path = waiting.pop()
        seen[path] = listing(repository, path)
        waiting += [p for p, is_dir, _ in seen[path] if is_dir and p not in seen]
    return seen


@pytest.mark.parametrize("path", ["missing", "a/missing", "a/f/x"])
def test_same_code_for_what_is_missing(tmp_path, path):
    stock = get_artifact_repository(f"file://{tmp_path}/stock")
    ours = get_artifact_repository(f"cas-file://{tmp_path}/store")
    codes = []
    for repository in (stock, ours):
        perform(repository, ("log_artifact", "f.txt", b"x", "a"), tmp_path / "scratch")
        assert listing(repository, path) == []
        with pytest.raises(MlflowException) as caught:
            repository.download_artifacts(path, str(tmp_path))
        codes.append(caught.value.error_code)
    assert codes[0] == codes[1] == "RESOURCE_DOES_NOT_EXIST"


def test_same_for_a_local_file_that_is_missing(tmp_path):
    for uri in (f"file://{tmp_path}/stock", f"cas-file://{tmp_path}/store"):
        with pytest.raises(FileNotFoundError):
            get_artifact_repository(uri).log_artifact(str(tmp_path / "nowhere"))
