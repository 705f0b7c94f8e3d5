"""No wrong byte is returned as right, and nothing committed is lost."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.download import fetch
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.checked_json import with_check
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry, Segment, encode_segment
from mlflow_plugins_pack.artifacts.format.pack import Chunk, PackBuilder
from mlflow_plugins_pack.artifacts.format.recipe import encode_recipe_part
from mlflow_plugins_pack.artifacts.format.segment_names import bytes_to_read, entry_name
from mlflow_plugins_pack.artifacts.maintenance.gc import collect
from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.artifacts.store.opening import open_store
from mlflow_plugins_pack.artifacts.upload import pack_writer, session
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from mlflow_plugins_pack.errors import (
    ArtifactChangedError,
    ArtifactConflictError,
    ArtifactCorruptError,
    StorageDeniedError,
    StoreFormatError,
)
from tests.artifacts.support.store_files import flip, packs, segments
from tests.contracts.artifact_repository import content, listing, new_run_uri, random_bytes
from tests.support import servers

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


def log(repository: ArtifactRepository, tmp_path: Path, name: str, data: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    repository.log_artifact(str(path))
    return path


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["flipped", "missing", "cut off", "swapped"])
def test_damaged_pack(repository, store_folder, tmp_path, target, damage):
    log(repository, tmp_path, "good", random_bytes(100_000, seed=1))
    log(repository, tmp_path, "bad.bin", random_bytes(400_000, seed=2))
    pack = max(packs(store_folder), key=lambda p: p.stat().st_size)
    if damage == "flipped":
        flip(pack, 200_000)
    elif damage == "missing":
        pack.unlink()
    elif damage == "cut off":
        os.truncate(pack, 150_000)
    else:
        os.replace(min(packs(store_folder), key=lambda p: p.stat().st_size), pack)
    with pytest.raises(ArtifactCorruptError) as caught:
        repository.download_artifacts("", str(target))
    assert "'bad.bin'" in caught.value.message
    assert pack.name in caught.value.message
    assert content(target) == {}
    assert list(target.iterdir()) == []
    with pytest.raises(ArtifactCorruptError):
        repository._download_file("bad.bin", str(target / "x"))
    assert list(target.iterdir()) == []


def test_existing_file_survives_a_failed_download(repository, store_folder, tmp_path, target):
    log(repository, tmp_path, "f", random_bytes(100_000))
    (target / "f").write_bytes(b"what was here before")
    flip(packs(store_folder)[0], 5_000)
    with pytest.raises(ArtifactCorruptError):
        repository.download_artifacts("f", str(target))
    assert content(target) == {"f": b"what was here before"}


def test_other_copy_is_used(repository, store_folder, tmp_path, target, monkeypatch):
    """A place in a manifest may grow old: the chunk's hash finds it elsewhere."""
    data = random_bytes(100_000)
    log(repository, tmp_path, "f", data)
    first = packs(store_folder)[0]
    first.rename(tmp_path / "aside")
    # Another machine that has not heard of the first pack stores the bytes again.
    for delta in (store_folder / ".cas" / "index").iterdir():
        delta.unlink()
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_CACHE_DIR", str(tmp_path / "cache"))
    opening._stores.clear()
    other = get_artifact_repository(new_run_uri(f"cas-file://{store_folder}"))
    log(other, tmp_path, "g", random_bytes(50_000, seed=9) + data)
    log(other, tmp_path, "f", data)
    assert Path(repository.download_artifacts("f", str(target))).read_bytes() == data


