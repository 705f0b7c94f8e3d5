"""Stores small files many at a time: one look at the index, one round of hashing."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence

from mlflow_plugins_pack.artifacts.format.chunker import Cut, fast_cutter
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.upload.pack_writer import PackWriter
from mlflow_plugins_pack.artifacts.upload.pending import Placed

SMALL_FILE_BYTES = 128 * 1024
"""Files of up to this length are read whole. They have too few chunks for a recipe."""


def store_small_files(
    store: Store, packs: PackWriter, contents: Sequence[bytes]
) -> Iterator[tuple[bytes, tuple[Placed, ...]]]:
    """Store some files; yield the SHA-256 and the chunks of each, in their order.

    They are cut as `ChunkSink` cuts the same bytes.
    """
    packs.learn_index()
    sizes = store.format.chunker.small
    cut = fast_cutter(sizes)
    cut_files = [_cut(data, cut, sizes.minimum) for data in contents]
    pieces = list(itertools.chain.from_iterable(cut_files))
    stored = packs.store_chunks(pieces.__getitem__, store.sealer.chunk_ids(pieces))
    for data, own in zip(contents, cut_files, strict=True):
        packs.compressor.start_file()
        yield hashlib.sha256(data).digest(), tuple(itertools.islice(stored, len(own)))


def _cut(data: bytes, cut: Cut, minimum: int) -> list[memoryview]:
    whole = memoryview(data)
    if len(whole) <= minimum:
        return [whole]
    ends = itertools.accumulate(cut(whole))
    return [whole[start:end] for start, end in itertools.pairwise(itertools.chain((0,), ends))]
