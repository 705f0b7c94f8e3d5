"""``fsck``: is everything that manifests name really there, and is it what it should be?

Manifests are read before the packs are listed, so that what is committed meanwhile is not taken
for missing.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from cachetools import LRUCache

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.backends.base import ObjectMissingError
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.index_delta import Delta, KnownFile
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.pack import (
    HEADER,
    Chunk,
    Record,
    decode_chunk,
    decode_records,
    encode_records,
)
from mlflow_plugins_pack.artifacts.maintenance.manifest_check import (
    check_manifest,
    describe_lost,
    take_out,
)
from mlflow_plugins_pack.artifacts.store.chunk_reader import read_held, read_recipe
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.errors import ArtifactCorruptError, ArtifactError, StorageError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: ``pack``, ``index``, ``manifest`` or ``artifact``.
        where: The object's key, or the artifact's path in the store.
        what: What is wrong with it.
    """

    kind: str
    where: str
    what: str


@dataclass
class Report:
    """What a check found.

    Attributes:
        problems: Everything wrong, artifacts last.
        packs, chunks, files: How many were looked at.
        bytes_read: Stored bytes whose hashes were checked.
        index_repaired: Whether the index was rebuilt.
        manifests_repaired: Scopes whose damaged or missing segments were taken out.
    """

    problems: list[Problem] = field(default_factory=list)
    packs: int = 0
    chunks: int = 0
    files: int = 0
    bytes_read: int = 0
    index_repaired: bool = False
    manifests_repaired: int = 0

    def add(self, kind: str, where: str, what: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(kind, where, what))

    @property
    def lost(self) -> list[Problem]:
        """Problems that a new index does not mend."""
        return [p for p in self.problems if p.kind != "index" or not self.index_repaired]


