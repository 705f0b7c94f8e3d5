"""Reads all packs of a store and checks them; part of ``fsck``."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.backends.base import ObjectMissingError, Stored
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.pack import HEADER, Record, decode_chunk
from mlflow_plugins_pack.artifacts.maintenance.check_journal import CheckJournal
from mlflow_plugins_pack.artifacts.pieces import InProcess, Workers, open_for_worker
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.errors import ArtifactError, StorageError

_BATCH_BYTES = 128 * 1024 * 1024
_BATCH_PACKS = 1000


@dataclass
class PackContents:
    """What the packs of a store hold.

    Attributes:
        good: The records of chunks that are right as far as they were read, by pack.
        bad: Those of chunks that are not.
        damaged: Packs of which something is wrong.
        bytes_read: Stored bytes whose hashes were checked.
    """

    good: dict[bytes, list[Record]] = field(default_factory=dict)
    bad: dict[bytes, list[Record]] = field(default_factory=dict)
    damaged: set[bytes] = field(default_factory=set)
    bytes_read: int = 0


class _Checked(NamedTuple):
    """What one pack holds; it is gone if ``good`` is None and it has no fault."""

    good: list[Record] | None
    bad: list[Record]
    faults: list[str]


def read_packs(
    store: Store,
    condemned: Collection[bytes],
    report: Callable[[str, str], None],
    *,
    read_data: bool,
    workers: Workers | None = None,
    journal: CheckJournal | None = None,
) -> PackContents:
    """Read all packs.

    Args:
        store: The store.
        condemned: Packs that will be removed: files that need one are named themselves.
        report: Told the key of each other pack that is damaged, and how.
        read_data: Whether to read the chunks and check their hashes, not only the tables.
        workers: Who reads them; this process if not given.
        journal: Which packs' data an earlier call has found good; those that this one does are
            added.
    """
    contents = PackContents()
    listed = list(store.backend.list(store.key(object_keys.PACK_PREFIX)))
    plan = [
        (stored, read_data and (journal is None or _name_in_journal(stored) not in journal))
        for stored in listed
    ]
    if workers is None:
        workers, call = InProcess(), partial(_read_some, store)
    else:
        call = partial(_read_some_of, store.location.uri)
    for batch, results in workers.map(call, _batches(plan), lambda: None):
        if journal is not None:
            journal.add(
                _name_in_journal(stored)
                for (stored, is_read), checked in zip(batch, results, strict=True)
                if is_read and checked.good is not None and not checked.faults
            )
        for (stored, _), (good, bad, faults) in zip(batch, results, strict=True):
            name = object_keys.parse_pack_key(stored.key)
            if name is None:
                report(stored.key, "no pack has such a name")
                continue
            if good is not None:
                contents.good[name], contents.bad[name] = good, bad
                contents.bytes_read += sum(r.stored for r in good) if read_data else 0
            if faults and name not in condemned:
                contents.damaged.add(name)
                for fault in faults:
                    report(stored.key, fault)
    return contents


Planned = tuple[Stored, bool]
"""A pack, and whether its data is to be read."""


def _name_in_journal(stored: Stored) -> str:
    return f"pack {stored.key.rpartition('/')[2]} {stored.size}"


def _batches(plan: list[Planned]) -> Iterator[list[Planned]]:
    """Yield packs that are checked together: some seconds' work, lost with its worker."""
    batch: list[Planned] = []
    size = 0
    for stored, is_read in plan:
        if batch and (size + stored.size > _BATCH_BYTES or len(batch) == _BATCH_PACKS):
            yield batch
            batch, size = [], 0
        batch.append((stored, is_read))
        size += stored.size if is_read else 0
    if batch:
        yield batch


def _read_some_of(uri: str, batch: list[Planned]) -> tuple[list[Planned], list[_Checked]]:
    return _read_some(open_for_worker(uri), batch)


def _read_some(store: Store, batch: list[Planned]) -> tuple[list[Planned], list[_Checked]]:
    checked: list[_Checked] = []
    # A few at a time: with their data, packs are large.
    step = 2 if any(is_read for _, is_read in batch) else thread_pools.IO_THREADS
    for start in range(0, len(batch), step):
        reading = [
            thread_pools.submit(_read_pack, store, stored.key, stored.size, is_read)
            for stored, is_read in batch[start : start + step]
            if object_keys.parse_pack_key(stored.key) is not None
        ]
        results = iter(reading)
        for stored, _ in batch[start : start + step]:
            if object_keys.parse_pack_key(stored.key) is None:
                checked.append(_Checked(None, [], []))
                continue
            try:
                checked.append(_Checked(*next(results).result()))
            except ObjectMissingError:
                checked.append(_Checked(None, [], []))
            except StorageError:
                raise
            except ArtifactError as exc:
                checked.append(_Checked(None, [], [exc.message]))
    return batch, checked


def _read_pack(
    store: Store, key: str, size: int, read_data: bool
) -> tuple[list[Record] | None, list[Record], list[str]]:
    """Return the records whose chunks are good, those whose are not, and what is wrong."""
    name = binascii.unhexlify(key.rpartition("/")[2])
    records, end = store.packs.table(name, size)
    good: list[Record] = []
    bad: list[Record] = []
    faults: list[str] = []
    data = memoryview(store.backend.read(key)) if read_data else None
    if data is not None and data[: len(HEADER)] != HEADER:
        faults.append("it does not start as a pack does")
    for record in records:
        is_good = len(HEADER) <= record.offset and record.offset + record.stored <= end
        if is_good and data is not None:
            stored = data[record.offset : record.offset + record.stored]
            is_good = decode_chunk(record.at(name), stored, store.sealer) is not None
        (good if is_good else bad).append(record)
    faults += [f"its chunk {record.id.hex()} does not have its hash" for record in bad]
    return good, bad, faults
