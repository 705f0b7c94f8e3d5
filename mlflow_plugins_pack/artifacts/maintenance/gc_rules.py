"""Which packs a collection may remove, and why that is safe; pure.

The protocol needs no lock on the write path and no bound on how long a process may be paused:

1. A collection lists packs as *condemned*, in an object of its own. That is final: a condemned
   pack is never taken off a list again.
2. A writer makes its segment visible and then reads the lists. Condemned packs that it relies on
   it copies into a new pack, before its call returns.
3. The collection that sweeps a list reads all manifests after the list is there. Every chunk that
   is still needed, and that no pack outside all lists holds, it copies into a new pack. Only then
   are the list's packs deleted.

A writer and a sweeper thus each write first and read afterwards: one of them sees the other, and
the one that sees copies. It is the same between two sweepers: each relies only on packs that are
on no list. No pack's name is ever used twice (`pack.PackBuilder`), so a list can never mean
something newer than it.

The grace period is not needed for that. It spares writers the copying, and gives people the time
to notice a deletion that was a mistake.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

SPARSE_BELOW = 0.5
"""A pack is rewritten once less than this part of it is needed."""

SMALL_PACK_BYTES = 1024 * 1024
MERGE_FROM_SMALL_PACKS = 16
"""So many packs below `SMALL_PACK_BYTES` are put together into larger ones."""

RETENTION_SECONDS = 3600
"""A list outlives its packs by this much: a writer that read it may trust it so long."""


@dataclass(frozen=True)
class PackUse:
    """One pack and how much of it is needed.

    Attributes:
        name: Its name.
        size: Of the whole object, in bytes.
        modified: When it was written, in seconds since 1970 by the storage's clock.
        live: Stored bytes of the chunks in it that manifests need.
    """

    name: bytes
    size: int
    modified: float
    live: int


def choose_packs(packs: Iterable[PackUse], now: float, grace_seconds: float) -> list[PackUse]:
    """Return the packs to condemn: unneeded, sparse or many small ones.

    Args:
        packs: All packs that are on no list.
        now: By the storage's clock.
        grace_seconds: Younger packs stay: a writer may be about to refer to them.
    """
    old = [pack for pack in packs if now - pack.modified >= grace_seconds]
    chosen = [pack for pack in old if pack.live < pack.size * SPARSE_BELOW]
    small = [
        pack
        for pack in old
        if pack.size < SMALL_PACK_BYTES and pack.live >= pack.size * SPARSE_BELOW
    ]
    if len(small) >= MERGE_FROM_SMALL_PACKS:
        chosen += small
    return chosen


def must_copy(
    needed: Iterable[bytes], holders: dict[bytes, set[bytes]], condemned: Collection[bytes]
) -> set[bytes]:
    """Return the chunks that a sweeper has to copy before it deletes anything.

    Args:
        needed: Hashes of chunks that manifests need and that the list's packs hold.
        holders: Per chunk the packs that are known to hold it.
        condemned: Packs on any list, this one included: they may vanish at any moment.
    """
    return {
        chunk_id
        for chunk_id in needed
        if not any(pack not in condemned for pack in holders.get(chunk_id, ()))
    }
