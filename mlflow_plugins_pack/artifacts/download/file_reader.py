"""Reads files, or parts of them, as a stream of checked chunks; nothing is written to a disk."""

from __future__ import annotations

import hashlib
import io
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.pack import Chunk
from mlflow_plugins_pack.artifacts.store.chunk_reader import (
    file_chunks,
    inconsistent,
    read_at,
    read_elsewhere,
    read_held,
    unreadable,
)
from mlflow_plugins_pack.artifacts.store.store import Store

_CHUNKS_AHEAD = 16
_BUFFER_BYTES = 256 * 1024


def read_file(store: Store, entry: FileEntry) -> Iterator[bytes | memoryview]:
    """Yield a file's bytes in order, each chunk checked; the whole is for the caller to check."""
    return read_range(store, entry, 0, entry.size)


def read_range(
    store: Store, entry: FileEntry, start: int, length: int
) -> Iterator[bytes | memoryview]:
    """Yield a part of a file in order; only the chunks that it touches are read.

    Args:
        store: The store.
        entry: The file.
        start: Offset of the first byte; at or beyond the file's end nothing is read.
        length: How many bytes at most.

    Raises:
        ArtifactCorruptError: If a chunk is missing or wrong and there is no other copy.
    """
    end = min(start + length, entry.size)
    if entry.inline is not None:
        if hashlib.sha256(entry.inline).digest() != entry.sha256:
            raise inconsistent(store, entry, "does not have the SHA-256 that it was logged with")
        yield entry.inline[start:end]
        return
    if entry.is_held:
        yield read_held(store, [entry])[0][start:end]
        return
    ahead: deque[tuple[int, Chunk, Future[bytes | memoryview | None]]] = deque()
    touched = _touched(store, entry, start, end)
    reached = start
    try:
        while True:
            while len(ahead) < _CHUNKS_AHEAD:
                upcoming = next(touched, None)
                if upcoming is None:
                    break
                offset, chunk = upcoming
                place = store.index.current_place(chunk)
                ahead.append((offset, chunk, thread_pools.submit(read_at, store, place)))
            if not ahead:
                break
            offset, chunk, future = ahead.popleft()
            data = future.result()
            if data is None:
                data = read_elsewhere(store, chunk)
            if data is None:
                raise unreadable(store, entry, chunk)
            yield data[max(0, start - offset) : end - offset]
            reached = offset + len(data)
        if reached < end:
            raise inconsistent(store, entry, f"ends after {reached} of its {entry.size} bytes")
    finally:
        for _, _, future in ahead:
            future.cancel()


class ArtifactFile(io.RawIOBase):
    """A stored file as Python reads files: seekable, read where it is asked for."""

    def __init__(self, store: Store, entry: FileEntry) -> None:
        super().__init__()
        self._store, self._entry = store, entry
        self._at = 0

    def readable(self) -> bool:
        """Return true: it can be read."""
        return True

    def seekable(self) -> bool:
        """Return true: it can be read from anywhere."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; returns it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._entry.size}[whence]
        if base + offset < 0:
            raise ValueError(f"there is no place {base + offset} in a file")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Return the place where the next read begins."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; returns how many bytes came."""
        target = memoryview(buffer).cast("B")
        filled = 0
        for data in read_range(self._store, self._entry, self._at, len(target)):
            target[filled : filled + len(data)] = data
            filled += len(data)
        self._at += filled
        return filled


def open_file(store: Store, entry: FileEntry) -> io.BufferedReader:
    """Return a stored file opened for reading; every chunk is checked when it is read."""
    return io.BufferedReader(ArtifactFile(store, entry), _BUFFER_BYTES)


def _touched(store: Store, entry: FileEntry, start: int, end: int) -> Iterator[tuple[int, Chunk]]:
    offset = 0
    for chunk in file_chunks(store, entry):
        if offset >= end:
            return
        if offset + chunk.raw > start:
            yield offset, chunk
        offset += chunk.raw
