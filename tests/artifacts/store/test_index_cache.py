"""The host's copy of the index: loaded in one go, in bounded memory, and never a wrong answer."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.backends.base import Stored
from mlflow_plugins_pack.artifacts.backends.local import LocalBackend
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.index_delta import Delta, KnownFile
from mlflow_plugins_pack.artifacts.format.pack import Chunk, Record, encode_records
from mlflow_plugins_pack.artifacts.store import index_cache
from mlflow_plugins_pack.artifacts.store.index_cache import IndexCache
from mlflow_plugins_pack.artifacts.upload import pack_writer

CHUNKS = 5


def hash_of(pack: int, chunk: int) -> bytes:
    return random.Random(pack * 1000 + chunk).randbytes(32)


def pack_of(number: int) -> bytes:
    return random.Random(-1 - number).randbytes(32)


def delta_of(*packs: int, replaces: tuple[str, ...] = ()) -> Delta:
    records = {
        pack_of(p): [Record(0, 0, hash_of(p, n), 8 + 10 * n, 10, 10) for n in range(CHUNKS)]
        for p in packs
    }
    files = [
        KnownFile(hash_of(p, 999), 10, False, (records[pack_of(p)][0].at(pack_of(p)),))
        for p in packs
    ]
    return Delta({k: encode_records(v) for k, v in records.items()}, files, replaces)


def name_of(number: int) -> str:
    return object_keys.make_ulid(1, number.to_bytes(10, "big"))


class Deltas:
    """What a store lists, and how often each was asked for."""

    def __init__(self, *numbers: int) -> None:
        self.deltas = {name_of(n): delta_of(n) for n in numbers}
        self.loaded: list[str] = []
        self.fails_at: str | None = None

    def load(self, names: list[str]) -> Iterator[Delta | None]:
        for name in names:
            if name == self.fails_at:
                raise OSError("the network is down")
            self.loaded.append(name)
            yield self.deltas[name]

    def bring(self, cache: IndexCache) -> None:
        cache.refresh(list(self.deltas), self.load)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_CACHE_DIR", str(tmp_path))


def knows(cache: IndexCache, *packs: int) -> bool:
    found = cache.find_chunks([hash_of(p, n) for p in packs for n in range(CHUNKS)])
    return found == {
        hash_of(p, n): Chunk(pack_of(p), hash_of(p, n), 8 + 10 * n, 10, 10, 0)
        for p in packs
        for n in range(CHUNKS)
    }


def test_many_deltas_are_one_transaction():
    cache, store = IndexCache("s"), Deltas(*range(50))
    cache.refresh([], store.load)
    said: list[str] = []
    assert cache._database is not None
    cache._database.set_trace_callback(said.append)
    store.bring(cache)
    assert knows(cache, *range(50))
    assert sum(s.startswith("COMMIT") for s in said) == 1
    # Rows reach the large table in the order of its keys, and by nothing else.
    assert sum("INTO chunks" in s for s in said) == 1
    store.bring(IndexCache("s"))
    assert store.loaded == sorted(store.deltas)


def test_what_came_before_a_failure_is_kept(monkeypatch):
    cache, store = IndexCache("s"), Deltas(*range(9))
    monkeypatch.setattr(index_cache, "_ROWS_AT_ONCE", 3 * CHUNKS)
    store.fails_at = name_of(7)
    with pytest.raises(OSError, match="the network is down"):
        store.bring(cache)
    assert knows(cache, *range(7))
    store.fails_at = None
    store.bring(cache)
    assert knows(cache, *range(9))
    assert store.loaded == sorted(store.deltas)


def test_forgotten_pack_bequeaths_nothing_to_the_next():
    cache, store = IndexCache("s"), Deltas(0, 1)
    store.bring(cache)
    cache.forget([pack_of(1)], [])
    assert knows(cache, 0)
    assert not cache.find_chunks([hash_of(1, n) for n in range(CHUNKS)])
    assert cache.find_file(hash_of(1, 999)) is None
    assert cache.find_file(hash_of(0, 999)) is not None
    cache.add(name_of(2), delta_of(2))
    assert not cache.find_chunks([hash_of(1, n) for n in range(CHUNKS)])
    assert knows(cache, 0, 2)
    # Another host stored it again, under another delta's name.
    cache.add(name_of(3), delta_of(1))
    assert knows(cache, 0, 1, 2)


def test_replaced_deltas_are_not_read_again_and_collected_ones_start_anew():
    cache, store = IndexCache("s"), Deltas(0, 1, 2)
    store.bring(cache)
    store.deltas = {name_of(9): delta_of(0, 1, 2, replaces=tuple(store.deltas))}
    store.loaded.clear()
    store.bring(cache)
    assert store.loaded == [name_of(9)]
    assert knows(cache, 0, 1, 2)
    other = IndexCache("another host's")
    store.bring(other)
    assert knows(other, 0, 1, 2)
    store.deltas = {name_of(10): delta_of(0)}
    store.bring(cache)
    assert knows(cache, 0)
    assert not cache.find_chunks([hash_of(1, 0)])


def test_what_is_known_is_not_taken_in_again():
    cache, store = IndexCache("s"), Deltas(0, 1)
    store.bring(cache)
    # Its content cannot differ: that it is wrong here shows that it was not looked at.
    cache.add(name_of(5), delta_of(7, replaces=tuple(store.deltas)))
    assert knows(cache, 0, 1)
    assert not cache.find_chunks([hash_of(7, 0)])
    assert cache.replaced() == set(store.deltas)
    cache.add(name_of(6), delta_of(8, replaces=(name_of(5), name_of(4))))
    assert knows(cache, 0, 1, 8)


def test_cache_file_that_is_not_a_database_is_rebuilt(tmp_path, caplog):
    (tmp_path / "artifact-index-v4-s.sqlite").write_bytes(os.urandom(5000))
    cache, store = IndexCache("s"), Deltas(0, 1)
    store.bring(cache)
    assert knows(cache, 0, 1)
    assert "is damaged (file is not a database); it is rebuilt" in caplog.text


def test_large_index_is_loaded_in_bounded_memory():
    """The index of 20 GiB takes 19 MiB on disk; what the process takes does not grow with it."""
    code = """
        import random, resource
        from mlflow_plugins_pack.artifacts.format.index_delta import Delta
        from mlflow_plugins_pack.artifacts.store.index_cache import IndexCache
        from mlflow_plugins_pack.artifacts.format.pack import Record, encode_records

        chance = random.Random(1)

        def load(names):
            for _ in names:
                yield Delta({
                    chance.randbytes(32): encode_records(
                        Record(0, 0, chance.randbytes(32), 8, 9, 9) for n in range(256)
                    )
                    for n in range(32)
                })

        peaks = []
        for count in (4, 40):
            IndexCache(f"store-{count}").refresh([f"{n:026}" for n in range(count)], load)
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        print(*peaks)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True
    )
    small, large = map(int, ran.stdout.split())
    assert large - small <= 32, ran.stdout


