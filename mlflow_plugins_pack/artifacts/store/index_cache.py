"""The index as one process looks things up in it: a SQLite file per store in the user's cache.

Deltas are immutable, so the cache is coherent with any number of writers: it takes what is new in
the listing and drops what has gone. It may be deleted at any time.

The cache is never trusted. Every record carries a CRC-32 over all that it says, the pack's name
included; where one does not hold, or SQLite finds the file damaged, the file is deleted and loaded
again from the store.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import struct
import sys
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

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

_SCHEMA_VERSION = 4
"""Part of the file's name, so that versions of the package do not share a cache."""
_ROWS_AT_ONCE = 4_000_000
"""So many chunks, of some 250 GiB, are sorted and taken in at once: others wait for that long."""
_BUSY_SECONDS = 120
_PARAMETERS = 500
"""Most hashes asked for at once; every SQLite takes 999."""
_TABLES = """
CREATE TABLE IF NOT EXISTS deltas (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replaced (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS packs (number INTEGER PRIMARY KEY, name BLOB UNIQUE);
CREATE TABLE IF NOT EXISTS chunks (sha256 BLOB NOT NULL, pack INTEGER NOT NULL,
    place INTEGER NOT NULL, stored INTEGER NOT NULL, raw INTEGER NOT NULL,
    codec INTEGER NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (sha256, pack)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (sha256 BLOB PRIMARY KEY, size INTEGER NOT NULL,
    is_recipe INTEGER NOT NULL, places BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
"""
# Deltas come in no order of hashes. What is inserted as it comes touches a page a chunk; what is
# put aside first and then inserted in order touches each page once, and costs a 40th of that.
_ARRIVING = """
CREATE TEMP TABLE arriving_deltas (name);
CREATE TEMP TABLE arriving_replaced (name);
CREATE TEMP TABLE arriving_packs (number INTEGER PRIMARY KEY, name);
CREATE TEMP TABLE arriving_chunks (sha256, pack, place, stored, raw, codec, crc);
CREATE TEMP TABLE arriving_files (sha256, size, is_recipe, places, crc);
"""
_TAKE_IN = """
INSERT OR IGNORE INTO packs (name) SELECT name FROM arriving_packs;
INSERT OR REPLACE INTO chunks
    SELECT a.sha256, p.number, a.place, a.stored, a.raw, a.codec, a.crc FROM arriving_chunks a
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
        return {c.id: c for c in found if c.pack not in self.withheld}

    def find_places(self, sha256: bytes) -> list[Chunk]:
        """Return all places of the chunk with the hash."""
        with self._lock:
            return self._guarded(lambda db: self._find_chunks(db, [sha256]))

    def find_file(self, sha256: bytes) -> KnownFile | None:
        """Return the file with the hash, unless a pack that it names is condemned."""
        with self._lock:
            known = self._guarded(lambda db: self._find_file(db, sha256))
        if known is None or any(place.pack in self.withheld for place in known.places):
            return None
        return known

    def replaced(self) -> set[str]:
        """Return names of deltas that a newer one repeats, whether they are still there or not."""
        with self._lock:
            return self._guarded(self._replaced)

    def packs(self) -> set[bytes]:
        """Return the names of all packs that are known."""
        query = "SELECT name FROM packs WHERE name IS NOT NULL"
        with self._lock:
            return self._guarded(lambda db: {row[0] for row in db.execute(query)})

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
            try:
                return call(self._open())
            except (sqlite3.DatabaseError, UnicodeDecodeError) as exc:
                if not _is_damage(exc):
                    raise
                _logger.warning("The artifact index cache is damaged (%s); it is rebuilt.", exc)
                self._close()
                with contextlib.suppress(OSError):
                    _cache_path(self._store_id).unlink()
                return call(self._open())
        except (sqlite3.DatabaseError, UnicodeDecodeError) as exc:
            _logger.warning(
                "The artifact index cache cannot be used (%s); going on without. The cache in "
                "%s may be deleted at any time.",
                exc,
                cache_folder(),
            )
            self._close()
            return call(self._keep(_open_private()))

    def _close(self) -> None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None

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
                "SELECT p.name, c.sha256, c.place, c.stored, c.raw, c.codec, c.crc "  # noqa: S608
                "FROM chunks c "
                "JOIN packs p ON p.number = c.pack "
                f"WHERE p.name IS NOT NULL AND c.sha256 IN ({','.join('?' * len(some))})",
                some,
            )
            found += [_checked_chunk(*row) for row in rows]
        return found

    @staticmethod
    def _find_file(database: sqlite3.Connection, sha256: bytes) -> KnownFile | None:
        query = "SELECT sha256, size, is_recipe, places, crc FROM files WHERE sha256 = ?"
        row = database.execute(query, (sha256,)).fetchone()
        return None if row is None else _checked_file(*row)

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
        number = int(put.lastrowid or 0)
        database.executemany(
            f"INSERT INTO arriving_chunks VALUES (?3, {number}, ?4, ?5, ?6, ?2, ?7)",  # noqa: S608
            _with_crcs(pack, table),
        )
        rows += len(table) // RECORD.size
    fields = ((f.sha256, f.size, f.is_recipe, encode_places(f.places)) for f in delta.files)
    database.executemany(
        "INSERT INTO arriving_files VALUES (?, ?, ?, ?, ?)",
        ((*of_file, _file_crc(*of_file)) for of_file in fields),
    )
    database.executemany("INSERT INTO arriving_replaced VALUES (?)", [(n,) for n in delta.replaces])
    # Last: a delta that broke off on the way must be read again.
    database.execute("INSERT INTO arriving_deltas VALUES (?)", (name,))
    return rows


# Busy, locked, read-only, failed input or output, full, and cannot be opened.
_NOT_DAMAGE = frozenset({5, 6, 8, 10, 13, 14})


def _is_damage(exc: Exception) -> bool:
    """Return whether the file itself is wrong, rather than that it cannot be used now."""
    if isinstance(exc, sqlite3.OperationalError) and sys.version_info < (3, 11):
        return False
    # Without a code it is one of Python's own, or ours, about what is in the file.
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF not in _NOT_DAMAGE


class _DamagedRecordError(sqlite3.DatabaseError):
    """A record of the cache does not have the CRC that was stored with it."""


def _with_crcs(pack: bytes, table: bytes) -> Iterator[tuple[Any, ...]]:
    """Yield a pack's records, each with the CRC of its fields but the kind, and of the pack."""
    view, of_pack = memoryview(table), zlib.crc32(pack)
    for start, record in enumerate(RECORD.iter_unpack(table)):
        at = start * RECORD.size
        yield (*record, zlib.crc32(view[at + 1 : at + RECORD.size], of_pack))