@pytest.mark.parametrize("kind", ["random", "text", "mixed"])
def test_bit_flipped_on_the_way_is_read_again(
    repository, store_folder, tmp_path, target, monkeypatch, kind
):
    from mlflow_plugins_pack.artifacts.backends.local import LocalBackend

    text = b"".join(b"line %d of a log that compresses\n" % i for i in range(40_000))
    noise = random_bytes(9 * MIB)
    data = {"random": noise, "text": text, "mixed": noise[: MIB // 2] + text + noise}[kind]
    log(repository, tmp_path, "f", data)
    read, damaged = LocalBackend.read, []

    def bad_line(self, key, start=0, length=None):
        got = read(self, key, start, length)
        if "/packs/" in key and (key, start) not in damaged:
            damaged.append((key, start))
            place = len(got) // 2
            return got[:place] + bytes([got[place] ^ 4]) + got[place + 1 :]
        return got

    monkeypatch.setattr(LocalBackend, "read", bad_line)
    assert Path(repository.download_artifacts("f", str(target))).read_bytes() == data
    assert damaged


@pytest.mark.parametrize("size", [100_000, 8 * MIB, 40 * MIB])
def test_upload_does_not_lean_on_a_pack_that_is_gone(
    repository, store_folder, tmp_path, target, size
):
    data = random_bytes(size)
    path = log(repository, tmp_path, "f", data)
    for pack in packs(store_folder):
        # The recipe is in the last pack: leave it, so that its own references are looked at.
        if size < 20 * MIB or pack.stat().st_size > 12_000_000:
            pack.unlink()
    other = get_artifact_repository(new_run_uri(f"cas-file://{store_folder}"))
    with pytest.raises(ArtifactCorruptError, match="Nothing was committed"), path.open("rb") as f:
        other.log_artifact_from_stream(f, "stream")
    assert listing(other) == []
    other.log_artifact(str(path))
    assert Path(other.download_artifacts("f")).read_bytes() == data
    # The first run's chunks have the same hashes: it can be read again too.
    assert Path(repository.download_artifacts("f", str(target))).read_bytes() == data


def test_upload_of_a_file_finds_out_by_itself(repository, store_folder, tmp_path):
    data = random_bytes(200_000)
    path = log(repository, tmp_path, "f", data)
    for pack in packs(store_folder):
        pack.unlink()
    repository.log_artifact(str(path), "again")
    assert Path(repository.download_artifacts("again/f")).read_bytes() == data


def test_damaged_segment(repository, store_folder, tmp_path, target):
    log(repository, tmp_path, "f", b"x" * 100)
    segment = segments(store_folder)[0]
    flip(segment, 60)
    fresh = {"MLFLOW_PACK_ARTIFACT_CACHE_DIR": str(tmp_path / "cache")}
    code = f"""
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
repository = get_artifact_repository({repository.artifact_uri!r})
for call in (repository.list_artifacts, lambda: repository.download_artifacts("")):
    try:
        call()
    except Exception as exc:
        print(type(exc).__name__, exc)
"""
    done = run_python(code, **fresh)
    assert done.stdout.count("ArtifactCorruptError") == 2
    assert segment.name in done.stdout


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=servers.clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


# --- hostile manifests ----------------------------------------------------------------------------


def plant(store_folder: Path, repository: ArtifactRepository, entry: FileEntry) -> None:
    """Put a manifest segment into the repository's scope, as an attacker could."""
    scope = parse_location(repository.artifact_uri).path[len(str(store_folder)) :]
    folder = store_folder / object_keys.segment_prefix(scope)
    folder.mkdir(parents=True, exist_ok=True)
    name = entry_name(len(list(folder.iterdir())) + 1)
    (folder / name).write_bytes(encode_segment(Segment(scope, name, (entry,))))


@pytest.mark.parametrize("path", ["../escaped", "/tmp/escaped", "a/../../escaped", "a/../b"])
def test_hostile_path_writes_nothing(repository, store_folder, tmp_path, target, path):
    log(repository, tmp_path, "f", b"x")
    plant(store_folder, repository, FileEntry(path, 1, b"\1" * 32, 0, inline=b"x"))
    with pytest.raises(ArtifactCorruptError):
        repository.download_artifacts("", str(target))
    assert content(target) == {}
    assert not (tmp_path / "escaped").exists()


def test_wrong_whole_hash_is_found(repository, store_folder, tmp_path, target):
    log(repository, tmp_path, "f", b"x")
    plant(store_folder, repository, FileEntry("g", 1, b"\1" * 32, 0, inline=b"x"))
    with pytest.raises(ArtifactCorruptError, match="as a whole"):
        repository.download_artifacts("", str(target))
    assert content(target) == {}
    with repository.open_artifact("g") as file, pytest.raises(ArtifactCorruptError, match="'g'"):
        file.read()


def test_recipe_that_repeats_a_chunk_fills_no_disk(
    repository, store_folder, tmp_path, target, monkeypatch
):
    """A small recipe may claim terabytes: reading stops where the entry's size is passed."""
    log(repository, tmp_path, "f", random_bytes(300_000))
    store = open_store(parse_location(repository.artifact_uri))
    (entry,) = store.manifests.view(store.manifests.scopes_under("")[0]).files.values()
    chunk = entry.chunks[0]
    data = encode_recipe_part(b"\1" * 32, 5, 0, 1, [chunk] * 60_000)
    place = Chunk(b"", b"", 0, 0, 0, 0)
    builder = PackBuilder(store.sealer)
    record = builder.add(1, 0, store.sealer.chunk_id(data), data, len(data))
    name, packed, _ = builder.finish()
    place = record.at(name)
    store.backend.write(store.key(object_keys.pack_key(name)), packed)
    plant(store_folder, repository, FileEntry("bomb", 5, b"\1" * 32, 0, recipe=(place,)))
    written = []
    original = fetch.write_at

    def write(path, data, offset=0, flags=0):
        written.append(len(data))
        original(path, data, offset, flags)

    monkeypatch.setattr(fetch, "write_at", write)
    with pytest.raises(ArtifactCorruptError, match="do not add up to its 5 bytes"):
        repository.download_artifacts("bomb", str(target))
    assert content(target) == {}
    assert written == []


def test_link_in_the_destination_is_not_followed_out(repository, tmp_path, target):
    outside = tmp_path / "outside"
    outside.mkdir()
    source = tmp_path / "source" / "sub"
    source.mkdir(parents=True)
    (source / "f").write_bytes(b"x")
    repository.log_artifacts(str(source.parent))
    (target / "sub").symlink_to(outside)
    with pytest.raises(Exception, match=r"(?i)path"):
        repository.download_artifacts("", str(target))
    assert content(outside) == {}


# --- format ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"version": 2}, "version 2"),
        ({"hash": "md5"}, "md5"),
        ({"format": "something"}, "another program"),
        ({"chunker": {"algorithm": "buzhash"}}, "does not know"),
        ({"store_id": "../../x"}, "cannot be read"),
    ],
)
def test_unknown_format_is_refused(tmp_path, change, expected):
    store = tmp_path / "store"
    get_artifact_repository(f"cas-file://{store}/first")
    open_store(parse_location(f"cas-file://{store}"))
    document = json.loads((store / ".cas/format.json").read_text())
    other = tmp_path / "other" / ".cas"
    other.mkdir(parents=True)
    changed = with_check({**document, **change}, ".cas/format.json")
    (other / "format.json").write_text(json.dumps(changed))
    repository = get_artifact_repository(f"cas-file://{tmp_path}/other")
    for call in (
        repository.list_artifacts,
        repository.delete_artifacts,
        lambda: repository.log_artifacts(str(tmp_path)),
    ):
        with pytest.raises(StoreFormatError, match=expected):
            call()


