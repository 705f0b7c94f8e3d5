"""One log call: takes files and streams, uploads what the store lacks, commits all at once.

The order of writes makes any interruption harmless: packs, then the index delta, then one
manifest segment a scope. Until the segment is there, nothing of the call is visible.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, TypeVar

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.download.download import needed_chunks, read_recipe
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.chunker import Chunker, fast_cutter
from mlflow_plugins_pack.artifacts.format.index_delta import Delta, KnownFile
from mlflow_plugins_pack.artifacts.format.manifest import (
    CHUNKS_PER_RECIPE_PART,
    ChunkList,
    FileEntry,
    Folder,
    Operation,
    encode_recipe_part,
)
from mlflow_plugins_pack.artifacts.format.pack import (
    KIND_DATA,
    KIND_RECIPE,
    SELF,
    Chunk,
    Compressor,
    PackBuilder,
)
from mlflow_plugins_pack.artifacts.store.chunk_copy import copy_chunks
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.errors import (
    ArtifactChangedError,
    ArtifactConflictError,
    ArtifactCorruptError,
)

T = TypeVar("T")

PACK_BYTES = 12 * 1024 * 1024
"""A pack is closed once it is this long, or a quarter of the call's share of memory."""

_MAX_BLOCK_BYTES = 2 * 1024 * 1024
_MIN_BLOCK_BYTES = 256 * 1024
_BLOCKS_AHEAD = 2
"""So many blocks of a file are cut while the chunks before them are still being hashed."""
_HAND_OVER_BYTES = 256 * 1024
"""Waking another thread takes about as long as hashing this much."""
CHUNKS_IN_SEGMENT = 64
"""A file of more chunks gets a recipe, so that a listing does not read them."""

INLINE_FILE_BYTES = 32 * 1024
INLINE_CALL_BYTES = 128 * 1024
INLINE_BESIDE_PACKS_BYTES = 1024
"""A call that is small altogether needs no pack; beside a pack only the tiniest files stay out."""

_PACKS_PER_DELTA = 16
_SECONDS_PER_DELTA = 10
"""An index delta is written this often during a long upload, so that a second try finds them."""

_INDEX_SECONDS = 5
"""Calls that follow each other this closely ask once what others have stored meanwhile."""

_SETTLE_ROUNDS = 10

_PENDING = struct.Struct(">I")


class MissingPackError(ArtifactCorruptError):
    """The index named packs that are not there; it does so no more in this process."""


