"""Encrypted stores: what they hide, who can open them, and how keys change."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.backends.local import LocalBackend
from mlflow_plugins_pack.artifacts.format import object_keys, xaes
from mlflow_plugins_pack.artifacts.format.checked_json import with_check
from mlflow_plugins_pack.artifacts.format.encryption import (
    PLAIN,
    KeyedSealer,
    Sealer,
    StoreKeys,
    chunk_purpose,
    make_store_keys,
    unwrap_keys,
    wrap_keys,
)
from mlflow_plugins_pack.artifacts.format.pack import HEADER
from mlflow_plugins_pack.artifacts.format.xaes import OVERHEAD_BYTES
from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.artifacts.store.opening import find_store
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from mlflow_plugins_pack.errors import (
    ArtifactCorruptError,
    ArtifactKeyError,
    ConfigurationError,
    StorageDeniedError,
)
from tests.artifacts.support.commands import run, run_json
from tests.artifacts.support.store_files import flip, packs, segments
from tests.contracts.artifact_repository import content, new_run_uri, random_bytes

MIB = 1024 * 1024
FILES = {
    "inline-name.txt": b"a small secret of this run",
    "model/weights-name.bin": random_bytes(3 * MIB),
    "model/table-name.csv": b"patient,diagnosis\n" * 60_000,
    "model/long-name.bin": random_bytes(9 * MIB, seed=2),
}


class Keys:
    """Key files, and the setting that names them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._monkeypatch = folder, monkeypatch

    def secret(self, name: str) -> bytes:
        return hashlib.sha256(name.encode()).digest()

    def file(self, name: str) -> Path:
        path = self._folder / f"{name}.key"
        path.write_text(base64.b64encode(self.secret(name)).decode() + "\n")
        path.chmod(0o600)
        return path

    def give(self, *names: str) -> None:
        sources = ",".join(f"file:{self.file(name)}" for name in names)
        self._monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_KEYS", sources)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    keys = Keys(tmp_path, monkeypatch)
    keys.give("first")
    return keys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def root(folder: Path, keys: Keys) -> str:
    run("init", f"cas-file://{folder}", "--encrypt")
    return f"cas-file://{folder}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for name, data in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    return source


@pytest.fixture
def repository(root: str, source: Path) -> ArtifactRepository:
    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifact(str(source / "inline-name.txt"))
    repository.log_artifacts(str(source / "model"), "model")
    return repository


def fresh_process() -> None:
    """Forget what this process knows of stores and keys."""
    opening._stores.clear()


def opened(root: str) -> Store:
    store = find_store(parse_location(root))
    assert store is not None
    return store


def expect_good(repository: ArtifactRepository) -> None:
    assert content(repository.download_artifacts("")) == FILES


# --- what is hidden -------------------------------------------------------------------------------


def test_nothing_that_tells_of_the_content_is_stored(repository, folder, keys, root):
    everything = b"\n".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())
    store = opened(root)
    secrets = [keys.secret("first"), store.keyring.load().identity, *store.keyring.load().data]
    for name, data in FILES.items():
        secrets += [hashlib.sha256(data).digest(), PLAIN.chunk_id(data)]
        secrets += [data[:24], Path(name).name.encode()]
    for entry in store.manifests.view_under("").files.values():
        secrets += [chunk.id for chunk in (*entry.chunks, *entry.recipe)]
    for secret in secrets:
        for shown in (secret, secret.hex().encode(), base64.b64encode(secret)):
            assert shown not in everything
    assert json.loads((folder / ".cas/format.json").read_text())["encryption"] == "xaes-256-gcm"
    assert all(len(p.name) in (16, 18) for p in folder.glob(".cas/keys/*/*"))


def test_names_of_chunks_depend_on_the_store(repository, root, source, tmp_path):
    other = f"cas-file://{tmp_path}/other"
    run("init", other, "--encrypt")
    get_artifact_repository(new_run_uri(other)).log_artifacts(str(source / "model"), "model")
    ours, theirs = (
        {c.id for e in opened(uri).manifests.view_under("").files.values() for c in e.chunks}
        for uri in (root, other)
    )
    assert ours
    assert not ours & theirs


