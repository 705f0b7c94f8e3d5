"""What a download reads, and in which order; chunks that are near each other in a pack together.

Nothing is fetched here but recipes; what an earlier download left in the staging folder is checked.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mlflow_plugins_pack.artifacts.download.staging import Staging
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.pack import CODEC_RAW, Chunk
from mlflow_plugins_pack.artifacts.store.chunk_reader import file_chunks, inconsistent
from mlflow_plugins_pack.artifacts.store.store import Store

_READ_BYTES = 4 * 1024 * 1024
"""One range read is at most this long, raw and stored, unless one chunk is longer."""
_REMOTE_GAP_BYTES = 512 * 1024
_LOCAL_GAP_BYTES = 64 * 1024
"""Bytes between two wanted chunks that are read rather than asked around: a request to a service
takes as long as some hundred KiB."""
_WINDOW_BYTES = 256 * 1024 * 1024
"""Reads are planned for so much of the files at a time."""


@dataclass(frozen=True)
class Inline:
    """A small file whose bytes stand in the manifest that was read."""

    file: int
    data: bytes
    offset: int = 0

    @property
    def length(self) -> int:
        """Its size in bytes."""
        return len(self.data)


@dataclass(frozen=True)
class Held:
    """A small file whose bytes stand in the entry that brought it."""

    file: int
    entry: FileEntry
    offset: int = 0

    @property
    def length(self) -> int:
        """Its size in bytes."""
        return self.entry.size


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

    @property
    def length(self) -> int:
        """Its size in bytes."""
        return self.chunk.raw


@dataclass(frozen=True)
class Kept:
    """Bytes of a file that a download that broke off has left; they are right."""

    file: int
    offset: int
    length: int


Item = Inline | Held | Wanted | Kept


@dataclass
class Group:
    """Items that one read brings: a range of a pack, or one entry.

    Attributes:
        places: Where the items stand in the plan.
        wanted: The chunks, if it is a range; in the order of the pack.
        held: The files, if it is an entry.
        start, end: The range.
        raw: Length of the chunks once decoded.
        is_kept: Whether this host's cache is said to hold the range.
    """

    places: list[int] = field(default_factory=list)
    wanted: list[Wanted] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    start: int = 0
    end: int = 0
    raw: int = 0
    is_kept: bool = False

    @property
    def weight(self) -> int:
        """Bytes held in memory for it: as stored and, where that is not the same, as they were."""
        decoded = (w.chunk.raw for w in self.wanted if w.chunk.codec != CODEC_RAW)
        return self.end - self.start + sum(decoded) + sum(held.length for held in self.held)


def plan_files(store: Store, entries: list[FileEntry]) -> Iterator[Item]:
    """Yield what each file is made of, in order.

    Raises:
        ArtifactCorruptError: If a file's parts are not as long together as the file, or a part of
            its recipe cannot be read.
    """
    for number, entry in enumerate(entries):
        if entry.inline is not None:
            yield Inline(number, entry.inline)
            continue
        if entry.is_held:
            yield Held(number, entry)
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
    store: Store, entries: list[FileEntry], plan: Iterator[Item], staging: Staging
) -> Iterator[Item]:
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
                item.chunk.id
            )
            yield Kept(number, item.offset, item.length) if is_right else item
    finally:
        if handle >= 0:
            os.close(handle)


def windows(plan: Iterator[Item]) -> Iterator[list[Item]]:
    """Cut a plan into parts that are short enough to be held in memory."""
    window: list[Item] = []
    length = 0
    for item in plan:
        window.append(item)
        length += item.length
        if length >= _WINDOW_BYTES:
            yield window
            window, length = [], 0
    if window:
        yield window


def takes_turns(window: list[Item]) -> bool:
    """Return whether files are made of several packs in turns, as later versions of a file are."""
    packs = [item.chunk.pack for item in window if isinstance(item, Wanted)]
    changes = sum(one != other for one, other in itertools.pairwise(packs))
    return changes >= len(set(packs)) > 1


def group_reads(
    window: list[Item],
    *,
    is_remote: bool,
    is_kept: Callable[[Chunk], bool] = lambda _: False,
) -> list[Group]:
    """Return the reads that bring all that is wanted, in the order in which they are needed.

    Chunks of one pack are read together although others stand between them in the files, and
    although there are bytes between them in the pack that nothing wants, where a second request
    would cost more.

    Args:
        window: What is wanted.
        is_remote: Whether each read is a request to a service.
        is_kept: Returns whether this host's cache is said to hold a chunk; its reads are apart.
    """
    packs: dict[tuple[bytes, bool], list[tuple[int, Wanted]]] = {}
    holders: dict[str, Group] = {}
    for place, item in enumerate(window):
        if isinstance(item, Wanted):
            key = (item.chunk.pack, is_kept(item.chunk))
            packs.setdefault(key, []).append((place, item))
        elif isinstance(item, Held):
            group = holders.setdefault(item.entry.holder, Group())
            group.places.append(place)
            group.held.append(item)
    groups = list(holders.values())
    gap_bytes = _REMOTE_GAP_BYTES if is_remote else _LOCAL_GAP_BYTES
    for (_, kept), found in packs.items():
        for group in _cluster(found, gap_bytes):
            group.is_kept = kept
            groups.append(group)
    groups.sort(key=lambda group: min(group.places))
    return groups


def _cluster(found: list[tuple[int, Wanted]], gap_bytes: int) -> Iterator[Group]:
    current: Group | None = None
    for place, item in sorted(found, key=lambda each: (each[1].chunk.offset, each[0])):
        chunk = item.chunk
        end = chunk.offset + chunk.stored
        if current is None or not (
            chunk.offset <= current.end + gap_bytes
            and max(end, current.end) - current.start <= _READ_BYTES
            and current.raw + chunk.raw <= _READ_BYTES
        ):
            if current is not None:
                yield current
            current = Group(start=chunk.offset, end=end)
        current.places.append(place)
        current.wanted.append(item)
        current.end = max(end, current.end)
        current.raw += chunk.raw
    if current is not None:
        yield current