class UploadSession:
    """Collects one call's files. Not for use by two threads at once."""

    def __init__(self, store: Store, inline_bytes: int = INLINE_FILE_BYTES) -> None:
        self._store = store
        self._inline_bytes = inline_bytes
        self._share = thread_pools.Share(thread_pools.UPLOAD_MEMORY)
        self._uploads = thread_pools.Uploads(self._share)
        self._compressor = Compressor()
        self._builder = PackBuilder(store.sealer)
        self._pack_names: list[bytes] = []
        self._unwritten: dict[bytes, bytes] = {}
        self._new_chunks: dict[bytes, Chunk] = {}
        self._new_files: dict[bytes, FileEntry] = {}
        self._operations: dict[str, list[Operation]] = {}
        self._reused_packs: set[bytes] = set()
        self._knows_index = False
        self._indexed = time.monotonic()

    @property
    def keeps_folders(self) -> bool:
        """Whether empty folders are kept, as stock MLflow does on this storage."""
        return self._store.backend.keeps_folders

    @property
    def block_bytes(self) -> int:
        """How many bytes of a file are taken at a time; some five such blocks are held at once."""
        return max(_MIN_BLOCK_BYTES, min(_MAX_BLOCK_BYTES, self._share.bytes // 16))

    # --- taking ---

    def add_folder(self, path: str) -> None:
        """Make a folder exist although it may be empty."""
        scope, inner = object_keys.split_scope(path)
        if inner:
            self._operations.setdefault(scope, []).append(Folder(inner))

    def add_file(self, path: str, local_file: str | os.PathLike[str]) -> None:
        """Take a local file.

        Args:
            path: Where it goes, relative to the store's root.
            local_file: The file; links are followed.

        Raises:
            ArtifactChangedError: If it changed while it was being read.
            OSError: If it cannot be read.
        """
        with Path(local_file).open("rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                self.add_stream(path, file)
                return
            name = os.fspath(local_file)
            entry = self._entry_of_file(path, file, before, name)
            after = os.fstat(file.fileno())
            if _identity(before) != _identity(after) or entry.size != before.st_size:
                raise _changed(name)
        self._put(path, replace(entry, mtime_ns=max(0, before.st_mtime_ns)))

    def add_stream(self, path: str, stream: IO[bytes]) -> None:
        """Take all bytes of a stream."""
        writer = self.open_writer(path)
        while data := stream.read(_MAX_BLOCK_BYTES):
            writer.write(data)
        writer.close()

    def open_writer(self, path: str) -> StreamWriter:
        """Return a writer that takes a file piece by piece; it counts once it is closed."""
        return StreamWriter(self, path)

    def _entry_of_file(
        self, path: str, file: IO[bytes], before: os.stat_result, name: str
    ) -> FileEntry:
        if before.st_size <= self._inline_limit(path):
            data = file.read(before.st_size + 1)
            return _inline_entry(data)
        self._learn_index()
        sink = _ChunkSink(self)
        while block := file.read(self.block_bytes):
            sink.feed(block)
        return sink.finish()

    def _inline_limit(self, path: str) -> int:
        """Return up to which size a file stands in the manifest itself."""
        if self._store.takes_inline(object_keys.split_scope(path)[0]):
            return self._inline_bytes
        return min(self._inline_bytes, INLINE_BESIDE_PACKS_BYTES)

    def _known_file(self, sha256: bytes, size: int) -> FileEntry | None:
        if sha256 in self._new_files:
            return self._new_files[sha256]
        known = self._store.index.find_file(sha256)
        if known is None or known.size != size:
            return None
        if known.is_recipe:
            return FileEntry("", size, sha256, 0, recipe=known.places)
        return FileEntry("", size, sha256, 0, chunks=known.places)

    # --- chunking ---

    def _store_chunks(self, pieces: list[memoryview], digests: list[bytes]) -> Iterator[Chunk]:
        """Store what is new of some chunks; give the places of all."""
        unknown = [sha256 for sha256 in digests if sha256 not in self._new_chunks]
        known = self._store.index.find_chunks(unknown) if unknown else {}
        for data, sha256 in zip(pieces, digests, strict=True):
            chunk = self._new_chunks.get(sha256)
            if chunk is None and (chunk := known.get(sha256)) is not None:
                self._reused_packs.add(chunk.pack)
            yield chunk or self._store_chunk(data, sha256)

    def _store_chunk(self, data: memoryview, sha256: bytes) -> Chunk:
        codec, stored = self._compressor.encode(data)
        self._roll(len(stored))
        record = self._builder.add(KIND_DATA, codec, sha256, stored, len(data))
        chunk = record.at(_PENDING.pack(len(self._pack_names)))
        self._new_chunks[sha256] = chunk
        return chunk

    def _store_recipe(self, sha256: bytes, size: int, chunks: ChunkList) -> tuple[Chunk, ...]:
        parts = math.ceil(len(chunks) / CHUNKS_PER_RECIPE_PART)
        places = []
        for number, part in enumerate(chunks.parts()):
            self._roll(len(part) * 64)
            data = encode_recipe_part(
                sha256,
                size,
                number,
                parts,
                [self._resolve(chunk, open_pack=SELF) for chunk in part],
            )
            codec, stored = Compressor().encode(data)
            digest = self._store.sealer.chunk_id(data)
            record = self._builder.add(KIND_RECIPE, codec, digest, stored, len(data))
            places.append(record.at(_PENDING.pack(len(self._pack_names))))
        return tuple(places)

    def _resolve(self, chunk: Chunk, open_pack: bytes | None = None) -> Chunk:
        """Put the pack's name in the place of its number in this session."""
        if len(chunk.pack) != _PENDING.size:
            return chunk
        (number,) = _PENDING.unpack(chunk.pack)
        if number < len(self._pack_names):
            return chunk._replace(pack=self._pack_names[number])
        if open_pack is None:
            raise AssertionError("a chunk's pack was never closed")
        return chunk._replace(pack=open_pack)

    def _roll(self, coming: int) -> None:
        limit = min(PACK_BYTES, self._share.bytes // 4)
        if not self._builder.is_empty and len(self._builder) + coming > limit:
            self._close_pack()

    def _close_pack(self) -> None:
        if self._builder.is_empty:
            return
        name, data, table = self._builder.finish()
        self._builder = PackBuilder(self._store.sealer)
        self._pack_names.append(name)
        self._store.note_pack(name)
        self._uploads.submit(
            len(data), self._store.backend.write, self._store.key(object_keys.pack_key(name)), data
        )
        self._unwritten[name] = table
        if (
            len(self._unwritten) >= _PACKS_PER_DELTA
            or time.monotonic() - self._indexed > _SECONDS_PER_DELTA
        ):
            self._write_delta(files=[])

    def _write_delta(self, files: list[KnownFile]) -> None:
        # The index may name a pack only once it is there.
        self._uploads.finish()
        delta = Delta(dict(self._unwritten), files)
        if not delta.is_empty():
            self._store.write_delta(delta)
        self._unwritten.clear()
        self._indexed = time.monotonic()
        if self._builder.is_empty:
            self._new_chunks.clear()

    def _learn_index(self) -> None:
        if not self._knows_index:
            self._store.refresh_index(max_age_seconds=_INDEX_SECONDS)
            self._knows_index = True

    # --- committing ---

    def commit(self) -> None:
        """Make everything taken visible.

        Raises:
            ArtifactConflictError: If a file is in the way of a folder or the reverse, where the
                stock repository of this storage refuses that too.
            StorageError: If the storage failed; then nothing is visible.
        """
        self._refuse_conflicts()
        # Asked beside the last pack's upload.
        listing = {
            scope: thread_pools.submit(self._store.segment_names, scope)
            for scope in self._operations
        }
        condemned = thread_pools.submit(self._store.condemned) if self._knows_index else None
        self._close_pack()
        resolved = {
            scope: [self._resolve_operation(operation) for operation in operations]
            for scope, operations in self._operations.items()
        }
        self._uploads.finish()
        self._settle(resolved, condemned)
        files = [self._resolve_entry(entry) for entry in self._new_files.values()]
        self._write_delta(
            [
                KnownFile(f.sha256, f.size, bool(f.recipe), f.recipe or f.chunks)
                for f in files
                if f.size
            ]
        )
        if len(resolved) > 1:
            for scope, operations in resolved.items():
                self._store.refuse_locked(scope, operations, listing[scope].result())
        for scope, operations in resolved.items():
            self._store.commit(scope, operations, listing[scope].result())
        # Only now a collection that began meanwhile can see what this call needs: whoever of the
        # two does not see the other is seen by it (see `garbage`).
        self._settle(resolved)
        self._share.close()

    def _settle(
        self,
        resolved: dict[str, list[Operation]],
        condemned: Future[frozenset[bytes]] | None = None,
    ) -> None:
        """Make sure that nothing of this call leans on a pack that is gone or will be removed.

        Args:
            resolved: What the call is about to commit, or has just committed.
            condemned: The packs that will be, if they have been asked for already.
        """
        if not self._knows_index:
            return
        leaning = self._confirm_packs(resolved)
        for _ in range(_SETTLE_ROUNDS):
            leaving = leaning & (condemned.result() if condemned else self._store.condemned())
            condemned = None
            if not leaving:
                return
            copied = copy_chunks(self._store, self._chunks_in(leaving, resolved))
            if copied.unreadable:
                raise _missing(self._store, copied.unreadable[0].pack)
            leaning = set(copied.packs)
        raise MissingPackError(
            f"What this upload stored in {self._store.location.uri} was condemned again and again "
            f"by collections. Log it again, and run `mlflow-pack artifacts gc` with a longer "
            f"--grace."
        )

    def _chunks_in(
        self, packs: set[bytes], resolved: dict[str, list[Operation]]
    ) -> Iterator[tuple[int, Chunk]]:
        """Give kind and place of all chunks of this call that are in the packs, each once."""
        given: set[bytes] = set()
        for operations in resolved.values():
            for entry in (o for o in operations if isinstance(o, FileEntry)):
                for kind, chunk in needed_chunks(self._store, entry):
                    if chunk.pack in packs and chunk.sha256 not in given:
                        given.add(chunk.sha256)
                        yield kind, chunk

    def _confirm_packs(self, resolved: dict[str, list[Operation]]) -> set[bytes]:
        """Return the packs that this call leans on; they are all there.

        Raises:
            MissingPackError: If somebody removed one although the index still lists it.
        """
        packs_of_files: dict[bytes, set[bytes]] = {}
        for operations in resolved.values():
            for operation in operations:
                if isinstance(operation, FileEntry) and operation.sha256 not in packs_of_files:
                    packs_of_files[operation.sha256] = set(self._packs_of(operation))
        used = self._reused_packs.union(self._pack_names, *packs_of_files.values())
        missing = self._store.missing_packs(used)
        if missing:
            needing = [f for f, packs in packs_of_files.items() if not packs.isdisjoint(missing)]
            self._store.index.forget(missing, needing)
            raise _missing(self._store, missing[0])
        return used

    def _packs_of(self, entry: FileEntry) -> Iterator[bytes]:
        yield from (chunk.pack for chunk in entry.chunks)
        for place in entry.recipe:
            yield place.pack
            if place.pack not in self._pack_names:
                part = read_recipe(self._store, place)
                yield from (chunk.pack for chunk in (part.chunks if part else ()))

    def abandon(self) -> None:
        """Give up; nothing of this session becomes visible."""
        self._uploads.abandon()
        self._share.close()

    def _put(self, path: str, entry: FileEntry) -> None:
        scope, inner = object_keys.split_scope(path)
        if not inner:
            raise ArtifactConflictError(
                f"A file cannot be stored at {path!r}: that name is a run's artifact folder. "
                f"Nothing was written. Give the file another name."
            )
        self._operations.setdefault(scope, []).append(replace(entry, path=inner))

    def _resolve_operation(self, operation: Operation) -> Operation:
        return self._resolve_entry(operation) if isinstance(operation, FileEntry) else operation

    def _resolve_entry(self, entry: FileEntry) -> FileEntry:
        return replace(
            entry,
            chunks=tuple(self._resolve(chunk) for chunk in entry.chunks),
            recipe=tuple(self._resolve(chunk) for chunk in entry.recipe),
        )

    def _refuse_conflicts(self) -> None:
        if not self._store.backend.refuses_conflicts:
            return
        for scope, operations in self._operations.items():
            view = self._store.view(scope)
            folders = view.all_folders()
            for operation in operations:
                path = getattr(operation, "path", "")
                blocking = view.blocking_file(path)
                if isinstance(operation, FileEntry) and path in folders:
                    raise ArtifactConflictError(
                        f"There is already a folder {object_keys.join(scope, path)!r}; a file "
                        f"cannot take its place. Nothing was written. Delete the folder or "
                        f"use another name."
                    )
                if isinstance(operation, Folder) and path in view.files:
                    blocking = path
                if blocking is not None:
                    raise ArtifactConflictError(
                        f"There is already a file {object_keys.join(scope, blocking)!r}; it cannot "
                        f"be a folder too. Nothing was written. Delete the file or use "
                        f"another name."
                    )


class StreamWriter:
    """Takes one file piece by piece, and keeps no more of it in memory than a few packs."""

    def __init__(self, session: UploadSession, path: str) -> None:
        self._session = session
        self._path = path
        self._limit = session._inline_limit(path)
        self._start: bytearray | None = bytearray()
        self._sink: _ChunkSink | None = None

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._start is not None:
            self._start += data
            if len(self._start) <= self._limit:
                return
            self._session._learn_index()
            self._sink = _ChunkSink(self._session)
            data, self._start = bytes(self._start), None
        assert self._sink is not None  # noqa: S101 - for the type checker
        view, block_bytes = memoryview(data), self._session.block_bytes
        for start in range(0, len(view), block_bytes):
            self._sink.feed(view[start : start + block_bytes])

    def close(self) -> None:
        """Take the file as complete."""
        if self._sink is not None:
            self._session._put(self._path, self._sink.finish())
        else:
            self._session._put(self._path, _inline_entry(bytes(self._start or b"")))


class _ChunkSink:
    """Cuts one file and stores its chunks; hashing goes on beside that, on other cores."""

    def __init__(self, session: UploadSession) -> None:
        self._session = session
        session._compressor.start_file()
        self._chunk_ids = session._store.sealer.chunk_ids
        self._chunker = Chunker(session._store.format.chunker, fast_cutter)
        self._chunks = ChunkList()
        self._whole = hashlib.sha256()
        self._hashing: Future[None] | None = None
        self._cut: deque[tuple[list[memoryview], Future[list[bytes]]]] = deque()
        self._size = 0

    def feed(self, block: bytes | memoryview) -> None:
        self._size += len(block)
        if self._hashing is not None:
            self._hashing.result()
        self._hashing = _compute(len(block), self._whole.update, block)
        self._take(list(self._chunker.feed(block)))

    def _take(self, pieces: list[memoryview]) -> None:
        total = sum(map(len, pieces))
        self._cut.append((pieces, _compute(total, self._chunk_ids, pieces)))
        while len(self._cut) > _BLOCKS_AHEAD:
            self._store_next()

    def _store_next(self) -> None:
        pieces, digests = self._cut.popleft()
        for chunk in self._session._store_chunks(pieces, digests.result()):
            self._chunks.append(chunk)

    def finish(self) -> FileEntry:
        session = self._session
        self._take(list(self._chunker.finish()))
        while self._cut:
            self._store_next()
        if self._hashing is not None:
            self._hashing.result()
        sha256 = self._whole.digest()
        known = session._known_file(sha256, self._size) if self._size else None
        if known is not None:
            return known
        if len(self._chunks) > CHUNKS_IN_SEGMENT:
            recipe = session._store_recipe(sha256, self._size, self._chunks)
            entry = FileEntry("", self._size, sha256, 0, recipe=recipe)
        else:
            entry = FileEntry("", self._size, sha256, 0, chunks=tuple(*self._chunks.parts()))
        session._new_files[sha256] = entry
        return entry


def _compute(work_bytes: int, call: Callable[..., T], *arguments: Any) -> Future[T]:
    """Run a call on another core if it is long enough to be worth the hand-over."""
    if work_bytes > _HAND_OVER_BYTES:
        return thread_pools.compute(call, *arguments)
    done: Future[T] = Future()
    done.set_result(call(*arguments))
    return done


def _missing(store: Store, pack: bytes) -> MissingPackError:
    return MissingPackError(
        f"The index of {store.location.uri} lists packs that are gone, such as "
        f"{object_keys.pack_key(pack)}, and this upload would have relied on them. Nothing was "
        f"committed that can be read. Log the file again: it will be stored in full. Then run "
        f"`mlflow-pack artifacts fsck --repair-index` to see what else is affected."
    )


def _inline_entry(data: bytes) -> FileEntry:
    return FileEntry("", len(data), hashlib.sha256(data).digest(), 0, inline=data)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _changed(name: str) -> ArtifactChangedError:
    return ArtifactChangedError(
        f"The file {name!r} changed while it was being read, so what was read may be neither its "
        f"old nor its new content. Nothing was committed. Log it again once it is complete."
    )