def test_calls_in_quick_succession_list_the_index_once(tmp_path, monkeypatch):
    """What others stored meanwhile may be stored twice; what they condemned is still asked."""
    listed: list[str] = []
    really = LocalBackend.list

    def recorded(self: LocalBackend, prefix: str) -> Iterator[Stored]:
        listed.append(prefix.rpartition(".cas")[2])
        return really(self, prefix)

    monkeypatch.setattr(LocalBackend, "list", recorded)
    counts = []
    for number, seconds in enumerate((3600, 3600, 0)):
        monkeypatch.setattr(pack_writer, "_INDEX_SECONDS", seconds)
        listed.clear()
        (tmp_path / "f").write_bytes(os.urandom(200_000))
        uri = f"cas-file://{tmp_path}/store/1/{number:032x}/artifacts"
        get_artifact_repository(uri).log_artifact(str(tmp_path / "f"))
        counts.append((listed.count("/index/"), listed.count("/gc/")))
    assert counts == [(1, 2), (0, 1), (1, 3)]


# --- a damaged cache ------------------------------------------------------------------------------


def cache_file(tmp_path: Path) -> Path:
    (path,) = tmp_path.glob("artifact-index-*.sqlite")
    return path


COLUMNS = [
    ("chunks", "sha256"),
    ("chunks", "pack"),
    ("chunks", "place"),
    ("chunks", "stored"),
    ("chunks", "raw"),
    ("chunks", "codec"),
    ("chunks", "crc"),
    ("packs", "number"),
    ("packs", "name"),
    ("files", "sha256"),
    ("files", "size"),
    ("files", "is_recipe"),
    ("files", "places"),
    ("files", "crc"),
    ("deltas", "name"),
    ("replaced", "name"),
]


