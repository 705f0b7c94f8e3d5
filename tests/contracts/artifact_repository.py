"""What every artifact repository of the pack must do, on whatever storage it is.

A test module subclasses `ArtifactRepositoryContract` and gives the fixture ``root``: the URI of an
empty artifact root, the environment set so that it can be reached.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import random
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

MIB = 1024 * 1024

ODD_NAMES = ("with space.txt", "ünï ☃.txt", "100%.txt", "a+b=c&d.txt", "%41.txt", "quote'\".txt")

HOSTILE_PATHS = (
    "/etc/passwd",
    "//etc/passwd",
    "..",
    "../x",
    "a/../../x",
    "a//../b",
    "a/..",
    "%2e%2e/x",
    "a/%2e%2e/%2e%2e/x",
    "%252e%252e/x",
    "a%2fb",
    "..%2fx",
    "a\\b",
    "..\\x",
    "a%5cb",
    "a\0b",
    "a%00b",
    "a\nb",
)


def new_run_uri(root: str) -> str:
    """Return the artifact URI of a new run below a root."""
    return f"{root}/1/{uuid.uuid4().hex}/artifacts"


def listing(repository: ArtifactRepository, path: str | None = None) -> list[tuple[object, ...]]:
    """Return a listing as plain values."""
    return [(info.path, info.is_dir, info.file_size) for info in repository.list_artifacts(path)]


def content(folder: str | Path) -> dict[str, bytes]:
    """Return all files of a local folder."""
    base = Path(folder)
    return {p.relative_to(base).as_posix(): p.read_bytes() for p in base.rglob("*") if p.is_file()}


def random_bytes(length: int, seed: int = 0) -> bytes:
    """Return bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(length)


