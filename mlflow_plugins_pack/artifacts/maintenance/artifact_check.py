"""Checks files against the packs and the index that are really there; part of ``fsck``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from cachetools import LRUCache

from mlflow_plugins_pack.artifacts.download.file_reader import read_file
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.pack import Chunk
from mlflow_plugins_pack.artifacts.maintenance.pack_check import PackContents
from mlflow_plugins_pack.artifacts.store.chunk_reader import read_held, read_recipe
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.errors import ArtifactCorruptError, ArtifactError, StorageError


class ArtifactCheck:
    """Tells what is wrong with files.

    Args:
        store: The store.
        contents: What the packs hold.
        indexed: The packs that the index lists.
        read_data: Whether to compute the sha256 of each whole file from its chunks.

    Attributes:
        unlisted: Packs that files need and the index does not list.
    """

    def __init__(
        self,
        store: Store,
        contents: PackContents,
        indexed: frozenset[bytes],
        *,
        read_data: bool,
    ) -> None:
        self._store = store
        self._packs, self._bad = contents.good, contents.bad
        self._indexed = indexed
        self._read_data = read_data
        self._homes: dict[tuple[bytes, int], bytes] = {}
        for name, records in self._packs.items():
            for record in records:
                identity = (record.id, record.raw)
                if identity not in self._homes or name in indexed:
                    self._homes[identity] = name
        # Entries that follow each other refer to the same packs.
        self._places: LRUCache[bytes, frozenset[Chunk]] = LRUCache(64)
        self._digests: dict[tuple[bytes, tuple[Chunk, ...]], str | None] = {}
        self.unlisted: set[bytes] = set()

    def problem_of(self, entry: FileEntry) -> str | None:
        """Return what is wrong with a file, None if nothing is."""
        if entry.is_held and entry.inline is None:
            return self._problem_of_held(entry)
        chunks: list[Chunk] = list(entry.chunks)
        for number, place in enumerate(entry.recipe):
            if (problem := self._problem_of_chunk(place)) is not None:
                return problem
            part = read_recipe(self._store, place)
            if part is None or (part.file_sha256, part.file_size) != (entry.sha256, entry.size):
                return f"its recipe {place.id.hex()} is missing, damaged or another file's"
            if (part.part, part.parts) != (number, len(entry.recipe)):
                return f"its recipe {place.id.hex()} is in the wrong place"
            chunks += part.chunks
        for chunk in chunks:
            if (problem := self._problem_of_chunk(chunk)) is not None:
                return problem
        data = b"" if entry.inline is None else entry.inline
        total = sum(chunk.raw for chunk in chunks) + len(data)
        if total != entry.size:
            return f"its chunks add up to {total} bytes instead of {entry.size}"
        self._expect_in_index((*chunks, *entry.recipe))
        if entry.inline is None:
            return self._problem_of_whole(entry) if self._read_data else None
        if hashlib.sha256(data).digest() != entry.sha256:
            return "its bytes, which stand in the manifest, do not have its hash"
        return None

    def _problem_of_held(self, entry: FileEntry) -> str | None:
        try:
            read_held(self._store, [entry])
        except ArtifactCorruptError as exc:
            return str(exc.message)
        return None

    def _problem_of_chunk(self, chunk: Chunk) -> str | None:
        if (chunk.id, chunk.raw) not in self._homes:
            return (
                f"its chunk {chunk.id.hex()} is missing or damaged "
                f"(it should be in {object_keys.pack_key(chunk.pack)})"
            )
        if chunk.pack in self._packs and chunk not in self._places_in(chunk.pack):
            # Of a pack that is gone the chunks were moved; here the place itself is wrong.
            return (
                f"its chunk {chunk.id.hex()} is not at the place in "
                f"{object_keys.pack_key(chunk.pack)} that is recorded for it"
            )
        return None

    def _places_in(self, pack: bytes) -> frozenset[Chunk]:
        if pack not in self._places:
            # Of a damaged chunk there is another copy, or it would not have come so far.
            records = (*self._packs[pack], *self._bad[pack])
            self._places[pack] = frozenset(record.at(pack) for record in records)
        return self._places[pack]

    def _expect_in_index(self, chunks: Iterable[Chunk]) -> None:
        """Note what only an index object that is lost could have told a reader."""
        for chunk in chunks:
            # Chunks that a collection has moved are found by the index alone. Of others it may not
            # know: a writer may have been killed before it wrote that part.
            home = self._homes[chunk.id, chunk.raw]
            if chunk.pack not in self._packs and home not in self._indexed:
                self.unlisted.add(home)

    def _problem_of_whole(self, entry: FileEntry) -> str | None:
        identity = (entry.sha256, entry.recipe or entry.chunks)
        if identity not in self._digests:
            self._digests[identity] = self._compute(entry)
        return self._digests[identity]

    def _compute(self, entry: FileEntry) -> str | None:
        whole = hashlib.sha256()
        try:
            for data in read_file(self._store, entry):
                whole.update(data)
        except StorageError:
            raise
        except ArtifactError as exc:
            return str(exc.message)
        if whole.digest() != entry.sha256:
            return "its chunks are each right, but as a whole it does not have its sha256"
        return None
