"""Versions of files that git or DVC tracks: named only where the bytes are theirs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlflow_plugins_pack.cli.lineage.group import lineage
from mlflow_plugins_pack.lineage.attribution.scope import Scope
from mlflow_plugins_pack.lineage.attribution.windows import Window
from mlflow_plugins_pack.lineage.building.builder import GraphBuilder
from mlflow_plugins_pack.lineage.capture.event import READ, Event
from mlflow_plugins_pack.lineage.document.graph import Entry, Graph, file_uri
from mlflow_plugins_pack.lineage.files import file_state
from mlflow_plugins_pack.lineage.fingerprints import git
from mlflow_plugins_pack.lineage.fingerprints.hashing import Fingerprinter
from mlflow_plugins_pack.lineage.query.compare import RunFacts, compare
from mlflow_plugins_pack.lineage.query.verify import check
from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No digest of an earlier test, and none of the person's git settings."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def in_git(folder: Path, *arguments: str) -> str:
    names = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=false")
    done = subprocess.run(
        ["git", *names, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def read_now(*paths: Path, full_bytes: int = 1 << 28, hashes: bool = True) -> list[Entry]:
    """Return the entries of a run that reads these files now."""
    builder = GraphBuilder(limit=1000, hash_files=hashes, full_bytes=full_bytes, home="")
    return read_by(builder, *paths)


def read_by(builder: GraphBuilder, *paths: Path) -> list[Entry]:
    scope = Scope()
    for number, path in enumerate(paths):
        event = Event(number, READ, str(path), "audit", (), 0, file_state(str(path)))
        scope.reads[event.where] = event
    window = Window(scope, Scope(), frozenset(), ())
    found = builder.build(window, dropped=0, layers=()).inputs
    assert len(found) == len(paths)
    uris = [file_uri(str(path)) for path in paths]
    return sorted(found, key=lambda e: uris.index(e.uri))


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


# --- git ------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    in_git(folder, "init", "-q")
    return folder


def test_tracked_clean_file_has_its_blob_and_no_other_file_has(repository: Path) -> None:
    names = ("plain.csv", "odd [1]*?\\/a *.csv", "data/nä me.csv", "data/edited.csv")
    for name in names:
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_bytes(os.urandom(70_000) + name.encode())
    (repository / "large.bin").write_bytes(os.urandom(1_500_000))
    in_git(repository, "add", ".")
    in_git(repository, "commit", "-qm", "data")
    (repository / "data" / "edited.csv").write_text("other")
    (repository / "data" / "untracked.csv").write_text("x")
    (repository / "link.csv").symlink_to("plain.csv")
    paths = [repository / name for name in (*names, "large.bin", "data/untracked.csv")]
    found = [entry.version for entry in read_now(*paths)]
    blobs = [in_git(repository, "rev-parse", f"HEAD:{name}") for name in (*names[:3], "large.bin")]
    assert found == [*(f"git:{b}" for b in blobs[:3]), None, f"git:{blobs[3]}", None]
    # What is too large to be hashed in full, or not hashed at all, is not asked about.
    assert read_now(repository / "large.bin", full_bytes=1000)[0].version is None
    assert read_now(repository / "large.bin", hashes=False)[0].version is None


def test_worktree_and_index_that_changes(repository: Path, tmp_path: Path) -> None:
    (repository / "a.csv").write_text("a")
    in_git(repository, "add", ".")
    in_git(repository, "commit", "-qm", "a")
    in_git(repository, "worktree", "add", "-q", str(tmp_path / "tree"))
    path = tmp_path / "tree" / "b.csv"
    path.write_text("b")
    builder = GraphBuilder(limit=10, hash_files=True, full_bytes=1000, home="")
    assert read_by(builder, path)[0].version is None
    in_git(tmp_path / "tree", "add", "b.csv")
    blob = in_git(tmp_path / "tree", "hash-object", "b.csv")
    assert read_by(builder, path)[0].version == f"git:{blob}"
    assert read_by(builder, tmp_path / "tree" / "a.csv")[0].version is not None


def test_lfs_file_is_known_by_its_pointer(repository: Path) -> None:
    content = os.urandom(1000)
    path = repository / "model.bin"
    path.write_text(
        "version https://git-lfs.github.com/spec/v1\n"
        f"oid sha256:{hashlib.sha256(content).hexdigest()}\nsize 1000\n"
    )
    in_git(repository, "add", ".")
    blob = in_git(repository, "ls-files", "--stage").split()[1]
    path.write_bytes(content)  # as git-lfs's filter does
    assert read_now(path)[0].version == f"git:{blob}"


def test_sha256_repository_counts_as_none(tmp_path: Path) -> None:
    in_git(tmp_path, "init", "-q", "--object-format=sha256", "new")
    (tmp_path / "new" / "a").write_text("a")
    in_git(tmp_path / "new", "add", ".")
    assert read_now(tmp_path / "new" / "a")[0].version is None


def test_one_process_for_a_repository_and_none_without(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    run = git.run
    monkeypatch.setattr(git, "run", lambda *a: asked.append(a) or run(*a))
    builder = GraphBuilder(limit=1000, hash_files=True, full_bytes=1 << 20, home="")
    builder.prepare()
    asked.clear()
    paths = [repository / f"{n % 120}" / f"{n}.csv" for n in range(300)]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text(path.name)
    in_git(repository, "add", ".")
    assert all(entry.version for entry in read_by(builder, *paths))
    assert all(entry.version for entry in read_by(builder, *paths[::2]))
    assert len(asked) == 1
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.csv").write_text("a")
    assert read_by(builder, outside / "a.csv")[0].version is None
    assert len(asked) == 1
    # A repository that git cannot read is asked once.
    (outside / ".git").mkdir()
    (outside / ".git" / "index").write_text("nonsense")
    other = GraphBuilder(limit=1000, hash_files=True, full_bytes=1 << 20, home="")
    asked.clear()
    for _ in range(2):
        assert read_by(other, outside / "a.csv")[0].version is None
    assert len([arguments for arguments in asked if "ls-files" in arguments]) == 1


# --- DVC ------------------------------------------------------------------------------------------


def test_file_beside_its_dvc_file(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(b"x,y\r\n1,2\r\n")
    record = tmp_path / "train.csv.dvc"

    def written(expected: bytes, extra: str = "  hash: md5\n") -> str | None:
        record.write_text(
            f"outs:\n- md5: {md5(expected)}\n  size: {len(expected)}\n{extra}  path: train.csv\n"
        )
        return read_now(path)[0].version

    own = path.read_bytes()
    assert written(own) == f"dvc:md5:{md5(own)}"
    assert written(own[::-1]) == f"dvc-modified:md5:{md5(own[::-1])}"
    assert written(own + b"1") == f"dvc-modified:md5:{md5(own + b'1')}"
    # Before version 3, line ends of text did not count: another md5 says nothing.
    assert written(own[::-1], "") is None
    assert written(own, "") == f"dvc:md5:{md5(own)}"
    assert read_now(path, hashes=False)[0].version is None
    numbers = "outs:\n- path: 3\n  md5: 4\n"
    for broken in ("outs: [", "outs: 3", "- 1", "", "\0", numbers, "[" * 2000):
        record.write_text(broken)
        assert read_now(path)[0].version is None
    record.write_bytes(b"outs:\n- {path: train.csv, md5: x}\n" + b"#" * (1 << 20))
    assert read_now(path)[0].version is None
    record.unlink()
    os.mkfifo(record)
    assert read_now(path)[0].version is None


def test_lock_of_a_pipeline_with_working_folders(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "work" / "out").mkdir(parents=True)
    first, second = tmp_path / "work" / "out" / "a.csv", tmp_path / "b.csv"
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    (tmp_path / "dvc.yaml").write_text("stages: {one: {wdir: work, cmd: x}, two: {cmd: y}}")
    (tmp_path / "dvc.lock").write_text(f"""
