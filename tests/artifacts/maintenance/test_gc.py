"""Garbage collection: what goes, what stays, and that nothing is lost in any order of events."""

from __future__ import annotations

import os
import threading
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.backends.local import LocalBackend
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.condemned_list import (
    CondemnedList,
    decode_list,
    encode_list,
)
from mlflow_plugins_pack.artifacts.format.manifest import Lock, Segment, Tombstone, encode_segment
from mlflow_plugins_pack.artifacts.format.segment_names import entry_name, receipt_name
from mlflow_plugins_pack.artifacts.maintenance import gc, lease
from mlflow_plugins_pack.artifacts.maintenance.gc_rules import (
    PackUse,
    choose_packs,
    must_copy,
)
from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.artifacts.store.opening import find_store, open_store
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.upload import pack_writer
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from mlflow_plugins_pack.errors import ArtifactCorruptError, CollectionRunningError
from tests.artifacts.support import schedules
from tests.artifacts.support.commands import run, run_json
from tests.artifacts.support.store_files import flip, packs, segments
from tests.contracts.artifact_repository import content, listing, new_run_uri, random_bytes
from tests.support import servers

MIB = 1024 * 1024

# --- the decisions --------------------------------------------------------------------------------


def use(name: bytes = b"\1" * 32, size: int = 10 * MIB, age: float = 100, live: int = 0) -> PackUse:
    return PackUse(name, size, 1000 - age, live)


@pytest.mark.parametrize(
    ("pack", "chosen"),
    [
        (use(), True),
        (use(age=9), False),
        (use(live=4 * MIB), True),
        (use(live=6 * MIB), False),
        (use(size=1000, live=900), False),
    ],
)
def test_choice_of_packs(pack, chosen):
    assert choose_packs([pack], now=1000, grace_seconds=10) == ([pack] if chosen else [])


def test_many_small_packs_are_put_together():
    small = [use(bytes([n]) * 32, size=1000, live=900) for n in range(16)]
    assert choose_packs(small[:15], 1000, 10) == []
    assert choose_packs([*small, use(live=9 * MIB)], 1000, 10) == small


@given(st.frozensets(st.binary(min_size=32, max_size=32), max_size=5), st.booleans())
def test_list_is_read_back(names, swept):
    condemned = CondemnedList(names, swept)
    assert decode_list(encode_list(condemned, "x"), "x") == condemned


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version": 2, "swept": false, "packs": []}',
        b'{"version": 1, "swept": 0, "packs": []}',
        b'{"version": 1, "swept": false, "packs": ["00"]}',
        b'{"version": 1, "swept": false, "packs": ["xx"]}',
        b'{"version": 1, "swept": false, "packs": 7}',
        b'{"version":' + b"[" * 100_000,
    ],
)
def test_damaged_list_stops_everything(data):
    with pytest.raises(ArtifactCorruptError, match="Nothing was committed"):
        decode_list(data, "x")


def test_copies_are_made_unless_a_pack_that_stays_has_one():
    holders = {b"a": {b"stays"}, b"b": {b"goes"}, b"c": {b"goes", b"stays"}}
    assert must_copy([b"a", b"b", b"c", b"d"], holders, {b"goes"}) == {b"b", b"d"}


# --- every order of events ------------------------------------------------------------------------


def test_nothing_is_lost_in_any_order_of_events():
    """`python -m tests.artifacts.support.schedules 10000` and TEST_SCHEDULES look further."""
    undo = schedules.patch()
    try:
        ran = [
            schedules.run_schedule(seed)
            for seed in range(int(os.environ.get("TEST_SCHEDULES", "120")))
        ]
    finally:
        undo()
    # Else the schedules would not show what they are for.
    assert sum(schedule.kills for schedule in ran) > 5
    assert sum(schedule.removed_packs for schedule in ran) > 20


# --- real storages --------------------------------------------------------------------------------


