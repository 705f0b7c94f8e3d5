"""Stores the chunks and files that the store lacks, in packs that are uploaded while others fill.

The index names a pack only once it is stored.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.format.index_delta import Delta, KnownFile
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.pack import (
    KIND_DATA,
    KIND_RECIPE,
    SELF,
    Chunk,
    Compressor,
    PackBuilder,
)
from mlflow_plugins_pack.artifacts.format.recipe import CHUNKS_PER_RECIPE_PART, encode_recipe_part
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.upload.pending import (
    ChunkList,
    PendingChunk,
    PendingFile,
    Placed,
)

PACK_BYTES = 12 * 1024 * 1024
"""A pack is closed once it is this long, or a quarter of the call's share of memory."""

CHUNKS_IN_SEGMENT = 64
"""A file of more chunks gets a recipe, so that a listing does not read them."""

_PACKS_PER_DELTA = 16
_SECONDS_PER_DELTA = 10
"""An index delta is written this often during a long upload, so that a second try finds them."""

_INDEX_SECONDS = 5
"""Calls that follow each other this closely ask once what others have stored meanwhile."""

_JUST_SECONDS = 60
"""So long a call relies on a pack that it has stored itself, without looking whether it exists."""


class PackWriter:
    """Writes one call's packs and index deltas. Not for use by two threads at once.

    Attributes:
        names: Of the packs that were closed so far, in order.
        reused: Packs that were there before and hold chunks of this call.
        compressor: Compresses the chunks of the file that is being read.
        knows_index: Whether this call has asked the index, so that it may rely on older packs.
    """

    def __init__(self, store: Store, share: thread_pools.Share) -> None:
        self._store = store
        self._share = share
        self._uploads = thread_pools.Uploads(share)
        self._builder = PackBuilder(store.sealer)
        self._unwritten: dict[bytes, bytes] = {}
        self._new_chunks: dict[bytes, PendingChunk] = {}
        self._new_files: dict[bytes, PendingFile] = {}
        self._indexed = time.monotonic()
        self._closed: dict[bytes, float] = {}
        self._confirmed = -math.inf
        self.names: list[bytes] = []
        self.reused: set[bytes] = set()
        self.compressor = Compressor()
        self.knows_index = False

    # --- storing ---

    def learn_index(self) -> None:
        """Bring the index up to date, once a call, before the first chunk is looked up."""
        if not self.knows_index:
            # Before anything is written: packs sealed with lost keys could never be opened, and
            # any would stand in the way of a new store where this one was wiped.
            confirmed = thread_pools.submit(self._store.confirm_identity)
            self._store.index.refresh(max_age_seconds=_INDEX_SECONDS)
            confirmed.result()
            self.knows_index = True

    def note_confirmed(self) -> None:
        """Note that it is about to be looked whether the packs that the call relies on exist."""
        self._confirmed = time.monotonic()

    def is_confirmed_lately(self) -> bool:
        """Return whether that is less than a minute ago: what was removed since is on a list."""
        return time.monotonic() - self._confirmed < _JUST_SECONDS

    def is_index_old(self) -> bool:
        """Return whether older packs are relied on, and may have been condemned since."""
        return self.knows_index and not self._store.index.is_fresh(_INDEX_SECONDS)

    def known_chunks(self, chunk_ids: list[bytes]) -> set[bytes]:
        """Return which of some chunks need not be stored."""
        found = self._store.index.cache.find_chunks(chunk_ids)
        return {one for one in chunk_ids if one in self._new_chunks or one in found}

    def store_chunks(
        self, data_of: Callable[[int], bytes | memoryview], digests: list[bytes]
    ) -> Iterator[Placed]:
        """Store what is new of some chunks; give the places of all.

        Args:
            data_of: Returns the bytes of a chunk by its number; called for what is new.
            digests: The names of the chunks.
        """
        unknown = [chunk_id for chunk_id in digests if chunk_id not in self._new_chunks]
        known = self._store.index.cache.find_chunks(unknown) if unknown else {}
        for number, chunk_id in enumerate(digests):
            if (new := self._new_chunks.get(chunk_id)) is not None:
                yield new
            elif (found := known.get(chunk_id)) is not None:
                self.reused.add(found.pack)
                yield found
            else:
                data = data_of(number)
                codec, stored = self.compressor.encode(data)
                self._roll(len(stored))
                chunk = self._add(KIND_DATA, codec, chunk_id, stored, len(data))
                self._new_chunks[chunk_id] = chunk
                yield chunk

    def store_file(
        self, sha256: bytes, size: int, chunks: ChunkList, *, is_hashed: bool = True
    ) -> FileEntry | PendingFile:
        """Return the entry of a file whose chunks are stored, without path and time.

        A long file that the store knows as a whole keeps the recipe it has there.

        Args:
            sha256: The hash of the whole file.
            size: Its size in bytes.
            chunks: Its chunks.
            is_hashed: Whether the hash was computed here. The index never names a file by a hash
                that another store claims: a later upload of the file that has it would rely on it.
        """
        if len(chunks) <= CHUNKS_IN_SEGMENT:
            return PendingFile("", size, sha256, chunks=tuple(*chunks.parts()))
        known = self._known_file(sha256, size, chunks)
        if known is not None:
            return known
        file = PendingFile("", size, sha256, recipe=self._store_recipe(sha256, size, chunks))
        if is_hashed:
            self._new_files[sha256] = file
        return file

    def _known_file(
        self, sha256: bytes, size: int, chunks: ChunkList
    ) -> FileEntry | PendingFile | None:
        if sha256 in self._new_files:
            return self._new_files[sha256]
        if chunks.has_new:  # the store had not all of it
            return None
        known = self._store.index.cache.find_file(sha256)
        if known is None or known.size != size or not known.is_recipe:
            return None
        return FileEntry("", size, sha256, 0, recipe=known.places)

    def _store_recipe(
        self, sha256: bytes, size: int, chunks: ChunkList
    ) -> tuple[PendingChunk, ...]:
        parts = math.ceil(len(chunks) / CHUNKS_PER_RECIPE_PART)
        places = []
        for number, part in enumerate(chunks.parts()):
            self._roll(len(part) * 64)
            listed = [self._resolve(chunk, open_pack=SELF) for chunk in part]
            data = encode_recipe_part(sha256, size, number, parts, listed)
            codec, stored = Compressor().encode(data)
            chunk_id = self._store.sealer.chunk_id(data)
            places.append(self._add(KIND_RECIPE, codec, chunk_id, stored, len(data)))
        return tuple(places)

    def _add(self, kind: int, codec: int, chunk_id: bytes, stored: Any, raw: int) -> PendingChunk:
        record = self._builder.add(kind, codec, chunk_id, stored, raw)
        return PendingChunk(len(self.names), *record.at(SELF)[1:])

    def just_written(self) -> set[bytes]:
        """Return the packs of this call that need not be looked for: they were stored just now."""
        now = time.monotonic()
        return {name for name, at in self._closed.items() if now - at < _JUST_SECONDS}

    # --- resolving ---

    def resolve(self, file: PendingFile) -> FileEntry:
        """Return a file with the names of its packs, all of which are closed."""
        return FileEntry(
            file.path,
            file.size,
            file.sha256,
            file.mtime_ns,
            chunks=tuple(map(self._resolve, file.chunks)),
            recipe=tuple(map(self._resolve, file.recipe)),
        )

    def _resolve(self, chunk: Placed, open_pack: bytes | None = None) -> Chunk:
        if isinstance(chunk, Chunk):
            return chunk
        if chunk.pack < len(self.names):
            return chunk.in_pack(self.names[chunk.pack])
        if open_pack is None:
            raise AssertionError("a chunk's pack was never closed")
        return chunk.in_pack(open_pack)

    # --- packs and deltas ---

    def _roll(self, coming: int) -> None:
        limit = min(PACK_BYTES, self._share.bytes // 4)
        if not self._builder.is_empty and len(self._builder) + coming > limit:
            self.close_pack()

    def close_pack(self) -> None:
        """Close the pack that is being filled, if there is one, and begin to upload it."""
        if self._builder.is_empty:
            return
        name, data, table = self._builder.finish()
        self._builder = PackBuilder(self._store.sealer)
        self.names.append(name)
        self._closed[name] = time.monotonic()
        self._uploads.submit(len(data), self._store.packs.write, name, data)
        self._unwritten[name] = table
        if (
            len(self._unwritten) >= _PACKS_PER_DELTA
            or time.monotonic() - self._indexed > _SECONDS_PER_DELTA
        ):
            self._write_delta()

    def finish_uploads(self) -> None:
        """Wait until every closed pack is stored.

        Raises:
            StorageError: If one could not be stored.
        """
        self._uploads.finish()

    def begin_to_index(self) -> Callable[[], None]:
        """Begin to name everything that this call stored in the index.

        Returns:
            What ends that, to be called once.
        """
        # The others' chunks are found one by one.
        files = [self.resolve(file) for file in self._new_files.values()]
        self._uploads.finish()
        delta = Delta(
            dict(self._unwritten),
            [KnownFile(f.sha256, f.size, True, f.recipe) for f in files],
        )
        self._unwritten.clear()
        return (lambda: None) if delta.is_empty() else self._store.index.begin_to_add(delta)

    def _write_delta(self) -> None:
        self._uploads.finish()
        delta = Delta(dict(self._unwritten))
        if not delta.is_empty():
            self._store.index.add(delta)
        self._unwritten.clear()
        self._indexed = time.monotonic()
        if self._builder.is_empty:
            self._new_chunks.clear()

    def abandon(self) -> None:
        """Upload nothing more; does not wait for what is under way."""
        self._uploads.abandon()