schema: '2.0'
stages:
  one:
    cmd: x
    outs:
    - {{path: out/a.csv, hash: md5, md5: {md5(b"first")}, size: 5}}
  two:
    cmd: y
    outs:
    - {{path: b.csv, hash: md5, md5: {md5(b"another")}, size: 7}}
""")
    assert [e.version for e in read_now(first, second)] == [
        f"dvc:md5:{md5(b'first')}",
        f"dvc-modified:md5:{md5(b'another')}",
    ]


@pytest.mark.parametrize("cache", ["files/md5/", ""])
def test_folder_that_dvc_tracks(tmp_path: Path, cache: str) -> None:
    folder = tmp_path / "images"
    (folder / "cats").mkdir(parents=True)
    listing = []
    for name in ("cats/1.png", "2.png", "3.png"):
        (folder / name).write_text(name)
        listing.append({"md5": md5(name.encode()), "relpath": name})
    text = json.dumps(listing).encode()
    (tmp_path / "images.dvc").write_text(
        f"outs:\n- md5: {md5(text)}.dir\n  size: 22\n  nfiles: 3\n  hash: md5\n  path: images\n"
    )
    (tmp_path / ".dvc").mkdir()
    paths = [folder / name for name in ("cats/1.png", "2.png", "3.png", "new.png")]
    (folder / "3.png").write_text("edited")
    (folder / "new.png").write_text("new")
    # Without the listing in DVC's cache the version is unknown.
    assert {e.version for e in read_now(*paths)} == {None}
    place = tmp_path / ".dvc" / "cache" / cache / md5(text)[:2] / f"{md5(text)[2:]}.dir"
    place.parent.mkdir(parents=True)
    place.write_bytes(text)
    same, other = f"dvc:md5:{md5(text)}.dir", f"dvc-modified:md5:{md5(text)}.dir"
    assert [e.version for e in read_now(*paths)] == [same, same, other, other]


# --- asking ---------------------------------------------------------------------------------------


def test_version_alone_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a")
    (plain,) = read_now(path)
    (tmp_path / "a.csv.dvc").write_text(
        f"outs: [{{md5: {md5(b'a')}, size: 1, hash: md5, path: a.csv}}]"
    )
    (tracked,) = read_now(path)
    assert (plain.version, tracked.version) == (None, f"dvc:md5:{md5(b'a')}")
    difference = compare(
        RunFacts("1", "before", Graph(inputs=(plain,))),
        RunFacts("2", "after", Graph(inputs=(tracked,))),
    )
    assert not difference
    assert difference.same == 1
    assert difference.same_data
    assert len(Graph(inputs=(plain,)).union(Graph(inputs=(tracked,))).inputs) == 1
    assert check(tracked, Fingerprinter()).result == "same"
    (tmp_path / "a.csv.dvc").unlink()
    assert check(tracked, Fingerprinter()).result == "same"
    path.write_text("b")
    seen = check(tracked, Fingerprinter())
    assert (seen.result, f"DVC knows what was read as md5:{md5(b'a')}" in seen.reason) == (
        "changed",
        True,
    )


def test_run_in_a_repository(run_script: RunScript, database: str, tmp_path: Path) -> None:
    in_git(tmp_path, "init", "-q")
    (tmp_path / "a.csv").write_text("a")
    in_git(tmp_path, "add", "a.csv")
    (tmp_path / "b.csv").write_text("b")
    (tmp_path / "b.csv.dvc").write_text(
        f"outs: [{{md5: {md5(b'b')}, size: 1, hash: md5, path: b.csv}}]"
    )
    outcome = run_script(
        """
        import json, mlflow
        with mlflow.start_run() as run:
            open("a.csv").read(), open("b.csv").read()
        print(json.dumps(run.info.run_id))
        """,
        database,
    )
    entries = RunRecord(database, outcome.value).entries()
    assert entries["a.csv"]["v"] == "git:" + in_git(tmp_path, "hash-object", "a.csv")
    assert entries["b.csv"]["v"] == f"dvc:md5:{md5(b'b')}"
    assert set(entries) == {"a.csv", "b.csv"}
    shown = CliRunner().invoke(lineage, ["show", outcome.value, "--tracking-uri", database])
    assert entries["a.csv"]["v"] in shown.output
    assert entries["b.csv"]["v"] in shown.output


# --- artifact stores ------------------------------------------------------------------------------


def test_downloaded_artifact_is_not_hashed_again(
    run_script: RunScript, database: str, tmp_path: Path
) -> None:
    content = os.urandom(100_000)
    (tmp_path / "given.bin").write_bytes(content)
    outcome = run_script(
        """
        import json, os, mlflow
        from mlflow_plugins_pack.lineage.fingerprints import hashing as fingerprint
        mlflow.set_experiment(experiment_id=mlflow.create_experiment(
            "in a cas- store", artifact_location="cas-file://" + os.getcwd() + "/sto re"))
        with mlflow.start_run() as first:
            mlflow.log_artifact("given.bin", "data")
        client = mlflow.MlflowClient()
        client.create_registered_model("kept in a cas- store")
        client.create_model_version(
            "kept in a cas- store", first.info.artifact_uri + "/data", first.info.run_id)
        hashed, hash_large = [], fingerprint._hash_large
        def watched(path, *rest, **named):
            hashed.append(path)
            return hash_large(path, *rest, **named)
        fingerprint._hash_large = watched
        found = []
        # The second time, the file comes from the cache of whole files.
        for uri in (f"runs:/{first.info.run_id}/data", "models:/kept in a cas- store/1"):
            os.mkdir(f"here{len(found)}")
            with mlflow.start_run() as run:
                path = mlflow.artifacts.download_artifacts(uri, dst_path=f"here{len(found)}")
                open(path + "/given.bin", "rb").read()
            found.append(run.info.run_id)
        again = [path for path in hashed if "/here" in path]
        with mlflow.start_run() as run:
            with open(path + "/given.bin", "ab") as file: file.write(b"!")
        with mlflow.start_run() as run:
            open(path + "/given.bin", "rb").read()
        found.append(run.info.run_id)
        print(json.dumps({"first": first.info.run_id, "runs": found, "again": again}))
        """,
        database,
        MLFLOW_PACK_ARTIFACT_CACHE_BYTES=str(1 << 30),
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    first, runs = outcome.value["first"], outcome.value["runs"]
    assert list((tmp_path / "cache").glob("mlflow-pack/**/files/??/*"))
    records = [RunRecord(database, run_id) for run_id in runs]
    for record in records[:2]:
        entry = record.entries()["given.bin"]
        assert (entry["h"], entry["c"]) == (f"sha256:{hashlib.sha256(content).hexdigest()}", "full")
        assert entry["from"].startswith(f"cas-file://{tmp_path}/sto%20re/")
        assert entry["from"].endswith(f"/{first}/artifacts/data/given.bin")
    assert outcome.value["again"] == []
    assert json.loads(records[0].tags["upstream.runs"]) == [first]
    assert json.loads(records[1].tags["upstream.models"]) == ["models:/kept in a cas- store/1"]
    edited = records[2].entries()["given.bin"]
    assert edited["h"] == f"sha256:{hashlib.sha256(content + b'!').hexdigest()}"
    assert "from" not in edited