def test_equal_content_is_stored_once(repository, root, source, folder):
    before = sum(p.stat().st_size for p in packs(folder))
    get_artifact_repository(new_run_uri(root)).log_artifacts(str(source / "model"), "model")
    assert sum(p.stat().st_size for p in packs(folder)) == before


def test_no_two_messages_share_a_nonce(repository, folder, root):
    """Nor does the same chunk look the same twice."""
    store = opened(root)
    nonces = [p.read_bytes()[8:32] for p in (*segments(folder), *folder.glob(".cas/index/*"))]
    for path in packs(folder):
        data = path.read_bytes()
        records, end = store.packs.table(bytes.fromhex(path.name), len(data))
        nonces += [data[r.offset : r.offset + 24] for r in records] + [data[end : end + 24]]
        assert data.startswith(HEADER)
    assert len(nonces) > 100
    assert len(set(nonces)) == len(nonces)
    sealed = {bytes(store.sealer.seal(b"chunk", b"the same")) for _ in range(5_000)}
    assert len({s[:24] for s in sealed}) == 5_000


def test_message_is_what_the_page_says():
    keys = StoreKeys(b"\1" * 32, (b"\2" * 32,))
    sealer = KeyedSealer(keys, lambda: keys)
    sealed = sealer.seal(chunk_purpose(b"\3" * 32, 3), b"data")
    purpose = b"chunk\0" + b"\3" * 32 + b"\3"
    assert sealed[24:] == xaes.encrypt(b"\2" * 32, sealed[:24], b"data", purpose)


def test_chunk_ids_are_those_of_the_published_vectors():
    """github.com/BLAKE3-team/BLAKE3, test_vectors.json."""
    keys = StoreKeys(
        bytes.fromhex("77686174732074686520456c7669736820776f726420666f7220667269656e64"),
        (b"\2" * 32,),
    )
    sealer = KeyedSealer(keys, lambda: keys)
    empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert PLAIN.chunk_id(b"").hex() == empty
    empty = "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26"
    assert sealer.chunk_id(b"").hex() == empty


KEYS = make_store_keys()


@given(st.binary(max_size=200), st.binary(max_size=20), st.data())
def test_changed_messages_do_not_open(data, purpose, drawn):
    sealer = KeyedSealer(KEYS, lambda: KEYS)
    sealed = sealer.seal(purpose, data)
    assert len(sealed) == len(data) + OVERHEAD_BYTES
    assert sealer.open(purpose, sealed) == data
    assert sealer.open(purpose + b"x", sealed) is None
    at = drawn.draw(st.integers(0, len(sealed) - 1))
    changed = bytearray(sealed)
    changed[at] ^= drawn.draw(st.integers(1, 255))
    assert sealer.open(purpose, bytes(changed)) is None
    assert sealer.open(purpose, sealed[:at]) is None


# --- who can open it ------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [(), ("wrong",), ("wrong", "wronger")])
def test_no_or_wrong_key_is_refused_everywhere(repository, root, source, keys, tmp_path, given):
    keys.give(*given)
    calls = [
        lambda: repository.list_artifacts(),
        lambda: repository.download_artifacts("", str(tmp_path)),
        lambda: repository.log_artifact(str(source / "inline-name.txt")),
        lambda: repository.log_artifacts(str(source)),
        lambda: repository.delete_artifacts(),
        lambda: repository.content_digest(),
        lambda: repository.lock("reason"),
        lambda: run("fsck", root),
        lambda: run("gc", root),
        lambda: run("rekey", root),
    ]
    for call in calls:
        with pytest.raises(ArtifactKeyError, match="encrypted") as caught:
            call()
        assert "othing was" in caught.value.message
        for name in ("first", *given):
            assert keys.secret(name).hex() not in caught.value.message
            assert base64.b64encode(keys.secret(name)).decode() not in caught.value.message
    keys.give("first")
    expect_good(repository)


def test_older_keys_still_open(repository, keys):
    keys.give("newer", "first")
    expect_good(repository)


def test_init_needs_a_key_and_makes_nothing_without(tmp_path, monkeypatch):
    with pytest.raises(ArtifactKeyError, match="openssl rand -base64 32"):
        run("init", f"cas-file://{tmp_path}/s", "--encrypt")
    assert not (tmp_path / "s").exists()