def check_store(
    store: Store,
    *,
    read_data: bool = False,
    repair_index: bool = False,
    repair_manifests: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Check a store.

    Args:
        store: The store.
        read_data: Also read every stored byte and check its hash; else only that every chunk is
            listed where manifests say it is.
        repair_index: Rebuild the index from what was found good.
        repair_manifests: Take damaged and missing manifest segments out: what they held is lost.
        progress: Told what is being done.

    Returns:
        What is wrong; nothing is changed but what is asked to be repaired.
    """
    report = Report()
    progress("reading manifests")
    entries = list(_read_manifests(store, report, repair=repair_manifests))
    progress("reading the index")
    deltas = dict(_read_index(store, report))
    progress("reading packs")
    packs = dict(_read_packs(store, report, read_data=read_data))
    report.packs = len(packs)
    report.chunks = sum(map(len, packs.values()))
    tables = _Tables(packs)
    _check_index(deltas, packs, report)
    progress("checking artifacts")
    whole: list[KnownFile] = []
    for path, entry in entries:
        report.files += 1
        problem = _check_entry(store, entry, tables)
        if problem is not None:
            report.add("artifact", path, problem)
        elif entry.inline is None and entry.size and not entry.is_held:
            places = entry.recipe or entry.chunks
            if any(place.pack not in packs for place in places):
                # Its chunks were moved: a new copy finds each of them by its hash.
                continue
            whole.append(KnownFile(entry.sha256, entry.size, bool(entry.recipe), places))
    if repair_index:
        progress("writing the index")
        _write_index(store, packs, whole, list(deltas))
        report.index_repaired = True
    return report


def _read_manifests(
    store: Store, report: Report, *, repair: bool
) -> Iterator[tuple[str, FileEntry]]:
    for scope in store.manifests.scopes_under(""):
        try:
            state = check_manifest(store, scope)
            for name, why in state.damaged.items():
                report.add("manifest", object_keys.segment_key(scope, name), why)
            for first, last in state.lost:
                report.add("manifest", scope or ".", describe_lost(first, last))
            files = state.view.files
            if not state.is_good:
                if not repair:
                    continue
                take_out(store, scope, state)
                report.manifests_repaired += 1
                files = store.manifests.view(scope, fresh=True).files
        except StorageError:
            raise
        except ArtifactError as exc:
            report.add("manifest", scope or ".", exc.message)
            continue
        for path, entry in sorted(files.items()):
            yield object_keys.join(scope, path), entry


def _read_index(store: Store, report: Report) -> Iterator[tuple[str, Delta]]:
    prefix = store.key(object_keys.INDEX_PREFIX)
    for stored in list(store.backend.list(prefix)):
        name = stored.key[len(prefix) :]
        if not object_keys.is_ulid(name):
            report.add("index", stored.key, "no index object has such a name")
            continue
        try:
            yield name, store.index.read_delta(name)
        except ObjectMissingError:
            continue
        except ArtifactError as exc:
            report.add("index", stored.key, exc.message)
            yield name, Delta()


def _read_packs(
    store: Store, report: Report, *, read_data: bool
) -> Iterator[tuple[bytes, list[Record]]]:
    prefix = store.key(object_keys.PACK_PREFIX)
    listed = list(store.backend.list(prefix))
    # A few at a time: with their data, packs are large.
    step = 2 if read_data else thread_pools.IO_THREADS
    for start in range(0, len(listed), step):
        batch = listed[start : start + step]
        reading = [
            thread_pools.submit(_read_pack, store, stored.key, stored.size, read_data)
            for stored in batch
        ]
        for stored, future in zip(batch, reading, strict=True):
            name = object_keys.parse_pack_key(stored.key)
            if name is None:
                report.add("pack", stored.key, "no pack has such a name")
                continue
            try:
                records, bad = future.result()
            except ObjectMissingError:
                continue
            except StorageError:
                raise
            except ArtifactError as exc:
                report.add("pack", stored.key, exc.message)
                continue
            for record in bad:
                report.add(
                    "pack", stored.key, f"its chunk {record.id.hex()} does not have its hash"
                )
            if read_data:
                report.bytes_read += sum(r.stored for r in records)
            yield name, records


def _read_pack(
    store: Store, key: str, size: int, read_data: bool
) -> tuple[list[Record], list[Record]]:
    """Return the records whose chunks are good and those whose are not."""
    name = binascii.unhexlify(key.rpartition("/")[2])
    records, end = store.packs.table(name, size)
    inside = [r for r in records if len(HEADER) <= r.offset and r.offset + r.stored <= end]
    bad = [r for r in records if r not in inside] if len(inside) < len(records) else []
    if not read_data:
        return inside, bad
    data = memoryview(store.backend.read(key))
    good = []
    for record in inside:
        stored = data[record.offset : record.offset + record.stored]
        if decode_chunk(record.at(name), stored, store.sealer) is None:
            bad.append(record)
        else:
            good.append(record)
    return good, bad


def _check_index(
    deltas: dict[str, Delta], packs: dict[bytes, list[Record]], report: Report
) -> None:
    for name, delta in deltas.items():
        for pack, table in delta.packs.items():
            there = set(packs.get(pack, ()))
            if pack not in packs:
                what = f"it names the pack {pack.hex()}, which is missing or damaged"
                report.add("index", object_keys.index_key(name), what)
            elif any(record not in there for record in decode_records(table)):
                what = f"it says of the pack {pack.hex()} what is not, or no longer, so"
                report.add("index", object_keys.index_key(name), what)


class _Tables:
    """What was found good: chunks by hash, wherever they are, and by their places."""

    def __init__(self, packs: dict[bytes, list[Record]]) -> None:
        self._packs = packs
        self._chunks = {(r.id, r.raw) for records in packs.values() for r in records}
        # Entries that follow each other refer to the same packs.
        self._places: LRUCache[bytes, frozenset[Chunk]] = LRUCache(64)

    def problem_of(self, chunk: Chunk) -> str | None:
        """Return what is wrong with a place in a manifest or recipe, None if nothing is."""
        if (chunk.id, chunk.raw) not in self._chunks:
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
            self._places[pack] = frozenset(record.at(pack) for record in self._packs[pack])
        return self._places[pack]


def _check_entry(store: Store, entry: FileEntry, tables: _Tables) -> str | None:
    if entry.is_held and entry.inline is None:
        try:
            read_held(store, [entry])
        except ArtifactCorruptError as exc:
            return str(exc.message)
        return None
    chunks: list[Chunk] = list(entry.chunks)
    for number, place in enumerate(entry.recipe):
        if (problem := tables.problem_of(place)) is not None:
            return problem
        part = read_recipe(store, place)
        if part is None or (part.file_sha256, part.file_size) != (entry.sha256, entry.size):
            return f"its recipe {place.id.hex()} is missing, damaged or another file's"
        if (part.part, part.parts) != (number, len(entry.recipe)):
            return f"its recipe {place.id.hex()} is in the wrong place"
        chunks += part.chunks
    for chunk in chunks:
        if (problem := tables.problem_of(chunk)) is not None:
            return problem
    data = b"" if entry.inline is None else entry.inline
    total = sum(chunk.raw for chunk in chunks) + len(data)
    if total != entry.size:
        return f"its chunks add up to {total} bytes instead of {entry.size}"
    if entry.inline is not None and hashlib.sha256(data).digest() != entry.sha256:
        return "its bytes, which stand in the manifest, do not have its hash"
    return None


def _write_index(
    store: Store, packs: dict[bytes, list[Record]], files: list[KnownFile], old: Iterable[str]
) -> None:
    tables = {name: encode_records(records) for name, records in packs.items()}
    store.index.replace(list(old), Delta(tables, files))
    store.index.clear()