def expect_right_or_nothing(cache: IndexCache, pack: int, number: int) -> None:
    sha256 = hash_of(pack, number)
    right = Chunk(pack_of(pack), sha256, 8 + 10 * number, 10, 10, 0)
    assert cache.find_chunks([sha256]) in ({}, {sha256: right})
    assert cache.find_places(sha256) in ([], [right])
    assert cache.find_file(hash_of(pack, 999)) in (None, delta_of(pack).files[0])


def damage_record(path: Path, table: str, column: str, how: str) -> None:
    database = sqlite3.connect(path)
    found = database.execute(f"SELECT * FROM {table}")
    at = [field[0] for field in found.description].index(column)
    rows = [list(row) for row in found]
    value = rows[0][at]
    if how == "swapped":
        rows[0][at], rows[1][at] = rows[1][at], value
    elif how == "deleted":
        del rows[0]
    elif how == "of another type":
        # A number that is the key of its rows can be another number only.
        rows[0][at] = "text" if isinstance(value, int) and column != "number" else 77
    elif isinstance(value, int):
        rows[0][at] = value ^ 1 << 20
    else:
        flipped = bytearray(value if isinstance(value, bytes) else value.encode())
        flipped[-1] ^= 1
        rows[0][at] = bytes(flipped) if isinstance(value, bytes) else flipped.decode()
    with database:
        database.execute(f"DELETE FROM {table}")
        marks = ",".join("?" * len(found.description))
        database.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows)
    database.close()


@pytest.mark.parametrize(("table", "column"), COLUMNS)
@pytest.mark.parametrize("how", ["flipped", "swapped", "of another type", "deleted"])
def test_no_damaged_record_is_used(tmp_path, table, column, how):
    cache, store = IndexCache("s"), Deltas(0, 1)
    store.bring(cache)
    cache.add(name_of(9), Delta(replaces=(name_of(7), name_of(8))))
    cache._close()
    damage_record(cache_file(tmp_path), table, column, how)
    again = IndexCache("s")
    for pack in (0, 1):
        for number in range(CHUNKS):
            expect_right_or_nothing(again, pack, number)
    store.bring(again)
    again.clear()
    store.bring(again)
    assert knows(again, 0, 1)


def test_no_bit_of_the_file_is_trusted(tmp_path, caplog):
    """A flipped bit anywhere costs at most that the index is loaded again."""
    cache, store = IndexCache("s"), Deltas(0, 1)
    store.bring(cache)
    cache._close()
    path = cache_file(tmp_path)
    whole = path.read_bytes()
    rebuilt = 0
    for position in range(0, len(whole), max(1, len(whole) // 300)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        caplog.clear()
        again = IndexCache("s")
        for pack, number in ((p, n) for p in (0, 1) for n in range(CHUNKS)):
            expect_right_or_nothing(again, pack, number)
        store.bring(again)
        again._close()
        rebuilt += "is rebuilt" in caplog.text
        # What is damaged does not stay so for the next process.
        healed = IndexCache("s")
        store.bring(healed)
        healed.find_chunks([hash_of(p, n) for p in (0, 1) for n in range(CHUNKS)])
        healed._close()
    assert rebuilt > 10