def test_store_is_found_from_below_and_made_once(tmp_path):
    root = f"cas-file://{tmp_path}/store"
    (tmp_path / "f").write_bytes(b"x")
    for uri in (new_run_uri(root), new_run_uri(root), f"{root}/other/place"):
        get_artifact_repository(uri).log_artifact(str(tmp_path / "f"))
    found = [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("format.json")]
    assert found == ["store/.cas/format.json"]


# --- files that change, conflicts -----------------------------------------------------------------


@pytest.mark.parametrize("size", [10_000, 3 * MIB])
@pytest.mark.parametrize("missing", [0, 10])
def test_file_that_is_rewritten_while_it_is_read(repository, tmp_path, size, missing, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(random_bytes(size))
    # Time stamps are a few milliseconds coarse.
    os.utime(path, (1, 1))
    original = session.UploadSession._take

    def read_and_change(self, *arguments):
        entry = original(self, *arguments)
        with path.open("r+b") as file:
            file.write(b"other")
            file.truncate(size - missing)
        return entry

    monkeypatch.setattr(session.UploadSession, "_take", read_and_change)
    with pytest.raises(ArtifactChangedError, match="while it was being read"):
        repository.log_artifact(str(path))
    assert listing(repository) == []


@pytest.mark.parametrize("size", [0, 100, 400_000])
def test_file_that_grows_is_stored_as_it_was_at_the_start(
    repository, tmp_path, target, size, monkeypatch
):
    path = tmp_path / "train.log"
    path.write_bytes(b"x" * size)
    original = session.UploadSession._take

    def grow_and_read(self, *arguments):
        with path.open("ab") as file:
            file.write(b"a line that came later\n")
        return original(self, *arguments)

    monkeypatch.setattr(session.UploadSession, "_take", grow_and_read)
    repository.log_artifact(str(path))
    assert Path(repository.download_artifacts("train.log", str(target))).read_bytes() == b"x" * size


def test_file_and_folder_of_one_name_on_disk(repository, tmp_path):
    path = log(repository, tmp_path, "a", b"x")
    with pytest.raises(ArtifactConflictError, match=r"file '.*/a'"):
        repository.log_artifact(str(path), "a")
    repository.log_artifact(str(path), "folder")
    other = tmp_path / "folder"
    other.write_bytes(b"y")
    with pytest.raises(ArtifactConflictError, match="folder"):
        repository.log_artifact(str(other))
    assert [p for p, *_ in listing(repository)] == ["a", "folder"]


# --- interruption ---------------------------------------------------------------------------------

UPLOAD = """
import sys
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow_plugins_pack.artifacts.upload import pack_writer
pack_writer.PACK_BYTES = 1 << 20
pack_writer._PACKS_PER_DELTA = 2
print("ready", flush=True)
for number in range(1000):
    get_artifact_repository(sys.argv[1]).log_artifacts(sys.argv[2], f"try-{number}")
    print("committed", flush=True)
"""


def kill_during_upload(uri: str, folder: Path, environment: dict[str, str], delay: float) -> int:
    """Start uploads in a process, kill it without warning, and return how many it committed."""
    process = subprocess.Popen(
        [sys.executable, "-c", UPLOAD, uri, str(folder)],
        env=servers.clean_environment(**environment),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        timer = threading.Timer(delay, lambda: process.send_signal(signal.SIGKILL))
        timer.start()
        committed = sum(line == "committed\n" for line in process.stdout)
        timer.cancel()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    return committed


@pytest.mark.parametrize("storage", ["disk", "moto"])
def test_killed_upload_leaves_a_readable_store(
    storage: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = {"MLFLOW_PACK_ARTIFACT_CACHE_DIR": str(tmp_path / "cache")}
    root = f"cas-file://{tmp_path}/store"
    if storage == "moto":
        moto: servers.ObjectStore = request.getfixturevalue("moto")
        environment |= moto.environment
        root = f"cas-{moto.new_root()}"
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    kept = get_artifact_repository(new_run_uri(root))
    log(kept, tmp_path, "kept", random_bytes(300_000))
    source = tmp_path / "source"
    source.mkdir()
    committed_before_the_kill = 0
    # The longer ones are for machines that are busy with other work.
    for number, delay in enumerate((0.15, 0.4, 0.9, 3, 10)):
        if number > 2 and committed_before_the_kill:
            break
        files = {f"{n}.bin": random_bytes(2 * MIB, seed=10 * number + n) for n in range(6)}
        for name, data in files.items():
            (source / name).write_bytes(data)
        uri = f"{root}/2/{uuid.uuid4().hex}/artifacts"
        committed = kill_during_upload(uri, source, environment, delay)
        committed_before_the_kill += committed
        repository = get_artifact_repository(uri)
        tries = [path for path, *_ in listing(repository)]
        # The last one may have been committed without a chance to say so.
        assert len(tries) in (committed, committed + 1)
        for path in tries:
            assert content(repository.download_artifacts(path)) == files
        # And the store takes the next upload.
        repository.log_artifacts(str(source), "after")
        assert content(repository.download_artifacts("after")) == files
        assert Path(kept.download_artifacts("kept")).read_bytes() == random_bytes(300_000)
    assert committed_before_the_kill > 0, "no process had committed anything when it was killed"


def test_failed_upload_shows_nothing(repository, store_folder, tmp_path, monkeypatch):
    """The storage fails in the middle: no file of the call is visible, the next call works."""
    from mlflow_plugins_pack.artifacts.backends.local import LocalBackend

    log(repository, tmp_path, "first", b"x")
    original = LocalBackend.write
    failing = {"packs": 1}

    def write(self, key, data):
        if "/packs/" in key and failing["packs"]:
            failing["packs"] -= 1
            raise StorageDeniedError("no")
        original(self, key, data)

    monkeypatch.setattr(LocalBackend, "write", write)
    monkeypatch.setattr(pack_writer, "PACK_BYTES", 100_000)
    (tmp_path / "big").write_bytes(random_bytes(MIB))
    with pytest.raises(StorageDeniedError):
        repository.log_artifact(str(tmp_path / "big"))
    assert [p for p, *_ in listing(repository)] == ["first"]
    repository.log_artifact(str(tmp_path / "big"))
    assert Path(repository.download_artifacts("big")).read_bytes() == random_bytes(MIB)


class CrashError(Exception):
    """Stands for the end of the process at this very point."""


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_crash_at_every_single_write(store_folder, tmp_path, monkeypatch, before):
    """Whichever write is the last to happen, all of a call is visible or nothing."""
    from mlflow_plugins_pack.artifacts.backends.local import LocalBackend
    from mlflow_plugins_pack.artifacts.maintenance.fsck import check_store

    monkeypatch.setattr(pack_writer, "PACK_BYTES", 300_000)
    monkeypatch.setattr(pack_writer, "_PACKS_PER_DELTA", 2)
    root = f"cas-file://{store_folder}"
    keys: list[str] = []
    writes_left = [10**9]
    originals = {name: getattr(LocalBackend, name) for name in ("write", "write_if_absent")}

    def crashing(name):
        def write(self, key, data):
            writes_left[0] -= 1
            if writes_left[0] < 0 or (before and writes_left[0] == 0):
                raise CrashError(key)
            result = originals[name](self, key, data)
            keys.append(key)
            if writes_left[0] == 0:
                raise CrashError(key)
            return result

        return write

    for name in originals:
        monkeypatch.setattr(LocalBackend, name, crashing(name))
    source = tmp_path / "source"
    source.mkdir()
    crashes = 0
    for count in range(1, 40):
        files = {f"{n}.bin": random_bytes(700_000, seed=100 * count + n) for n in range(2)}
        for name, data in files.items():
            (source / name).write_bytes(data)
        repository = get_artifact_repository(new_run_uri(root))
        repository.list_artifacts()
        writes_left[0] = count
        keys.clear()
        try:
            repository.log_artifacts(str(source))
            crashed = False
        except CrashError:
            crashed = True
            crashes += 1
        writes_left[0] = 10**9
        committed = any("/.m/" in key for key in keys)
        kinds = ["pack" if "/packs/" in k else "index" if "/index/" in k else "-" for k in keys]
        # The packs come first; what names them in the index is written while the call commits.
        assert not committed or sorted(kinds[-2:]) == ["-", "index"], kinds
        assert content(repository.download_artifacts("")) == (files if committed else {})
        store = open_store(parse_location(root))
        assert check_store(store, read_data=True).problems == []
        if not crashed:
            break
    else:
        pytest.fail("the call never came to its end")
    assert crashes >= 7


# --- several writers ------------------------------------------------------------------------------


def test_clock_that_is_ahead_hides_nobody(repository, tmp_path, monkeypatch):
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3_600 * 10**9)
    log(repository, tmp_path, "f", b"from a clock that is ahead")
    monkeypatch.setattr(time, "time_ns", real)
    log(repository, tmp_path, "f", b"later")
    assert Path(repository.download_artifacts("f")).read_bytes() == b"later"
    repository.delete_artifacts("f")
    assert listing(repository) == []


def test_writers_in_several_processes(store_folder, tmp_path):
    """Separate caches, one run, more segments than are kept apart: nothing gets lost."""
    uri = new_run_uri(f"cas-file://{store_folder}")
    code = f"""
import sys, pathlib
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
me, folder = sys.argv[1], pathlib.Path(sys.argv[2])
repository = get_artifact_repository({uri!r})
for number in range(25):
    path = folder / f"{{me}}-{{number}}"
    path.write_bytes(b"%d" % number * 20_000)
    repository.log_artifact(str(path), me)
"""
    processes = []
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        environment = servers.clean_environment(
            MLFLOW_PACK_ARTIFACT_CACHE_DIR=str(tmp_path / f"cache-{name}")
        )
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", code, name, str(tmp_path / name)], env=environment
            )
        )
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    repository = get_artifact_repository(uri)
    found = content(repository.download_artifacts(""))
    assert len(found) == 75
    assert all(
        found[f"{n}/{n}-{i}"] == b"%d" % i * 20_000 for n in ("one", "two") for i in range(25)
    )


def test_many_small_files_one_by_one_do_not_swell_the_manifest(repository, store_folder):
    """As a server with proxied artifacts gets them."""
    for number in range(80):
        data = random_bytes(20_000, seed=number)
        repository.log_artifact_from_stream(io.BytesIO(data), f"{number:03}.png")
    names = {p.name: p.stat().st_size for p in segments(store_folder)}
    # Five joined segments, and no entry after them.
    assert bytes_to_read(names) < 100_000
    collect(open_store(parse_location(f"cas-file://{store_folder}")), 0)
    assert packs(store_folder) == []
    for number in (0, 60, 79):
        with repository.open_artifact(f"{number:03}.png") as file:
            assert file.read() == random_bytes(20_000, seed=number)
    assert len(listing(repository)) == 80