@pytest.fixture(params=["disk", "moto", "azurite", "gcs"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "disk":
        return f"cas-file://{tmp_path}/store"
    server: servers.ObjectStore = request.getfixturevalue(request.param)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"cas-{server.new_root()}"


def write(tmp_path: Path, name: str, data: bytes) -> str:
    path = tmp_path / name
    path.write_bytes(data)
    return str(path)


def pack_bytes(root: str) -> int:
    store = open_store(parse_location(root))
    return sum(s.size for s in store.backend.list(store.key(object_keys.PACK_PREFIX)))


def test_deleted_run_frees_its_space(root, tmp_path):
    doomed, kept = (get_artifact_repository(new_run_uri(root)) for _ in range(2))
    doomed.log_artifact(write(tmp_path, "own", random_bytes(3 * MIB, seed=1)))
    kept.log_artifact(write(tmp_path, "kept", random_bytes(2 * MIB, seed=2)))
    doomed.log_artifact(str(tmp_path / "kept"))
    doomed.delete_artifacts()
    plan = run_json("gc", root, "--grace", "0s", "--dry-run")
    assert (plan["condemned_packs"], plan["removed_packs"]) == (1, 0)
    assert pack_bytes(root) > 5 * MIB
    done = run_json("gc", root, "--grace", "0s")
    assert (done["condemned_packs"], done["removed_packs"]) == (1, 1)
    assert done["removed_bytes"] > 3 * MIB
    assert 2 * MIB < pack_bytes(root) < 2.1 * MIB
    assert content(kept.download_artifacts("")) == {"kept": random_bytes(2 * MIB, seed=2)}
    assert run_json("fsck", root, "--read-data")["problems"] == []
    again = run_json("gc", root, "--grace", "0s")
    assert (again["condemned_packs"], again["removed_packs"]) == (0, 0)
    # What was removed is not taken for stored.
    doomed.log_artifact(str(tmp_path / "own"))
    assert content(doomed.download_artifacts("")) == {"own": random_bytes(3 * MIB, seed=1)}
    assert run_json("fsck", root)["problems"] == []


def test_grace_period(root, tmp_path):
    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifact(write(tmp_path, "f", random_bytes(MIB)))
    repository.delete_artifacts()
    assert run_json("gc", root)["condemned_packs"] == 0
    store = open_store(parse_location(root))
    with lease.lease(store) as held:
        collection = gc._Collection(store, 100, lease.storage_time(store) + 101, held, print)
        collection.condemn()
    assert collection.done.condemned_packs == 1
    assert run_json("gc", root)["waiting_packs"] == 1
    assert pack_bytes(root) > MIB
    # A writer that needs what is condemned stores it again.
    repository.log_artifact(str(tmp_path / "f"))
    assert pack_bytes(root) > 2 * MIB
    with lease.lease(store) as held:
        collection = gc._Collection(store, 100, lease.storage_time(store) + 101, held, print)
        collection.sweep()
    assert collection.done.removed_packs == 1
    assert collection.done.copied_bytes == 0
    assert content(repository.download_artifacts("")) == {"f": random_bytes(MIB)}
    assert run_json("fsck", root, "--read-data")["problems"] == []


def test_sparse_pack_is_written_anew(root, tmp_path):
    repository = get_artifact_repository(new_run_uri(root))
    data = random_bytes(2 * MIB)
    source = tmp_path / "source"
    source.mkdir()
    for number in range(5):
        write(source, f"f{number}", data[number * 400_000 :][:400_000])
    repository.log_artifacts(str(source))
    for number in range(4):
        repository.delete_artifacts(f"f{number}")
    done = run_json("gc", root, "--grace", "0s")
    assert done["removed_packs"] == 1
    assert 400_000 < done["copied_bytes"] < 600_000
    assert content(repository.download_artifacts("")) == {"f4": data[1_600_000:2_000_000]}
    assert run_json("fsck", root, "--read-data")["problems"] == []
    # In a process that knows nothing, and for a file that leans on what was moved.
    other = get_artifact_repository(new_run_uri(root))
    before = pack_bytes(root)
    other.log_artifact(str(source / "f4"))
    assert pack_bytes(root) == before
    assert content(other.download_artifacts("")) == {"f4": data[1_600_000:2_000_000]}


@pytest.fixture
def disk(tmp_path: Path) -> str:
    return f"cas-file://{tmp_path}/store"


def test_long_file_whose_recipe_is_moved(disk, tmp_path, monkeypatch):
    """A recipe that moved still lists the places of old; every chunk is found by its hash."""
    data = random_bytes(20 * MIB)
    source = tmp_path / "source"
    source.mkdir()
    write(source, "doomed", random_bytes(24 * MIB, seed=1))
    write(source, "long", data)
    repository = get_artifact_repository(new_run_uri(disk))
    repository.log_artifacts(str(source))
    repository.delete_artifacts("doomed")
    for _ in range(2):
        done = run_json("gc", disk, "--grace", "0s")
    assert done["removed_packs"] == 0
    assert sum(p.stat().st_size for p in packs(tmp_path / "store")) < 32 * MIB
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_CACHE_DIR", str(tmp_path / "other-host"))
    fresh = Store(
        open_store(parse_location(disk)).backend,
        parse_location(disk),
        open_store(parse_location(disk)).format,
    )
    from mlflow_plugins_pack.artifacts.download.file_reader import read_file

    (scope,) = fresh.manifests.scopes_under("")
    assert b"".join(read_file(fresh, fresh.manifests.view(scope).files["long"])) == data
    assert run_json("fsck", disk, "--read-data")["problems"] == []
    # Logged again it gets a recipe of its own, and nothing else is stored.
    before = pack_bytes(disk)
    get_artifact_repository(new_run_uri(disk)).log_artifact(str(source / "long"))
    assert pack_bytes(disk) - before < 100_000


def test_small_packs_are_put_together(disk, tmp_path):
    repository = get_artifact_repository(new_run_uri(disk))
    for number in range(20):
        repository.log_artifact(write(tmp_path, f"f{number}", random_bytes(50_000, seed=number)))
    assert len(packs(tmp_path / "store")) == 20
    run("gc", disk, "--grace", "0s")
    assert len(packs(tmp_path / "store")) == 1
    found = content(repository.download_artifacts(""))
    assert found == {f"f{n}": random_bytes(50_000, seed=n) for n in range(20)}
    assert run_json("gc", disk, "--grace", "0s")["condemned_packs"] == 0


def test_segments_that_joined_ones_hold_are_removed(disk, tmp_path):
    repository = get_artifact_repository(new_run_uri(disk))
    for number in range(70):
        repository.log_artifact(write(tmp_path, f"f{number}", b"%d" % number))
    before = listing(repository)
    assert len(segments(tmp_path / "store")) == 74
    # Whatever the grace period: a process may still trust what it knew of before they were joined.
    assert run_json("gc", disk, "--grace", "0s")["removed_segments"] == 0
    make_older(tmp_path / "store")
    assert run_json("gc", disk, "--dry-run")["removed_segments"] == 64
    assert run_json("gc", disk)["removed_segments"] == 64
    assert len(segments(tmp_path / "store")) == 10
    opening._stores.clear()
    assert listing(repository) == before
    repository.delete_artifacts()
    run("gc", disk, "--grace", "0s")
    make_older(tmp_path / "store")
    run("gc", disk, "--grace", "0s")
    assert len(segments(tmp_path / "store")) == 1
    opening._stores.clear()
    assert listing(repository) == []
    repository.log_artifact(write(tmp_path, "new", b"new"))
    assert listing(repository) == [("new", False, 3)]


def make_older(folder: Path) -> None:
    """Let two hours pass for the segments of a store on a disk."""
    for path in segments(folder):
        then = path.stat().st_mtime - 7200
        os.utime(path, (then, then))


def test_unreadable_manifest_stops_the_collection(disk, tmp_path, monkeypatch):
    kept, doomed = (get_artifact_repository(new_run_uri(disk)) for _ in range(2))
    kept.log_artifact(write(tmp_path, "kept", random_bytes(MIB)))
    doomed.log_artifact(write(tmp_path, "doomed", random_bytes(MIB, seed=1)))
    doomed.delete_artifacts()
    (segment, *_) = (p for p in segments(tmp_path / "store") if p.stat().st_size > 800)
    flip(segment, 60)
    opening._stores.clear()
    with pytest.raises(ArtifactCorruptError, match="nothing more was condemned or removed"):
        run("gc", disk, "--grace", "0s")
    assert len(packs(tmp_path / "store")) == 2
    assert not (tmp_path / "store/.cas/gc/lease").exists()


def test_damaged_pack_that_is_needed_is_kept_and_named(disk, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    write(source, "a", random_bytes(MIB))
    write(source, "b", random_bytes(300_000, seed=1))
    repository = get_artifact_repository(new_run_uri(disk))
    repository.log_artifacts(str(source))
    repository.delete_artifacts("a")
    (pack,) = packs(tmp_path / "store")
    flip(pack, MIB + 50_000)
    done = run_json("gc", disk, "--grace", "0s", code=1)
    assert done["removed_packs"] == 0
    assert list(done["kept"]) == [f".cas/packs/{pack.parent.name}/{pack.name}"]
    assert pack.exists()
    flip(pack, MIB + 50_000)
    done = run_json("gc", disk, "--grace", "0s")
    assert done["removed_packs"] == 1
    assert content(repository.download_artifacts("")) == {"b": random_bytes(300_000, seed=1)}


# --- the lease ------------------------------------------------------------------------------------


def test_one_collection_at_a_time(root, tmp_path):
    get_artifact_repository(new_run_uri(root)).log_artifact(write(tmp_path, "f", b"x"))
    store = open_store(parse_location(root))
    with lease.lease(store), pytest.raises(CollectionRunningError, match="already running"):
        run("gc", root)
    run("gc", root)


@pytest.mark.parametrize("clock", [-5, 365 * 24 * 3600], ids=["right", "a year ahead"])
def test_lease_of_a_dead_process_runs_out(disk, tmp_path, monkeypatch, clock):
    get_artifact_repository(new_run_uri(disk)).log_artifact(write(tmp_path, "f", b"x"))
    store = open_store(parse_location(disk))
    key = tmp_path / "store" / object_keys.LEASE_KEY
    store.backend.write(store.key(object_keys.LEASE_KEY), b"{}")
    written = time.time() - lease.LEASE_SECONDS + clock
    os.utime(key, (written, written))
    run("gc", disk)
    with lease.lease(store) as held:
        key.write_bytes(b"another")
        held._renewed -= lease.LEASE_SECONDS
        with pytest.raises(CollectionRunningError, match="took over"):
            held.renew()
    assert key.read_bytes() == b"another"


# --- processes ------------------------------------------------------------------------------------


def test_threads_and_collections_at_once(disk, tmp_path):
    """A short form of `python -m tests.artifacts.support.soak`, in one process."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(8):
                repository = get_artifact_repository(
                    f"{disk}/1/{uuid.UUID(int=number).hex}/artifacts"
                )
                data = random_bytes(200_000, seed=turn % 3)
                folder = tmp_path / f"w{number}"
                folder.mkdir(exist_ok=True)
                repository.log_artifact(write(folder, "f", data))
                assert Path(repository.download_artifacts("f")).read_bytes() == data
                if turn % 2:
                    repository.delete_artifacts()
        except BaseException as exc:
            failures.append(exc)

    def gather() -> None:
        try:
            while not stop.is_set():
                gc.collect(open_store(parse_location(disk)), 0)
        except BaseException as exc:
            failures.append(exc)

    collector = threading.Thread(target=gather)
    workers = [threading.Thread(target=work, args=(n,)) for n in range(1, 4)]
    collector.start()
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join(200)
    stop.set()
    collector.join(200)
    assert failures == []
    run("gc", disk, "--grace", "0s")
    assert packs(tmp_path / "store") == []


def test_index_names_no_pack_that_another_collection_removed(disk, tmp_path, monkeypatch):
    """On a service that ignores conditions the lease lets two collections run at once."""
    monkeypatch.setattr(pack_writer, "PACK_BYTES", MIB)
    repository = get_artifact_repository(new_run_uri(disk))
    repository.log_artifact(write(tmp_path, "f", random_bytes(4 * MIB)))
    repository.delete_artifacts()
    store = open_store(parse_location(disk))
    (_, delta) = next(store.index.deltas())
    first, *others = delta.packs
    assert len(others) > 1
    store.condemned.add(frozenset([first]))
    replace = store.index.replace

    def replace_meanwhile(names, combined):
        replace(names, combined)
        # The other collection listed the index before this was written, and cleans it no more.
        store.packs.delete([others.pop()] if others else [])

    monkeypatch.setattr(store.index, "replace", replace_meanwhile)
    with lease.lease(store) as held:
        gc._Collection(store, 0, lease.storage_time(store) + 1, held, print).sweep()
    assert others == []
    assert store.packs.stored() == {}
    assert all(not delta.packs for _, delta in store.index.deltas())


def test_index_of_a_writer_that_slept_through_collections_is_cleaned(disk, tmp_path):
    """It names packs that were removed meanwhile; nothing is lost, and fsck says so after gc."""
    repository = get_artifact_repository(new_run_uri(disk))
    repository.log_artifact(write(tmp_path, "f", random_bytes(MIB)))
    store = open_store(parse_location(disk))
    (_, delta) = next(store.index.deltas())
    store.packs.delete(delta.packs)
    repository.log_artifact(write(tmp_path, "f", random_bytes(MIB)))
    assert run_json("fsck", disk, code=1)["problems"][0]["kind"] == "index"
    assert run_json("gc", disk)["rewritten_index"] > 0
    assert run_json("fsck", disk, "--read-data")["problems"] == []


def test_bytes_that_a_lock_binds_stay_while_it_is_taken(tmp_path, monkeypatch):
    """A deletion may be visible, where calls are listed, between a lock's entry and its receipt."""
    monkeypatch.setattr(LocalBackend, "creates_exclusively", lambda self, folder: False)
    root = f"cas-file://{tmp_path}/store"
    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifact(write(tmp_path, "model", random_bytes(MIB)))
    store = find_store(parse_location(root))
    assert store is not None
    assert not store.format.is_numbered
    (scope,) = store.manifests.scopes_under("")
    view = store.manifests.view(scope)
    taken = Lock("model", "approved", view.bound_by("model"))
    for name, operation in (
        (entry_name(2, "a" * 16), taken),
        (entry_name(2, "b" * 16), Tombstone("model")),
    ):
        key = object_keys.segment_key(scope, name)
        store.write_object(key, encode_segment(Segment(scope, name, (operation,))))
    assert listing(repository) == []
    run("gc", root, "--grace", "0s")
    receipt = object_keys.segment_key(scope, receipt_name(entry_name(2, "a" * 16)))
    store.write_object(receipt, b"")
    opening._stores.clear()
    assert Path(repository.download_artifacts("model")).read_bytes() == random_bytes(MIB)
    assert run_json("fsck", root, "--read-data")["problems"] == []
    repository.unlock("approved", "model")
    repository.delete_artifacts("model")
    run("gc", root, "--grace", "0s")
    assert packs(tmp_path / "store") == []