def test_plain_store_does_not_become_encrypted(tmp_path, keys):
    run("init", f"cas-file://{tmp_path}/s")
    assert "migrate" in run("init", f"cas-file://{tmp_path}/s", "--encrypt", code=1).output
    with pytest.raises(ArtifactKeyError, match="not encrypted"):
        run("rekey", f"cas-file://{tmp_path}/s")


def test_required_encryption(folder, keys, source, monkeypatch):
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_ENCRYPT", "true")
    root = f"cas-file://{folder}"
    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifacts(str(source))
    assert opened(root).format.is_encrypted
    # An attacker who can write to the storage makes a plain store of it.
    path = folder / ".cas/format.json"
    document = json.loads(path.read_text())
    del document["encryption"]
    path.write_text(json.dumps(with_check(document, ".cas/format.json")))
    fresh_process()
    with pytest.raises(ArtifactKeyError, match="not encrypted"):
        repository.log_artifacts(str(source))
    with pytest.raises(ArtifactCorruptError):
        repository.list_artifacts()


def test_key_sources(repository, keys, tmp_path, monkeypatch):
    text = base64.b64encode(keys.secret("first")).decode()
    monkeypatch.setenv("MY_KEY", keys.secret("first").hex())
    program = tmp_path / "key source"
    program.write_text(f"#!/bin/sh\necho noise >&2\necho {text}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    for source in ("env:MY_KEY", f"file:{keys.file('first')}", f"command:'{program}' an argument"):
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_KEYS", source)
        expect_good(repository)


def test_unusable_key_sources_are_refused_and_not_quoted(repository, keys, tmp_path, monkeypatch):
    secret = base64.b64encode(keys.secret("first")).decode()
    readable = keys.file("readable")
    readable.chmod(0o640)
    short = keys.file("short")
    short.write_text(secret[:20])
    monkeypatch.setenv("SHORT", secret[:20])
    failing = tmp_path / "failing"
    failing.write_text(f"#!/bin/sh\necho {secret}\necho {secret} >&2\nexit 3\n")
    failing.chmod(0o700)
    expected = {
        secret: "not a key itself",
        f"vault:{secret}": "not a key itself",
        "env:": "must be",
        "env:UNSET": "not set",
        "env:SHORT": "not a key",
        "file:relative": "not absolute",
        f"file:{tmp_path}/missing": "No such file",
        f"file:{tmp_path}": "directory",
        f"file:{readable}": "chmod 600",
        f"file:{short}": "not a key",
        f"command:{failing}": "ended with 3",
        "command:cat /dev/zero": "printed more than 4096 characters",
        f"command:{tmp_path}/missing": "cannot be run",
        "command:'": "quot",
    }
    for source, reason in expected.items():
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_KEYS", source)
        with pytest.raises(ConfigurationError, match=reason) as caught:
            repository.list_artifacts()
        chain = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
        assert secret[:20] not in chain
        assert "MLFLOW_PACK_ARTIFACT_KEYS" in caught.value.message


def test_keys_do_not_show_in_representations(keys):
    made = make_store_keys()
    shown = repr([made, KeyedSealer(made, lambda: made), Sealer()])
    assert made.identity.hex() not in shown
    assert repr(made.identity) not in shown


# --- tampering ------------------------------------------------------------------------------------


def test_chunks_cannot_be_exchanged(repository, folder, root):
    """Not even for one of the same length, with the pack's table as it was."""
    store = opened(root)
    for path in packs(folder):
        data = bytearray(path.read_bytes())
        records, _ = store.packs.table(bytes.fromhex(path.name), len(data))
        a, b = records[0], records[1]
        length = min(a.stored, b.stored)
        at_a, at_b = (data[r.offset : r.offset + length] for r in (a, b))
        data[a.offset : a.offset + length] = at_b
        data[b.offset : b.offset + length] = at_a
        path.write_bytes(data)
    fresh_process()
    with pytest.raises(ArtifactCorruptError, match="chunk"):
        repository.download_artifacts("")
    report = run_json("fsck", root, "--read-data", code=1)
    assert {p["kind"] for p in report["problems"]} >= {"pack", "artifact"}


def test_objects_cannot_be_moved(repository, folder, root):
    (first, *_) = segments(folder)
    other = new_run_uri(root)
    copy = folder / object_keys.relative_to(parse_location(other).path, str(folder)[1:]) / ".m"
    copy.mkdir(parents=True)
    shutil.copy(first, copy / first.name)
    with pytest.raises(ArtifactCorruptError, match="cannot be opened"):
        get_artifact_repository(other).list_artifacts()


def test_plain_objects_are_refused(repository, folder):
    (first, *_) = segments(folder)
    (folder / "plain").mkdir()
    first.write_bytes(b"MPSEGM01" + first.read_bytes()[8:])
    fresh_process()
    with pytest.raises(ArtifactCorruptError, match="cannot be opened"):
        repository.list_artifacts()


def test_damaged_keyring_is_told(repository, folder):
    for ring in folder.glob(".cas/keys/*/*"):
        flip(ring, 40)
    fresh_process()
    with pytest.raises(ArtifactKeyError, match="damaged"):
        repository.list_artifacts()


def test_keyring_of_another_store_is_refused(keys):
    made = make_store_keys()
    data = wrap_keys(keys.secret("first"), ".cas/keys/a/k", made)
    assert unwrap_keys(keys.secret("first"), ".cas/keys/a/k", data) == made
    assert unwrap_keys(keys.secret("first"), ".cas/keys/b/k", data) is None
    assert unwrap_keys(keys.secret("other"), ".cas/keys/a/k", data) is None


# --- looking after it -----------------------------------------------------------------------------


def test_fsck_repairs_and_gc_collects(repository, root, source, folder):
    assert run_json("fsck", root, "--read-data")["problems"] == []
    for path in folder.glob(".cas/index/*"):
        path.unlink()
    run("fsck", root, "--repair-index")
    before = len(packs(folder))
    get_artifact_repository(new_run_uri(root)).log_artifacts(str(source / "model"), "model")
    assert len(packs(folder)) == before
    (source / "gone.bin").write_bytes(random_bytes(5 * MIB, seed=9))
    repository.log_artifact(str(source / "gone.bin"))
    repository.delete_artifacts("gone.bin")
    assert run_json("gc", root, "--grace", "0s")["removed_packs"] > 0
    expect_good(repository)
    assert run_json("fsck", root, "--read-data")["problems"] == []


def test_plain_and_encrypted_stores_are_copied_into_each_other(repository, root, tmp_path):
    plain, back = f"cas-file://{tmp_path}/plain", f"cas-file://{tmp_path}/back"
    run("migrate", root, plain)
    run("init", back, "--encrypt")
    run("migrate", plain, back)
    run("export", back, str(tmp_path / "exported"))
    inner = repository.artifact_uri.removeprefix(root)
    assert content(tmp_path / "exported" / inner.strip("/")) == FILES
    digests = {get_artifact_repository(uri + inner).content_digest() for uri in (root, plain, back)}
    assert len(digests) == 1
    with repository.open_artifact("model/long-name.bin") as file:
        file.seek(-100, 2)
        assert file.read() == FILES["model/long-name.bin"][-100:]


# --- other keys -----------------------------------------------------------------------------------


def test_rekey_changes_the_keyring_only(repository, root, folder, keys):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    keys.give("second", "first")
    done = run_json("rekey", root)
    assert (len(done["removed_keys"]), done["data_keys"]) == (1, 1)
    after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    changed = before.items() ^ after.items()
    assert {"/.cas/keys/" in str(path) for path, _ in changed} == {True}
    # Two copies each of the old keyring and the new one.
    assert len(changed) == 4
    keys.give("second")
    expect_good(repository)
    assert run_json("rekey", root)["removed_keys"] == []
    keys.give("first")
    fresh_process()
    with pytest.raises(ArtifactKeyError, match=done["key"]):
        repository.list_artifacts()


def test_rekey_can_keep_the_old_key(repository, root, keys):
    keys.give("second", "first")
    assert run_json("rekey", root, "--keep-old")["removed_keys"] == []
    for name in ("first", "second"):
        keys.give(name)
        expect_good(repository)
    with pytest.raises(ArtifactKeyError, match="not given"):
        run("rekey", root, "--keep-old", "--reencrypt")


def sealed_by_newest(store: Store, folder: Path) -> bool:
    """Return whether the newest data key alone opens all that is there."""
    keys = store.keyring.load()
    newest = StoreKeys(keys.identity, keys.data[-1:])
    sealer = KeyedSealer(newest, lambda: newest)
    for path in (*segments(folder), *folder.glob(".cas/index/*")):
        try:
            sealer.open_object(path.relative_to(folder).as_posix(), path.read_bytes())
        except ArtifactCorruptError:
            return False
    store._sealer = sealer
    try:
        for path in packs(folder):
            store.packs.table(bytes.fromhex(path.name), path.stat().st_size)
    except ArtifactCorruptError:
        return False
    finally:
        store.forget_keys()
    return True


def test_everything_is_encrypted_anew(repository, root, folder, source):
    old = opened(root)
    old_packs = set(packs(folder))
    done = run_json("rekey", root, "--reencrypt")
    assert done["data_keys"] == 2
    assert done["condemned_packs"] == len(old_packs)
    expect_good(repository)
    assert not sealed_by_newest(opened(root), folder)
    run("gc", root, "--grace", "0s")
    assert not old_packs & set(packs(folder))
    assert sealed_by_newest(opened(root), folder)
    fresh_process()
    expect_good(repository)
    assert run_json("fsck", root, "--read-data")["problems"] == []
    # A process that read the keyring before opens what is sealed by a key it does not know yet.
    assert len(old.keyring.load().data) == 2
    assert old.manifests.view_under("").files
    before = sum(p.stat().st_size for p in packs(folder))
    get_artifact_repository(new_run_uri(root)).log_artifacts(str(source / "model"), "model")
    assert sum(p.stat().st_size for p in packs(folder)) - before < 30_000


def test_late_writer_with_an_older_key_is_seen_by_the_next_call(repository, root, folder, source):
    stale = opened(root).sealer
    run("rekey", root, "--reencrypt")
    run("gc", root, "--grace", "0s")
    store = opened(root)
    store._sealer = stale
    late = get_artifact_repository(new_run_uri(root))
    (source / "late.bin").write_bytes(random_bytes(2 * MIB, seed=7))
    late.log_artifact(str(source / "late.bin"))
    store.forget_keys()
    assert Path(late.download_artifacts("late.bin")).stat().st_size == 2 * MIB
    again = run_json("rekey", root, "--reencrypt")
    assert (again["data_keys"], again["condemned_packs"]) == (2, 1)
    run("gc", root, "--grace", "0s")
    assert sealed_by_newest(opened(root), folder)
    fresh_process()
    expect_good(repository)
    assert Path(late.download_artifacts("late.bin")).stat().st_size == 2 * MIB


def test_rekey_that_stops_anywhere_goes_on(repository, root, folder, keys, tmp_path, monkeypatch):
    """Before each of its writes and deletions; readers, and a collection, go on meanwhile."""
    keys.give("second", "first")
    shutil.copytree(folder, tmp_path / "pristine")
    left = -1

    def counted(method):
        def call(self, *arguments):
            nonlocal left
            if left == 0:
                raise StorageDeniedError("stopped here")
            left -= 1
            return method(self, *arguments)

        return call

    for name in ("write", "delete"):
        monkeypatch.setattr(LocalBackend, name, counted(getattr(LocalBackend, name)))
    for stop_at in range(40):
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "pristine", folder)
        monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_CACHE_DIR", str(tmp_path / f"cache{stop_at}"))
        fresh_process()
        left = stop_at
        try:
            run("rekey", root, "--reencrypt")
            break
        except StorageDeniedError:
            pass
        finally:
            left = -1
        (folder / ".cas/gc/lease").unlink(missing_ok=True)
        fresh_process()
        expect_good(repository)
        if stop_at % 2:
            run("gc", root, "--grace", "0s")
        done = run_json("rekey", root, "--reencrypt")
        assert done["data_keys"] <= 3
        run("gc", root, "--grace", "0s")
        assert sealed_by_newest(opened(root), folder)
        keys.give("second")
        fresh_process()
        expect_good(repository)
        keys.give("second", "first")
    assert 5 < stop_at < 39
