"""Ranges of packs that were downloaded before, kept on this host for the next version of a file.

Each pack has two files in the host's cache: its bytes, with holes where none are kept, and a list
of the ranges that are there, 8 bytes each, to which every download appends. The bytes are kept as
the storage has them, encrypted ones encrypted, under the pack's name, which stands for its content.
Nothing here is trusted: a file that was put together from it has its SHA-256 checked as any other,
and where that fails, chunks are read from the storage and the packs are forgotten here.
"""

from __future__ import annotations

import bisect
import contextlib
import logging
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.artifacts.format.pack import Chunk
from mlflow_plugins_pack.artifacts.store.index_cache import cache_folder

_logger = logging.getLogger(__name__)

_RANGE = struct.Struct(">II")
_LIST = ".ranges"
_LOOK_EVERY_BYTES = 64 * 1024 * 1024
"""After so many kept bytes a process looks whether the cache is full."""


def open_range_cache() -> RangeCache | None:
    """Return the host's cache, or None if it is switched off.

    Raises:
        ConfigurationError: If the setting is not a number of bytes.
    """
    limit = settings.ARTIFACT_RANGE_CACHE_BYTES.get()
    return RangeCache(cache_folder() / "ranges", limit) if limit else None


class RangeCache:
    """A folder of parts of packs, the least recently used of which go when it is full.

    Lives as long as one download: what it has looked up is remembered so long.
    """

    _kept_since_look = 0

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._known: dict[bytes, list[tuple[int, int]]] = {}

    def holds(self, chunk: Chunk) -> bool:
        """Return whether a chunk is said to be there."""
        if chunk.pack not in self._known:
            self._known[chunk.pack] = self._ranges_of(chunk.pack)
        ranges = self._known[chunk.pack]
        place = bisect.bisect_right(ranges, (chunk.offset, 1 << 32)) - 1
        return place >= 0 and chunk.offset + chunk.stored <= ranges[place][1]

    def read(self, pack: bytes, start: int, length: int) -> bytes | None:
        """Return a range, right or wrong; None if it is gone by now."""
        with contextlib.suppress(OSError), self._path(pack).open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), length, start)
            if len(data) == length:
                return data
        return None

    def keep(self, pack: bytes, start: int, data: bytes | memoryview) -> None:
        """Take in a range of a pack; never fails."""
        path = self._path(pack)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                written = os.pwrite(handle, data, start)
            finally:
                os.close(handle)
            ranges = os.open(path.with_suffix(_LIST), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                # One short append at the end: other processes' do not mix with it.
                os.write(ranges, _RANGE.pack(start, start + written))
            finally:
                os.close(ranges)
            self._make_room(written)
        except OSError as exc:
            _logger.debug("The cache of packs cannot be used: %s. Going on without it.", exc)

    def forget(self, packs: Iterable[bytes]) -> None:
        """Remove packs of which something turned out to be wrong."""
        for pack in packs:
            self._known.pop(pack, None)
            _remove(self._path(pack))

    def _path(self, pack: bytes) -> Path:
        name = pack.hex()
        return self._folder / name[:2] / name

    def _ranges_of(self, pack: bytes) -> list[tuple[int, int]]:
        """Return the ranges that are there, joined and sorted."""
        path = self._path(pack).with_suffix(_LIST)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return []
        whole = len(data) - len(data) % _RANGE.size
        joined: list[tuple[int, int]] = []
        for start, end in sorted(_RANGE.iter_unpack(data[:whole])):
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        return joined

    def _make_room(self, kept: int) -> None:
        RangeCache._kept_since_look += kept
        if RangeCache._kept_since_look < min(_LOOK_EVERY_BYTES, self._limit_bytes // 4):
            return
        RangeCache._kept_since_look = 0
        found = []
        for path in self._folder.glob(f"??/*{_LIST}"):
            with contextlib.suppress(FileNotFoundError):
                used = path.stat().st_mtime
                found.append((used, path.with_suffix("").stat().st_blocks * 512, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._limit_bytes:
                return
            _remove(path.with_suffix(""))
            total -= size


def _remove(path: Path) -> None:
    # First the list: bytes that are not listed are not looked for.
    for each in (path.with_suffix(_LIST), path):
        with contextlib.suppress(OSError):
            each.unlink()