class ArtifactRepositoryContract:
    """Inherit, and give the fixture ``root``."""

    @pytest.fixture
    def root(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def repository(self, root: str) -> ArtifactRepository:
        return get_artifact_repository(new_run_uri(root))

    @pytest.fixture
    def write(self, tmp_path: Path) -> Callable[[str, bytes], Path]:
        def write(name: str, data: bytes) -> Path:
            path = tmp_path / "local" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            return path

        return write

    # --- files -----------------------------------------------------------------------------------

    def test_nothing_is_there_at_first(self, repository, tmp_path):
        assert listing(repository) == []
        assert listing(repository, "any/folder") == []
        assert repository.download_artifacts("", str(tmp_path)) == str(tmp_path)
        repository.delete_artifacts()
        repository.delete_artifacts("any/folder")

    @pytest.mark.parametrize(
        "size", [0, 1, 1000, 40_000, 300_000, 5 * MIB], ids=lambda size: f"{size}B"
    )
    def test_file_comes_back(self, repository, write, tmp_path, size):
        data = random_bytes(size)
        repository.log_artifact(str(write("model.bin", data)), "a/b")
        assert listing(repository, "a/b") == [("a/b/model.bin", False, size)]
        assert listing(repository) == [("a", True, None)]
        assert listing(repository, "a/b/model.bin") == []
        target = tmp_path / "out"
        target.mkdir()
        local = repository.download_artifacts("a/b/model.bin", str(target))
        assert local == str(target / "a/b/model.bin")
        assert content(target) == {"a/b/model.bin": data}

    def test_long_file_with_a_recipe_comes_back(self, repository, write, tmp_path):
        data = random_bytes(12 * MIB) + b"\0" * (12 * MIB) + random_bytes(12 * MIB, seed=1)
        repository.log_artifact(str(write("weights", data)))
        local = repository.download_artifacts("weights", str(tmp_path))
        assert hashlib.sha256(Path(local).read_bytes()).digest() == hashlib.sha256(data).digest()

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_odd_name(self, repository, write, tmp_path, name):
        repository.log_artifact(str(write(name, b"content")), "an odd/földer")
        path = f"an odd/földer/{name}"
        assert listing(repository, "an odd/földer") == [(path, False, 7)]
        assert Path(repository.download_artifacts(path)).read_bytes() == b"content"

    def test_folder_comes_back(self, repository, write, tmp_path):
        files = {
            "MLmodel": b"flavors: {}\n",
            "data/empty": b"",
            "data/model.pkl": random_bytes(200_000),
            "data/deep/er/x.csv": b"1,2,3\n" * 50_000,
        }
        for name, data in files.items():
            path = write(name, data)
        repository.log_artifacts(str(path.parents[3]), "model")
        target = tmp_path / "out"
        target.mkdir()
        assert repository.download_artifacts("model", str(target)) == str(target / "model")
        assert content(target / "model") == files
        assert listing(repository, "model/data") == [
            ("model/data/deep", True, None),
            ("model/data/empty", False, 0),
            ("model/data/model.pkl", False, 200_000),
        ]

    def test_many_small_files_come_back(self, repository, write, tmp_path):
        files = {f"part-{n:04}.json": random_bytes(2_000, seed=n) for n in range(200)}
        for name, data in files.items():
            path = write(name, data)
        repository.log_artifacts(str(path.parent))
        target = tmp_path / "out"
        target.mkdir()
        repository.download_artifacts("", str(target))
        assert content(target) == files

    def test_later_file_replaces_earlier(self, repository, write):
        repository.log_artifact(str(write("f", b"old")))
        repository.log_artifact(str(write("f", b"new one")))
        assert listing(repository) == [("f", False, 7)]
        assert Path(repository.download_artifacts("f")).read_bytes() == b"new one"

    def test_more_segments_than_are_kept_apart(self, repository, write):
        for number in range(40):
            repository.log_artifact(str(write(f"f{number:02}", b"%d" % number)))
        repository.delete_artifacts("f07")
        expected = [(f"f{n:02}", False, len(str(n))) for n in range(40) if n != 7]
        assert listing(repository) == expected
        assert Path(repository.download_artifacts("f33")).read_bytes() == b"33"

    def test_folder_above_several_runs(self, root, write, tmp_path):
        files = {}
        for number in (1, 2):
            scope = f"7/{number:032x}/artifacts"
            files[f"{scope}/sub/f"] = b"%d" % number
            path = str(write("f", files[f"{scope}/sub/f"]))
            get_artifact_repository(f"{root}/{scope}").log_artifact(path, "sub")
        whole = get_artifact_repository(root)
        for wanted in ("", "7", f"7/{2:032x}"):
            target = tmp_path / f"out-{len(wanted)}"
            target.mkdir()
            whole.download_artifacts(wanted, str(target))
            assert content(target) == {p: d for p, d in files.items() if p.startswith(wanted)}
        lines = [
            f"{path}\0{len(data)}\0{hashlib.sha256(data).hexdigest()}\n".encode()
            for path, data in sorted(files.items())
        ]
        digest = f"sha256:{hashlib.sha256(b''.join(lines)).hexdigest()}"
        assert whole.content_digest("") == digest

    @pytest.mark.parametrize("length", [255, 256])
    def test_longest_name(self, repository, write, tmp_path, length):
        """What no disk could take is refused, since it could not be downloaded."""
        source = str(write("source/f", b"x").parent)
        name = "ü" * 127 + "u" * (length - 254)
        calls = [
            lambda: repository.log_artifact_from_stream(io.BytesIO(b"x"), name, None),
            lambda: repository.log_artifacts(source, f"a/{name}"),
        ]
        for call in calls:
            if length > 255:
                with pytest.raises(MlflowException, match="Use a shorter name") as caught:
                    call()
                assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
            else:
                call()
        repository.download_artifacts("", str(tmp_path))
        assert len(listing(repository)) == (2 if length == 255 else 0)

    def test_named_pipe_in_a_folder(self, repository, write, tmp_path):
        source = write("source/f", b"x").parent
        os.mkfifo(source / "pipe")
        for call in (
            lambda: repository.log_artifacts(str(source)),
            lambda: repository.log_artifact(str(source / "pipe")),
        ):
            with pytest.raises(MlflowException, match="is a named pipe"):
                call()
        assert listing(repository) == []

    def test_slashes_in_a_row_are_read_as_one(self, repository, write, tmp_path):
        """A server stores what is put to ``a//b`` at ``a/b``: it is asked for as it was put."""
        repository.log_artifact(str(write("b", b"x")), "a")
        assert listing(repository, "a//") == listing(repository, "a")
        assert Path(repository.download_artifacts("a//b", str(tmp_path))) == tmp_path / "a/b"
        repository._download_file("a//b", str(tmp_path / "out"))
        assert (tmp_path / "out").read_bytes() == b"x"
        with pytest.raises(MlflowException):
            repository.log_artifact(str(write("b", b"y")), "a//c")
        repository.delete_artifacts("a//b")
        assert [p for p, is_dir, _ in listing(repository, "a") if not is_dir] == []

    def test_file_and_folder_of_one_name(self, repository, write, tmp_path):
        """As in stock: the folder is downloaded by its name; a disk cannot have both."""
        repository.log_artifact(str(write("a", b"file")))
        local = str(write("f", b"in the folder"))
        if repository.artifact_uri.startswith("cas-file"):
            pytest.skip("refused on a disk")
        repository.log_artifact(local, "a")
        for target in ("folder", "all", "file"):
            (tmp_path / target).mkdir()
        repository.download_artifacts("a", str(tmp_path / "folder"))
        assert content(tmp_path / "folder") == {"a/f": b"in the folder"}
        with pytest.raises(MlflowException, match=r"both a file and a folder 'a'"):
            repository.download_artifacts("", str(tmp_path / "all"))
        assert content(tmp_path / "all") == {}
        with repository.open_artifact("a") as file:
            assert file.read() == b"file"

    def test_download_file_method(self, repository, write, tmp_path):
        repository.log_artifact(str(write("f", b"x" * 100_000)))
        repository._download_file(remote_file_path="f", local_path=str(tmp_path / "there"))
        assert (tmp_path / "there").read_bytes() == b"x" * 100_000

    # --- refusals --------------------------------------------------------------------------------

    @pytest.mark.parametrize("path", ["missing", "a/missing", "a/f/below"])
    def test_missing_artifact(self, repository, write, tmp_path, path):
        repository.log_artifact(str(write("f", b"x")), "a")
        with pytest.raises(MlflowException) as caught:
            repository.download_artifacts(path, str(tmp_path))
        assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
        with pytest.raises(MlflowException):
            repository._download_file(path, str(tmp_path / "x"))
        assert not (tmp_path / "x").exists()

    def test_missing_destination(self, repository, write, tmp_path):
        repository.log_artifact(str(write("f", b"x")))
        with pytest.raises(MlflowException) as caught:
            repository.download_artifacts("f", str(tmp_path / "nowhere"))
        assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"

    @pytest.mark.parametrize("path", HOSTILE_PATHS, ids=repr)
    def test_hostile_path_is_refused_everywhere(self, repository, write, tmp_path, path):
        local = write("f", b"x")
        repository.log_artifact(str(local))
        calls = [
            lambda: repository.list_artifacts(path),
            lambda: repository.download_artifacts(path, str(tmp_path)),
            lambda: repository._download_file(path, str(tmp_path / "out")),
            lambda: repository.delete_artifacts(path),
            lambda: repository.log_artifact(str(local), path),
            lambda: repository.log_artifacts(str(local.parent), path),
            lambda: repository.log_artifact_from_stream(io.BytesIO(b"x"), "f", path),
            lambda: repository.content_digest(path),
        ]
        for call in calls:
            with pytest.raises(MlflowException) as caught:
                call()
            assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
            assert "othing was" in caught.value.message
        assert listing(repository) == [("f", False, 1)]
        assert not (tmp_path / "out").exists()

    # --- streams ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [0, 10, 100_000, 9 * MIB], ids=lambda size: f"{size}B")
    def test_stream(self, repository, size):
        data = random_bytes(size)
        repository.log_artifact_from_stream(io.BytesIO(data), "ignored/f", "a")
        assert Path(repository.download_artifacts("a/f")).read_bytes() == data

    @pytest.mark.parametrize("size", [0, 10, 100_000, 9 * MIB], ids=lambda size: f"{size}B")
    def test_async_stream(self, repository, size):
        data = random_bytes(size)

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, size, 70_000):
                yield data[start : start + 70_000]

        asyncio.run(repository.log_artifact_from_async_stream(chunks(), "f", "a"))
        assert Path(repository.download_artifacts("a/f")).read_bytes() == data

    def test_broken_async_stream_leaves_nothing(self, repository):
        async def chunks() -> AsyncIterator[bytes]:
            yield random_bytes(6 * MIB)
            raise ConnectionResetError("the client went away")

        with pytest.raises(ConnectionResetError):
            asyncio.run(repository.log_artifact_from_async_stream(chunks(), "f"))
        assert listing(repository) == []

    def test_stream_and_file_are_stored_once(self, repository, write, stored_bytes):
        data = random_bytes(3 * MIB)
        repository.log_artifact(str(write("f", data)))
        before = stored_bytes()
        repository.log_artifact_from_stream(io.BytesIO(data), "g")
        assert stored_bytes() - before < 5_000

    # --- deduplication ---------------------------------------------------------------------------

    @pytest.fixture
    def stored_bytes(self, root: str) -> Callable[[], int]:
        from mlflow_plugins_pack.artifacts.store.opening import open_store
        from mlflow_plugins_pack.artifacts.uri.location import parse_location

        def count() -> int:
            store = open_store(parse_location(root))
            prefix = store.location.path
            return sum(s.size for s in store.backend.list(f"{prefix}/" if prefix else ""))

        return count

    def test_same_file_in_another_run_is_stored_once(self, root, repository, write, stored_bytes):
        path = write("f", random_bytes(8 * MIB))
        repository.log_artifact(str(path))
        before = stored_bytes()
        other = get_artifact_repository(new_run_uri(root))
        other.log_artifact(str(path))
        assert stored_bytes() - before < 5_000
        assert Path(other.download_artifacts("f")).read_bytes() == path.read_bytes()

    def test_changed_file_stores_what_changed(self, repository, write, stored_bytes):
        data = random_bytes(8 * MIB)
        repository.log_artifact(str(write("f", data)))
        before = stored_bytes()
        changed = data[: 3 * MIB] + b"inserted" + data[3 * MIB :]
        repository.log_artifact(str(write("g", changed)))
        assert stored_bytes() - before < 600_000
        assert Path(repository.download_artifacts("g")).read_bytes() == changed

    # --- deleting --------------------------------------------------------------------------------

    def test_delete_file_and_folder(self, repository, write):
        for name in ("a/x", "a/y", "ab/z", "c"):
            path = write(name, name.encode())
        repository.log_artifacts(str(path.parent))
        repository.delete_artifacts("c")
        repository.delete_artifacts("a")
        assert listing(repository) == [("ab", True, None)]
        repository.delete_artifacts("never there")
        repository.delete_artifacts()
        assert listing(repository) == []
        repository.log_artifact(str(path))
        assert listing(repository) == [("c", False, 1)]

    def test_delete_in_one_run_keeps_the_other(self, root, repository, write):
        path = write("f", random_bytes(200_000))
        other = get_artifact_repository(new_run_uri(root))
        repository.log_artifact(str(path))
        other.log_artifact(str(path))
        repository.delete_artifacts()
        assert Path(other.download_artifacts("f")).read_bytes() == path.read_bytes()

    def test_delete_in_a_run_that_holds_nothing(self, root, repository, write):
        repository.log_artifact(str(write("f", b"x")))
        other = get_artifact_repository(new_run_uri(root))
        other.delete_artifacts()
        other.delete_artifacts("f")
        assert listing(other) == []
        assert listing(repository) == [("f", False, 1)]

    # --- one store, several ways in --------------------------------------------------------------

    def test_server_and_client_see_the_same(self, root, write):
        run = f"1/{uuid.uuid4().hex}/artifacts"
        server = get_artifact_repository(root)
        client = get_artifact_repository(f"{root}/{run}")
        server.log_artifact(str(write("from-server", b"1")), f"{run}/x")
        client.log_artifact(str(write("from-client", b"2")), "x")
        assert listing(client, "x") == [("x/from-client", False, 1), ("x/from-server", False, 1)]
        assert [path for path, *_ in listing(server, f"{run}/x")] == [
            f"{run}/x/from-client",
            f"{run}/x/from-server",
        ]
        assert ("1", True, None) in listing(server)
        server.delete_artifacts(run)
        assert listing(client) == []

    # --- trace data ------------------------------------------------------------------------------

    def test_trace_data(self, root):
        repository = get_artifact_repository(f"{root}/1/traces/tr-{uuid.uuid4().hex}/artifacts")
        repository.upload_trace_data('{"spans": []}')
        assert repository.download_trace_data() == {"spans": []}
        repository.upload_archived_trace_data_bytes(b"payload")
        assert Path(repository.download_artifacts("traces.pb")).read_bytes() == b"payload"
        attachment = str(uuid.uuid4())
        repository.upload_attachment(attachment, b"image")
        assert repository.download_trace_attachment(attachment) == b"image"
        repository.delete_artifacts()
        assert listing(repository) == []

    # --- digest ----------------------------------------------------------------------------------

    def test_digest_can_be_recomputed_from_the_files(self, repository, write):
        files = {"b/ü.txt": b"1", "b/a": b"", "b/big": random_bytes(400_000), "z": b"2"}
        for name, data in files.items():
            path = write(name, data)
        repository.log_artifacts(str(path.parent), "model")
        lines = sorted(
            f"{n}\0{len(d)}\0{hashlib.sha256(d).hexdigest()}\n".encode() for n, d in files.items()
        )
        expected = f"sha256:{hashlib.sha256(b''.join(lines)).hexdigest()}"
        assert repository.content_digest("model") == expected
        assert repository.file_digests("model") == {
            name: hashlib.sha256(data).hexdigest() for name, data in files.items()
        }
        assert repository.file_digests("model/z") == {"z": hashlib.sha256(b"2").hexdigest()}
        assert repository.content_digest() != expected
        with pytest.raises(MlflowException):
            repository.content_digest("missing")

    # --- locks -----------------------------------------------------------------------------------

    def test_locked_content_cannot_be_changed(self, root, repository, write):
        for name in ("model/a", "model/sub/b", "other"):
            path = write(name, name.encode())
        repository.log_artifacts(str(path.parent))
        digest = repository.content_digest("model")
        repository.lock("approved for alias 'prod'", "model")
        repository.lock("approved for alias 'prod'", "model")
        repository.lock("audit", "model/sub")
        assert repository.locks() == {
            "model": ["approved for alias 'prod'"],
            "model/sub": ["audit"],
        }
        new = write("new", b"new")
        refused = [
            lambda: repository.log_artifact(str(path.parent / "model/a"), "model"),
            lambda: repository.log_artifact(str(new), "model/sub"),
            lambda: repository.log_artifacts(str(path.parent)),
            lambda: repository.log_artifact_from_stream(io.BytesIO(b"x"), "a", "model"),
            lambda: repository.delete_artifacts("model/a"),
            lambda: repository.delete_artifacts("model"),
            lambda: get_artifact_repository(root).delete_artifacts(),
        ]
        for call in refused:
            with pytest.raises(MlflowException, match=r"CONTENT_LOCKED.*approved for alias") as e:
                call()
            assert e.value.error_code == "PERMISSION_DENIED"
        assert repository.content_digest("model") == digest
        repository.log_artifact(str(new))
        repository.delete_artifacts("other")
        for number in range(40):
            repository.log_artifact(str(write(f"f{number}", b"1")))
        assert repository.content_digest("model") == digest
        with pytest.raises(MlflowException, match="CONTENT_LOCKED"):
            repository.delete_artifacts("model")
        repository.unlock("approved for alias 'prod'", "model")
        repository.unlock("never there", "model")
        repository.log_artifact(str(new), "model")
        with pytest.raises(MlflowException, match=r"CONTENT_LOCKED.*audit"):
            repository.delete_artifacts("model")
        repository.unlock("audit", "model/sub")
        repository.delete_artifacts()
        assert listing(repository) == []
        assert repository.locks() == {}

    def test_deleting_a_whole_run_keeps_what_is_locked(self, root, repository, write, caplog):
        for name in ("model/a", "model/sub/b", "model/sub/deep/c", "other", "data/d"):
            write(name, name.encode())
        repository.log_artifacts(str(write("other", b"other").parent))
        repository.lock("approved for alias 'prod'", "model/sub")
        digest = repository.content_digest("model/sub")
        for _ in range(2):
            repository.delete_artifacts()
            assert listing(repository) == [("model", True, None)]
            assert listing(repository, "model") == [("model/sub", True, None)]
        assert repository.content_digest("model/sub") == digest
        assert "except for what is locked" in caplog.text
        with pytest.raises(MlflowException, match="CONTENT_LOCKED"):
            repository.delete_artifacts("model")
        repository.unlock("approved for alias 'prod'", "model/sub")
        repository.delete_artifacts()
        assert listing(repository) == []

    def test_lock_needs_something_to_lock(self, root, repository, write):
        assert repository.locks() == {}
        repository.unlock("x")
        repository.log_artifact(str(write("f", b"1")))
        with pytest.raises(MlflowException) as caught:
            repository.lock("x", "missing")
        assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
        for reason, repo in (("", repository), ("x" * 1001, repository)):
            with pytest.raises(MlflowException) as caught:
                repo.lock(reason)
            assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
        with pytest.raises(MlflowException, match="each is locked by itself"):
            get_artifact_repository(root).lock("x")


def pretend_server(monkeypatch: pytest.MonkeyPatch, destination: str) -> None:
    """Make this process look as one of `mlflow server`'s workers does."""
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "mlflow-artifacts:/")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", destination)