def _checked_chunk(
    pack: bytes, sha256: bytes, offset: int, stored: int, raw: int, codec: int, crc: int
) -> Chunk:
    try:
        fields = RECORD.pack(0, codec, sha256, offset, stored, raw)
        if zlib.crc32(fields[1:], zlib.crc32(pack)) == crc:
            return Chunk(pack, sha256, offset, stored, raw, codec)
    except (struct.error, TypeError):
        pass
    raise _DamagedRecordError("a chunk's record does not hold")


def _file_crc(sha256: bytes, size: int, is_recipe: int, places: bytes) -> int:
    return zlib.crc32(places, zlib.crc32(b"%s %d %d" % (sha256, size, is_recipe)))


def _checked_file(sha256: bytes, size: int, is_recipe: int, places: bytes, crc: int) -> KnownFile:
    try:
        if _file_crc(sha256, size, is_recipe, places) == crc:
            return KnownFile(sha256, size, bool(is_recipe), decode_places(places))
    except (struct.error, TypeError):
        pass
    raise _DamagedRecordError("a file's record does not hold")


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
        path = _cache_path(store_id)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return _prepare(sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False))
    except (OSError, sqlite3.DatabaseError) as exc:
        if isinstance(exc, sqlite3.DatabaseError) and _is_damage(exc):
            raise
        _logger.debug("No index cache on disk (%s); going on without.", exc)
        return _open_private()


def _cache_path(store_id: str) -> Path:
    return cache_folder() / f"artifact-index-v{_SCHEMA_VERSION}-{store_id}.sqlite"


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
        for statement in _statements(_TABLES):
            database.execute(statement)
    for statement in _statements(_ARRIVING):
        database.execute(statement)
    return database
