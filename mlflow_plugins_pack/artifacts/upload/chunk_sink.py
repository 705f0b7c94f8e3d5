"""Cuts one file into chunks and stores them; hashing goes on at the same time on other cores."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.format.chunker import Chunker, fast_cutter
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.pack import Chunk
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.upload.pack_writer import PackWriter
from mlflow_plugins_pack.artifacts.upload.pending import ChunkList, PendingFile
from mlflow_plugins_pack.errors import ArtifactCorruptError

T = TypeVar("T")

_BLOCKS_AHEAD = 2
"""So many blocks of a file are cut while the chunks before them are still being hashed."""
_HAND_OVER_BYTES = 256 * 1024
"""Waking another thread takes about as long as hashing this much."""
_COPIED_AT_ONCE = 64
"""So many chunks of a file of another store are read at the same time, some 4 MiB."""


class ChunkSink:
    """Takes one file block by block."""

    def __init__(self, store: Store, packs: PackWriter) -> None:
        packs.learn_index()
        packs.compressor.start_file()
        self._packs = packs
        self._chunk_ids = store.sealer.chunk_ids
        self._chunker = Chunker(store.format.chunker, fast_cutter)
        self._chunks = ChunkList()
        self._whole = hashlib.sha256()
        self._end_hashing: Callable[[], None] = _nothing
        self._cut: deque[tuple[list[memoryview], Callable[[], list[bytes]]]] = deque()
        self._size = 0

    def feed(self, block: bytes | memoryview) -> None:
        """Take the next bytes of the file."""
        self._size += len(block)
        self._end_hashing()
        self._end_hashing = _compute(len(block), self._whole.update, block)
        self._take(list(self._chunker.feed(block)))

    def finish(self) -> FileEntry | PendingFile:
        """Take the file as complete and return its entry, without path and time."""
        self._take(list(self._chunker.finish()))
        while self._cut:
            self._store_next()
        self._end_hashing()
        return self._packs.store_file(self._whole.digest(), self._size, self._chunks)

    def copy_file(
        self,
        file: FileEntry,
        chunks: Iterable[Chunk],
        begin_read: Callable[[Chunk], Callable[[], bytes | memoryview]],
    ) -> FileEntry | PendingFile:
        """Take a whole file of another store that names its chunks in the same way.

        Only chunks that this store lacks are read. Where all were read, the file's hash is checked;
        else every reader of the file checks it.

        Args:
            file: The file there.
            chunks: Its chunks, in order.
            begin_read: Begins to read a chunk; returns what waits for its bytes, checked.

        Returns:
            Its entry, without path and time.

        Raises:
            ArtifactCorruptError: If its chunks do not make up the file.
        """
        size, rest = 0, iter(chunks)
        while some := list(itertools.islice(rest, _COPIED_AT_ONCE)):
            ids = [chunk.id for chunk in some]
            known = self._packs.known_chunks(ids)
            begun = {chunk.id: begin_read(chunk) for chunk in some if chunk.id not in known}

            def read(
                number: int,
                some: list[Chunk] = some,
                begun: dict[bytes, Callable[[], bytes | memoryview]] = begun,
            ) -> bytes | memoryview:
                data = (begun.get(some[number].id) or begin_read(some[number]))()
                self._whole.update(data)
                self._size += len(data)
                return data

            for placed in self._packs.store_chunks(read, ids):
                self._chunks.append(placed)
                size += placed.raw
        is_hashed = self._size == file.size
        if size != file.size or (is_hashed and self._whole.digest() != file.sha256):
            raise ArtifactCorruptError(
                f"The artifact {file.path!r} is not what its manifest says: its chunks make up "
                f"another file. Nothing of it was committed. Run `mlflow-pack artifacts fsck "
                f"--read-data` on the store that it comes from."
            )
        return self._packs.store_file(file.sha256, size, self._chunks, is_hashed=is_hashed)

    def _take(self, pieces: list[memoryview]) -> None:
        total = sum(map(len, pieces))
        self._cut.append((pieces, _compute(total, self._chunk_ids, pieces)))
        while len(self._cut) > _BLOCKS_AHEAD:
            self._store_next()

    def _store_next(self) -> None:
        pieces, digests = self._cut.popleft()
        for chunk in self._packs.store_chunks(pieces.__getitem__, digests()):
            self._chunks.append(chunk)


def _compute(work_bytes: int, call: Callable[..., T], *arguments: Any) -> Callable[[], T]:
    """Run a call, on another core if it is long enough to be worth the hand-over.

    Returns:
        What gives its result, once it is there.
    """
    if work_bytes > _HAND_OVER_BYTES:
        return thread_pools.compute(call, *arguments).result
    result = call(*arguments)
    return lambda: result


def _nothing() -> None:
    """Stand for the hashing of a file of which nothing was read yet."""
