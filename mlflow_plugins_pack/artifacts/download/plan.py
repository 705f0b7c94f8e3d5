"""What a download reads, and in which order: chunks of one pack that are near each other together.

Nothing is fetched here but recipes; what an earlier download left in the staging folder is checked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mlflow_plugins_pack.artifacts.download.staging import Staging
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.pack import CODEC_RAW, Chunk
from mlflow_plugins_pack.artifacts.store.chunk_reader import file_chunks, inconsistent
from mlflow_plugins_pack.artifacts.store.store import Store

_READ_BYTES = 4 * 1024 * 1024
"""One range read is about this long, raw and stored."""
_GAP_BYTES = 64 * 1024
"""Bytes between two wanted chunks that are read rather than asked around."""


@dataclass(frozen=True)
class Wanted:
    """One chunk of one file of the plan.

    Attributes:
        file: The file's number.
        offset: Where its bytes go in the file.
        chunk: Where they come from.
    """

    file: int
    offset: int
    chunk: Chunk


@dataclass
class Group:
    """Chunks that one range read brings."""

    wanted: list[Wanted]
    start: int
    end: int
    raw: int

    @property
    def weight(self) -> int:
        """Bytes held in memory for it: as stored and, where that is not the same, as they were."""
        decoded = (w.chunk.raw for w in self.wanted if w.chunk.codec != CODEC_RAW)
        return self.end - self.start + sum(decoded)


Inline = tuple[int, bytes]
"""A small file's number and all of its bytes, which stand in the manifest."""


@dataclass(frozen=True)
class Held:
    """Small files whose bytes stand in the entry that brought them.

    Attributes:
        files: Their numbers.
        entries: The files.
    """

    files: tuple[int, ...]
    entries: tuple[FileEntry, ...]

    @property
    def weight(self) -> int:
        """Bytes held in memory for it."""
        return sum(entry.size for entry in self.entries)


class Kept(NamedTuple):
    """The next bytes of a file: a download that broke off has left them, and they are right."""

    file: int
    data: bytes


def plan_files(store: Store, entries: list[FileEntry]) -> Iterator[Wanted | Inline | Held]:
    """Yield what each file is made of, in order.

    Raises:
        ArtifactCorruptError: If a file's parts are not as long together as the file, or a part of
            its recipe cannot be read.
    """
    for number, entry in enumerate(entries):
        if entry.inline is not None:
            yield number, entry.inline
            continue
        if entry.is_held:
            yield Held((number,), (entry,))
            continue
        offset = 0
        for chunk in file_chunks(store, entry):
            offset += chunk.raw
            if offset > entry.size:
                break
            yield Wanted(number, offset - chunk.raw, store.index.current_place(chunk))
        if offset != entry.size:
            raise inconsistent(
                store, entry, f"is made of chunks that do not add up to its {entry.size} bytes"
            )


def resume(
    store: Store,
    entries: list[FileEntry],
    plan: Iterator[Wanted | Inline | Held],
    staging: Staging,
) -> Iterator[Wanted | Inline | Held | Kept]:
    """Replace what is wanted by what an interrupted download left, where that is right."""
    number, handle = -1, -1
    try:
        for item in plan:
            if not isinstance(item, Wanted):
                yield item
                continue
            if item.file != number:
                if handle >= 0:
                    os.close(handle)
                number = item.file
                handle = os.open(staging.file(number), os.O_RDWR | os.O_CREAT, 0o666)
                if os.fstat(handle).st_size > entries[number].size:
                    os.ftruncate(handle, 0)
            data = os.pread(handle, item.chunk.raw, item.offset)
            is_right = len(data) == item.chunk.raw and store.sealer.chunk_id(data) == (
                item.chunk.sha256
            )
            yield Kept(number, data) if is_right else item
    finally:
        if handle >= 0:
            os.close(handle)


def group_reads(
    plan: Iterator[Wanted | Inline | Held | Kept],
) -> Iterator[Group | Inline | Held | Kept]:
    """Put together what one read brings; all stays in its place."""
    current: Group | Held | None = None
    for item in plan:
        if isinstance(item, Held):
            if isinstance(current, Held) and current.entries[0].holder == item.entries[0].holder:
                current = Held(current.files + item.files, current.entries + item.entries)
                continue
            if current is not None:
                yield current
            current = item
            continue
        if not isinstance(item, Wanted):
            if current is not None:
                yield current
                current = None
            yield item
            continue
        chunk = item.chunk
        end = chunk.offset + chunk.stored
        if (
            isinstance(current, Group)
            and chunk.pack == current.wanted[0].chunk.pack
            and current.start <= chunk.offset <= current.end + _GAP_BYTES
            and max(end, current.end) - current.start <= _READ_BYTES
            and current.raw + chunk.raw <= _READ_BYTES
        ):
            current.wanted.append(item)
            current.end = max(end, current.end)
            current.raw += chunk.raw
            continue
        if current is not None:
            yield current
        current = Group([item], chunk.offset, end, chunk.raw)
    if current is not None:
        yield current
