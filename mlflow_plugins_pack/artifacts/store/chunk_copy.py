"""Copies chunks out of packs that will be removed into new ones.

Manifests stay as they are: a place in them is a hint, and the index says where a chunk is now.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlflow_plugins_pack.artifacts.format.index_delta import Delta
from mlflow_plugins_pack.artifacts.format.pack import Chunk, Compressor, PackBuilder
from mlflow_plugins_pack.artifacts.store.chunk_reader import read_chunk
from mlflow_plugins_pack.artifacts.store.store import Store

_PACK_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Copied:
    """What was done.

    Attributes:
        packs: Names of the new packs.
        bytes: Their length altogether.
        unreadable: Chunks of which no good copy was found anywhere.
    """

    packs: frozenset[bytes]
    bytes: int
    unreadable: tuple[Chunk, ...]


def copy_chunks(store: Store, wanted: Iterable[tuple[int, Chunk]]) -> Copied:
    """Write chunks into new packs and name these in the index.

    Args:
        store: The store.
        wanted: Kind and place of each chunk; holds one chunk at a time in memory and one pack.
    """
    compressor = Compressor()
    builder = PackBuilder(store.sealer)
    written: dict[bytes, bytes] = {}
    length = 0
    unreadable = []

    def close() -> int:
        nonlocal builder
        if builder.is_empty:
            return 0
        name, data, table = builder.finish()
        builder = PackBuilder(store.sealer)
        store.packs.write(name, data)
        written[name] = table
        return len(data)

    for kind, chunk in wanted:
        raw = read_chunk(store, chunk)
        if raw is None:
            unreadable.append(chunk)
            continue
        codec, stored = compressor.encode(raw)
        if len(builder) + len(stored) > _PACK_BYTES:
            length += close()
        builder.add(kind, codec, chunk.id, stored, len(raw))
    length += close()
    if written:
        store.index.add(Delta(dict(written)))
    return Copied(frozenset(written), length, tuple(unreadable))
