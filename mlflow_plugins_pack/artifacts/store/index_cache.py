"""The index as one process looks things up in it: a SQLite file per store in the user's cache.

Deltas are immutable, so the cache is coherent with any number of writers: it takes what is new in
the listing and drops what has gone. It may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from mlflow_plugins_pack import base_dirs, settings
from mlflow_plugins_pack.artifacts.format.index_delta import (
    Delta,
    KnownFile,
    decode_places,
    encode_places,
)
from mlflow_plugins_pack.artifacts.format.pack import RECORD, Chunk

T = TypeVar("T")

Loader = Callable[[list[str]], Iterator[Delta | None]]

_logger = logging.getLogger(__name__)

_SCHEMA_VERSION = 3
_ROWS_AT_ONCE = 4_000_000
"""So many chunks, of some 250 GiB, are sorted and taken in at once: others wait for that long."""
_BUSY_SECONDS = 120
_PARAMETERS = 500
"""Most hashes asked for at once; every SQLite takes 999."""
_TABLES = """
CREATE TABLE deltas (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE replaced (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE packs (number INTEGER PRIMARY KEY, name BLOB UNIQUE);
CREATE TABLE chunks (sha256 BLOB NOT NULL, pack INTEGER NOT NULL, place INTEGER NOT NULL,
    stored INTEGER NOT NULL, raw INTEGER NOT NULL, codec INTEGER NOT NULL,
    PRIMARY KEY (sha256, pack)) WITHOUT ROWID;
CREATE TABLE files (sha256 BLOB PRIMARY KEY, size INTEGER NOT NULL, is_recipe INTEGER NOT NULL,
    places BLOB NOT NULL) WITHOUT ROWID;
"""
# Deltas come in no order of hashes. What is inserted as it comes touches a page a chunk; what is
# put aside first and then inserted in order touches each page once, and costs a 40th of that.
_ARRIVING = """
CREATE TEMP TABLE arriving_deltas (name);
CREATE TEMP TABLE arriving_replaced (name);
CREATE TEMP TABLE arriving_packs (number INTEGER PRIMARY KEY, name);
CREATE TEMP TABLE arriving_chunks (sha256, pack, place, stored, raw, codec);
CREATE TEMP TABLE arriving_files (sha256, size, is_recipe, places);
"""
_TAKE_IN = """
INSERT OR IGNORE INTO packs (name) SELECT name FROM arriving_packs;
INSERT OR REPLACE INTO chunks
    SELECT a.sha256, p.number, a.place, a.stored, a.raw, a.codec FROM arriving_chunks a
    CROSS JOIN arriving_packs n ON n.number = a.pack
    CROSS JOIN packs p ON p.name = n.name ORDER BY 1, 2;
INSERT OR REPLACE INTO files SELECT * FROM arriving_files ORDER BY sha256;
INSERT OR IGNORE INTO deltas SELECT name FROM arriving_deltas;
INSERT OR IGNORE INTO replaced SELECT name FROM arriving_replaced;
DELETE FROM arriving_deltas;
DELETE FROM arriving_replaced;
DELETE FROM arriving_packs;
DELETE FROM arriving_chunks;
DELETE FROM arriving_files;
"""


class IndexCache:
    """Answers which chunks and files a store has."""

    def __init__(self, store_id: str) -> None:
        self._store_id = store_id
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        self.withheld: frozenset[bytes] = frozenset()
        """Condemned packs: what they hold may be read, but nothing new may lean on them."""

    def refresh(self, names: Iterable[str], load: Loader) -> None:
        """Bring the cache up to a listing.

        Args:
            names: Names of all deltas that the store has now.
            load: Gives the deltas of the names asked for, in their order; None for one that
                cannot be read now, which is asked for again next time.
        """
        with self._lock:
            self._guarded(lambda db: self._refresh(db, list(names), load))

    def add(self, name: str, delta: Delta) -> None:
        """Take in one delta."""
        with self._lock:
            self._guarded(lambda db: self._take_all(db, [name], iter([delta])))

    def find_chunks(self, hashes: Sequence[bytes]) -> dict[bytes, Chunk]:
        """Return a place of each chunk that is known, by hash, and that is not withheld."""
        with self._lock:
            found = self._guarded(lambda db: self._find_chunks(db, hashes))
        return {c.sha256: c for c in found if c.pack not in self.withheld}

    def find_places(self, sha256: bytes) -> list[Chunk]:
        """Return all places of the chunk with the hash."""
        with self._lock:
            return self._guarded(lambda db: self._find_chunks(db, [sha256]))

    def find_file(self, sha256: bytes) -> KnownFile | None:
        """Return the file with the hash, unless a pack that it names is condemned."""
        query = "SELECT sha256, size, is_recipe, places FROM files WHERE sha256 = ?"
        with self._lock:
            row = self._guarded(lambda db: db.execute(query, (sha256,)).fetchone())
        if row is None:
            return None
        known = KnownFile(row[0], row[1], bool(row[2]), decode_places(row[3]))
        return None if any(place.pack in self.withheld for place in known.places) else known

    def replaced(self) -> set[str]:
        """Return names of deltas that a newer one repeats, whether they are still there or not."""
        with self._lock:
            return self._guarded(self._replaced)

    def forget(self, packs: Iterable[bytes], files: Iterable[bytes]) -> None:
        """Forget all places in packs that turned out to be gone, and files that need them."""
        with self._lock:
            self._guarded(lambda db: self._forget(db, list(packs), list(files)))

    def clear(self) -> None:
        """Forget everything; the next refresh loads all of it."""
        with self._lock:
            self._guarded(self._clear)

    # --- inside the lock ---

    def _guarded(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Run on the cache file, or on one of this process's own where it cannot be used."""
        try:
            return call(self._open())
        except sqlite3.DatabaseError as exc:
            _logger.warning(
                "The artifact index cache cannot be used (%s); going on without. The cache in "
                "%s may be deleted at any time.",
                exc,
                cache_folder(),
            )
            if self._database is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._database.close()
            return call(self._keep(_open_private()))

    def _open(self) -> sqlite3.Connection:
        return self._database or self._keep(_open_file(self._store_id))

    def _keep(self, database: sqlite3.Connection) -> sqlite3.Connection:
        self._database = database
        weakref.finalize(self, database.close)
        return database

    @staticmethod
    def _find_chunks(database: sqlite3.Connection, hashes: Sequence[bytes]) -> list[Chunk]:
        found: list[Chunk] = []
        for start in range(0, len(hashes), _PARAMETERS):
            some = hashes[start : start + _PARAMETERS]
            rows = database.execute(
                "SELECT p.name, c.sha256, c.place, c.stored, c.raw, c.codec FROM chunks c "  # noqa: S608
                "JOIN packs p ON p.number = c.pack "
                f"WHERE p.name IS NOT NULL AND c.sha256 IN ({','.join('?' * len(some))})",
                some,
            )
            found += [Chunk(*row) for row in rows]
        return found

    @staticmethod
    def _clear(database: sqlite3.Connection) -> None:
        with database:
            for table in ("deltas", "replaced", "chunks", "packs", "files"):
                database.execute(f"DELETE FROM {table}")  # noqa: S608 - fixed names

    @staticmethod
    def _forget(database: sqlite3.Connection, packs: list[bytes], files: list[bytes]) -> None:
        with database:
            database.executemany("DELETE FROM files WHERE sha256 = ?", [(f,) for f in files])
            for pack in packs:
                # Its chunks stay without a pack, and are not found: no need to look for them. The
                # number stays taken, or another pack would inherit them.
                database.execute("UPDATE packs SET name = NULL WHERE name = ?", (pack,))
                database.execute("DELETE FROM files WHERE instr(places, ?) > 0", (pack,))

    def _refresh(
        self,
        database: sqlite3.Connection,
        names: list[str],
        load: Loader,
    ) -> None:
        known = {row[0] for row in database.execute("SELECT name FROM deltas")}
        replaced = self._replaced(database)
        gone = known - replaced - set(names)
        new = [name for name in names if name not in known and name not in replaced]
        if new:
            self._take_all(database, new, load(new))
        if gone - self._replaced(database):
            # Something was collected: a place that is remembered may be no more.
            self._clear(database)
            self._take_all(database, names, load(names))

    @staticmethod
    def _replaced(database: sqlite3.Connection) -> set[str]:
        return {row[0] for row in database.execute("SELECT name FROM replaced")}

    @staticmethod
    def _take_all(
        database: sqlite3.Connection, names: Iterable[str], deltas: Iterator[Delta | None]
    ) -> None:
        """Take in deltas; those that came before a failure are kept."""
        rows = 0
        try:
            for name, delta in zip(names, deltas, strict=False):
                if delta is not None:
                    if delta.replaces and _knows_all(database, delta.replaces):
                        delta = Delta(replaces=delta.replaces)
                    rows += _put_aside(database, name, delta)
                if rows >= _ROWS_AT_ONCE:
                    _take_in(database)
                    rows = 0
        finally:
            _take_in(database)


def _knows_all(database: sqlite3.Connection, names: Iterable[str]) -> bool:
    query = "SELECT 1 FROM deltas WHERE name = ?"
    return all(database.execute(query, (name,)).fetchone() for name in names)


def _put_aside(database: sqlite3.Connection, name: str, delta: Delta) -> int:
    """Write one delta into tables that only this process sees; returns how many chunks it has."""
    rows = 0
    for pack, table in delta.packs.items():
        put = database.execute("INSERT INTO arriving_packs (name) VALUES (?)", (pack,))
        # The fields of a record are kind, codec, sha256, offset, stored, raw.
        database.executemany(
            f"INSERT INTO arriving_chunks VALUES (?3, {int(put.lastrowid or 0)}, ?4, ?5, ?6, ?2)",  # noqa: S608
            RECORD.iter_unpack(table),
        )
        rows += len(table) // RECORD.size
    database.executemany(
        "INSERT INTO arriving_files VALUES (?, ?, ?, ?)",
        [(f.sha256, f.size, f.is_recipe, encode_places(f.places)) for f in delta.files],
    )
    database.executemany("INSERT INTO arriving_replaced VALUES (?)", [(n,) for n in delta.replaces])
    # Last: a delta that broke off on the way must be read again.
    database.execute("INSERT INTO arriving_deltas VALUES (?)", (name,))
    return rows


def _take_in(database: sqlite3.Connection) -> None:
    with database:
        for statement in _statements(_TAKE_IN):
            database.execute(statement)


def _statements(script: str) -> list[str]:
    return [text for text in script.split(";") if text.strip()]


def cache_folder() -> Path:
    """Return the folder that holds the caches of all stores."""
    if configured := settings.ARTIFACT_CACHE_DIR.get():
        return Path(configured)
    return Path(base_dirs.cache_dir())


def _open_file(store_id: str) -> sqlite3.Connection:
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"artifact-index-{store_id}.sqlite"
        return _prepare(sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False))
    except (OSError, sqlite3.Error) as exc:
        _logger.debug("No index cache on disk (%s); going on without.", exc)
        return _open_private()


def _open_private() -> sqlite3.Connection:
    # No name: in memory while it is small, beyond that in a temporary file.
    return _prepare(sqlite3.connect("", check_same_thread=False))


def _prepare(database: sqlite3.Connection) -> sqlite3.Connection:
    # No write-ahead log: home folders are shared by several machines, which it does not survive.
    database.execute("PRAGMA journal_mode = TRUNCATE")
    # The store is the truth: a cache that a power cut damages is rebuilt.
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA cache_size = -8000")
    with database:
        database.execute("BEGIN IMMEDIATE")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _statements(_TABLES):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        elif version != _SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"its schema version is {version}")
    for statement in _statements(_ARRIVING):
        database.execute(statement)
    return database
