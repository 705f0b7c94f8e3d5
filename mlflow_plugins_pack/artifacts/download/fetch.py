"""Brings the bytes of planned files: reads in parallel and writes in any order.

What a pack holds of all files is read together, whatever their order: the versions of a table are
made of the chunks of many packs in turns. The bytes are given in the order of the files, from
memory if they have just come, else from the staged file, which the machine still has in memory.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, wait

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.backends.base import ObjectMissingError
from mlflow_plugins_pack.artifacts.download.plan import (
    Group,
    Held,
    Inline,
    Item,
    Wanted,
    group_reads,
    plan_files,
    resume,
    takes_turns,
    windows,
)
from mlflow_plugins_pack.artifacts.download.range_cache import RangeCache, open_range_cache
from mlflow_plugins_pack.artifacts.download.staging import Staging
from mlflow_plugins_pack.artifacts.format.encryption import Sealer
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.pack import CODEC_RAW, Chunk, decode_unchecked
from mlflow_plugins_pack.artifacts.store.chunk_reader import read_held
from mlflow_plugins_pack.artifacts.store.store import Store

Data = bytes | memoryview
Pieces = dict[tuple[int, int], Data]
"""Bytes that have just come, by file number and offset in the file."""

_REREAD_BYTES = 1024 * 1024


def fetch(store: Store, entries: list[FileEntry], staging: Staging) -> Iterator[tuple[int, Data]]:
    """Write all files, reading ahead in parallel; give each file's bytes in order, unchecked.

    What could not be read is missing or wrong in what is given, and a hole in what is written.
    """
    planned: Iterator[Item] = plan_files(store, entries)
    if staging.is_resumed:
        planned = resume(store, entries, planned, staging)
    # A disk is as near as the cache.
    cache = open_range_cache() if store.backend.is_remote else None
    share = thread_pools.Share(thread_pools.DOWNLOAD_MEMORY)
    ahead: deque[tuple[_Window, Group, Future[Pieces]]] = deque()
    bytes_ahead = 0
    reads = _reads(store, planned, staging, cache)
    try:
        upcoming = next(reads, None)
        while upcoming is not None or ahead:
            while upcoming is not None:
                window, group = upcoming
                if ahead and bytes_ahead + group.weight > share.bytes:
                    break
                ahead.append((window, group, _start(store, group, staging, window.cache)))
                bytes_ahead += group.weight
                upcoming = next(reads, None)
            window, group, pieces = ahead.popleft()
            yield from window.take(group, pieces.result())
            bytes_ahead -= group.weight
            del pieces
    finally:
        reading = [pieces for _, _, pieces in ahead]
        for future in reading:
            future.cancel()
        # What they write is unchecked: it must not come on top of what a next call has checked.
        wait(reading)
        share.close()


def _reads(
    store: Store, planned: Iterator[Item], staging: Staging, cache: RangeCache | None
) -> Iterator[tuple[_Window, Group]]:
    for items in windows(planned):
        # A file that shares nothing is not kept: most are not read again.
        window = _Window(items, staging, cache if takes_turns(items) else None)
        for item in items:
            if isinstance(item, Inline):
                write_at(staging.file(item.file), item.data, flags=os.O_TRUNC)
        groups = group_reads(
            items,
            is_remote=store.backend.is_remote,
            is_kept=window.cache.holds if window.cache is not None else lambda _: False,
        )
        for group in groups:
            yield window, group
        # Brings nothing: what no read is needed for is given, too.
        yield window, Group()


class _Window:
    """Gives the bytes of some planned items in their order.

    Attributes:
        cache: Where ranges are looked for and kept, if they are.
    """

    def __init__(self, items: list[Item], staging: Staging, cache: RangeCache | None) -> None:
        self.cache = cache
        self._items = items
        self._staging = staging
        self._at = 0
        self._is_there = [not isinstance(item, Wanted | Held) for item in items]

    def take(self, group: Group, fresh: Pieces) -> Iterator[tuple[int, Data]]:
        """Take what a read has brought; give all that follows without a gap now."""
        for place in group.places:
            self._is_there[place] = True
        while self._at < len(self._items) and self._is_there[self._at]:
            item = self._items[self._at]
            if isinstance(item, Inline):
                self._at += 1
                yield item.file, item.data
                continue
            data = fresh.pop((item.file, item.offset), None)
            yield item.file, self._read_back(fresh) if data is None else self._pass_over(data)

    def _pass_over(self, data: Data) -> Data:
        first = self._items[self._at]
        end = first.offset + len(data)
        self._at += 1
        while self._at < len(self._items):
            item = self._items[self._at]
            if item.file != first.file or item.offset + item.length > end:
                break
            self._at += 1
        return data

    def _read_back(self, fresh: Pieces) -> bytes:
        """Read what came earlier, and was only written, from the staged file."""
        first = self._items[self._at]
        length = 0
        while length < _REREAD_BYTES and self._at < len(self._items):
            item = self._items[self._at]
            if (
                item.file != first.file
                or not self._is_there[self._at]
                or (item.file, item.offset) in fresh
            ):
                break
            length += item.length
            self._at += 1
        try:
            handle = os.open(self._staging.file(first.file), os.O_RDONLY)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(handle, length, first.offset)
        finally:
            os.close(handle)


def write_at(path: str, data: Data, offset: int = 0, flags: int = 0) -> None:
    """Write bytes into a file at an offset; it is created if it does not exist."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o666)
    try:
        view = memoryview(data)
        while view:
            written = os.pwrite(handle, view, offset)
            view, offset = view[written:], offset + written
    finally:
        os.close(handle)


