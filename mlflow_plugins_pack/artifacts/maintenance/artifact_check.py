"""Checks files against the packs and the index that are really there; part of ``fsck``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import partial

from cachetools import LRUCache

from mlflow_plugins_pack.artifacts.download.file_reader import read_file
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.pack import Chunk
from mlflow_plugins_pack.artifacts.maintenance.check_journal import CheckJournal
from mlflow_plugins_pack.artifacts.maintenance.pack_check import PackContents
from mlflow_plugins_pack.artifacts.pieces import InProcess, Workers, open_for_worker
from mlflow_plugins_pack.artifacts.store.chunk_reader import read_held, read_recipe
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.errors import ArtifactCorruptError, ArtifactError, StorageError

_BATCH_BYTES = 256 * 1024 * 1024
_BATCH_FILES = 1000


class ArtifactCheck:
    """Tells what is wrong with files.

    Args:
        store: The store.
        contents: What the packs hold.
        indexed: The packs that the index lists.

    Attributes:
        unlisted: Packs that files need and the index does not list.
    """

    def __init__(
        self,
        store: Store,
        contents: PackContents,
        indexed: frozenset[bytes],
    ) -> None:
        self._store = store
        self._packs, self._bad = contents.good, contents.bad
        self._indexed = indexed
        self._homes: dict[tuple[bytes, int], bytes] = {}
        for name, records in self._packs.items():
            for record in records:
                identity = (record.id, record.raw)
                if identity not in self._homes or name in indexed:
                    self._homes[identity] = name
        # Entries that follow each other refer to the same packs.
        self._places: LRUCache[bytes, frozenset[Chunk]] = LRUCache(64)
        self.unlisted: set[bytes] = set()

    def problem_of(self, entry: FileEntry) -> str | None:
        """Return what is wrong with a file, None if nothing is."""
        if entry.is_held and entry.inline is None:
            return self._problem_of_held(entry)
        chunks: list[Chunk] = list(entry.chunks)
        for number, place in enumerate(entry.recipe):
            if (problem := self._problem_of_chunk(place)) is not None:
                return problem
            try:
                part = read_recipe(self._store, place)
            except StorageError:
                raise
            except ArtifactError as exc:  # such as a damaged list of condemned packs
                return str(exc.message)
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
        if entry.inline is not None and hashlib.sha256(data).digest() != entry.sha256:
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


FileIdentity = tuple[bytes, tuple[Chunk, ...]]
"""A file's hash and the places that its entry names."""


def identity_of(entry: FileEntry) -> FileIdentity:
    """Return what two entries share that have the same content at the same places."""
    return entry.sha256, entry.recipe or entry.chunks


def check_whole_files(
    store: Store,
    entries: Iterable[FileEntry],
    workers: Workers | None = None,
    journal: CheckJournal | None = None,
) -> dict[FileIdentity, str]:
    """Compute the sha256 of whole files from their chunks; return what is wrong, for those.

    Args:
        store: The store.
        entries: Files whose chunks are all there; each content is read once.
        workers: Who reads them; this process if not given.
        journal: Which an earlier call has found good; those that this one does are added.
    """
    distinct = {identity_of(entry): entry for entry in entries}
    if journal is not None:
        distinct = {i: e for i, e in distinct.items() if _name_in_journal(i) not in journal}
    if workers is None:
        workers, call = InProcess(), partial(_wrong_in, store)
    else:
        call = partial(_wrong_in_store, store.location.uri)
    wrong: dict[FileIdentity, str] = {}
    for batch, found in workers.map(call, _batches(distinct.values()), lambda: None):
        wrong |= found
        if journal is not None:
            good = (identity_of(entry) for entry in batch)
            journal.add(_name_in_journal(identity) for identity in good if identity not in found)
    return wrong


def _name_in_journal(identity: FileIdentity) -> str:
    places = hashlib.sha256(repr(identity[1]).encode()).hexdigest()
    return f"file {identity[0].hex()} {places}"


def _batches(entries: Iterable[FileEntry]) -> Iterator[list[FileEntry]]:
    batch: list[FileEntry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += entry.size
        if size >= _BATCH_BYTES or len(batch) == _BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


_Found = tuple[list[FileEntry], dict[FileIdentity, str]]


def _wrong_in_store(uri: str, entries: list[FileEntry]) -> _Found:
    return _wrong_in(open_for_worker(uri), entries)


def _wrong_in(store: Store, entries: list[FileEntry]) -> _Found:
    found = {identity_of(entry): _problem_of_whole(store, entry) for entry in entries}
    return entries, {identity: what for identity, what in found.items() if what is not None}


def _problem_of_whole(store: Store, entry: FileEntry) -> str | None:
    whole = hashlib.sha256()
    try:
        for data in read_file(store, entry):
            whole.update(data)
    except StorageError:
        raise
    except ArtifactError as exc:
        return str(exc.message)
    if whole.digest() != entry.sha256:
        return "its chunks are each right, but as a whole it does not have its sha256"
    return None
