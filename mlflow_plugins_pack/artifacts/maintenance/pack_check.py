"""Reads all packs of a store and checks them; part of ``fsck``."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.backends.base import ObjectMissingError
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.pack import HEADER, Record, decode_chunk
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.errors import ArtifactError, StorageError


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


def read_packs(
    store: Store,
    condemned: Collection[bytes],
    report: Callable[[str, str], None],
    *,
    read_data: bool,
) -> PackContents:
    """Read all packs.

    Args:
        store: The store.
        condemned: Packs that will be removed: files that need one are named themselves.
        report: Told the key of each other pack that is damaged, and how.
        read_data: Whether to read the chunks and check their hashes, not only the tables.
    """
    contents = PackContents()
    listed = list(store.backend.list(store.key(object_keys.PACK_PREFIX)))
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
                report(stored.key, "no pack has such a name")
                continue
            try:
                good, bad, faults = future.result()
            except ObjectMissingError:
                continue
            except StorageError:
                raise
            except ArtifactError as exc:
                good, bad, faults = None, [], [exc.message]
            if good is not None:
                contents.good[name], contents.bad[name] = good, bad
                contents.bytes_read += sum(r.stored for r in good) if read_data else 0
            if faults and name not in condemned:
                contents.damaged.add(name)
                for fault in faults:
                    report(stored.key, fault)
    return contents


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