# --- reads ----------------------------------------------------------------------------------------


def _start(
    store: Store, group: Group, staging: Staging, cache: RangeCache | None
) -> Future[Pieces]:
    if group.held:
        return thread_pools.submit(_read_entry, store, group, staging)
    if group.wanted:
        return thread_pools.submit(_read_range, store, group, staging, cache)
    nothing: Future[Pieces] = Future()
    nothing.set_result({})
    return nothing


def _read_entry(store: Store, group: Group, staging: Staging) -> Pieces:
    pieces: Pieces = {}
    found = read_held(store, [item.entry for item in group.held])
    for item, data in zip(group.held, found, strict=True):
        write_at(staging.file(item.file), data, flags=os.O_TRUNC)
        pieces[item.file, 0] = data
    return pieces


def _read_range(store: Store, group: Group, staging: Staging, cache: RangeCache | None) -> Pieces:
    """Read a range of a pack and write what it brings into the staged files.

    Returns:
        Each file's bytes, in as few pieces as can be: every hand-over between threads costs more
        than a copy does.
    """
    pack = group.wanted[0].chunk.pack
    try:
        stored = memoryview(_stored(store, group, cache))
    except ObjectMissingError:
        store.index.note_gone(pack)
        return {}
    pieces: Pieces = {}
    in_order = sorted(group.wanted, key=lambda wanted: (wanted.file, wanted.offset))
    for number, wanteds in itertools.groupby(in_order, key=lambda wanted: wanted.file):
        for offset, data in _join(_decode(list(wanteds), stored, group.start, store.sealer)):
            write_at(staging.file(number), data, offset)
            pieces[number, offset] = data
    return pieces


def _stored(store: Store, group: Group, cache: RangeCache | None) -> bytes:
    pack, length = group.wanted[0].chunk.pack, group.end - group.start
    if cache is not None and group.is_kept:
        kept = cache.read(pack, group.start, length)
        if kept is not None:
            return kept
    data = store.packs.read(pack, group.start, length)
    if cache is not None:
        cache.keep(pack, group.start, data)
    return data


def _is_verbatim(chunk: Chunk) -> bool:
    # Unequal lengths are damage, which `decode_unchecked` finds.
    return chunk.codec == CODEC_RAW and chunk.stored == chunk.raw


def _join(pieces: Iterator[tuple[int, Data]]) -> Iterator[tuple[int, Data]]:
    """Put together what follows each other."""
    run: list[Data] = []
    begin = end = 0
    for offset, data in pieces:
        if run and offset != end:
            yield begin, _one(run)
            run = []
        if not run:
            begin = offset
        run.append(data)
        end = offset + len(data)
    if run:
        yield begin, _one(run)


def _one(run: list[Data]) -> Data:
    return run[0] if len(run) == 1 else b"".join(run)


def _decode(
    wanted: list[Wanted], stored: memoryview, start: int, sealer: Sealer
) -> Iterator[tuple[int, Data]]:
    """Yield offsets and bytes of one file's chunks; one that cannot be decoded is left out.

    Chunks that are next to each other in the file and in the pack, stored as they are, come as one
    piece, without a copy.
    """
    known: dict[Chunk, Data | None] = {}
    at = 0
    while at < len(wanted):
        offset, chunk = wanted[at].offset, wanted[at].chunk
        begin = chunk.offset - start
        end = begin + chunk.stored
        at += 1
        if _is_verbatim(chunk):
            while (
                at < len(wanted)
                and _is_verbatim(wanted[at].chunk)
                and wanted[at].chunk.offset - start == end
                and wanted[at].offset - offset == end - begin
            ):
                end += wanted[at].chunk.stored
                at += 1
            yield offset, stored[begin:end]
            continue
        if chunk not in known:
            known[chunk] = decode_unchecked(chunk, stored[begin:end], sealer)
        data = known[chunk]
        if data is not None:
            yield offset, data
