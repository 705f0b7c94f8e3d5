"""Reading files back: planned from manifests, fetched in parallel, every byte checked.

Files are built in a hidden folder and put in their places only once all of them are right.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mlflow.utils.uri import validate_path_within_directory

from mlflow_plugins_pack.artifacts import layout, transfer
from mlflow_plugins_pack.artifacts.backends._base import ObjectMissingError
from mlflow_plugins_pack.artifacts.backends.local import translate
from mlflow_plugins_pack.artifacts.manifest import FileEntry, RecipePart, decode_recipe_part
from mlflow_plugins_pack.artifacts.pack import Chunk, decode_chunk
from mlflow_plugins_pack.artifacts.store import Store
from mlflow_plugins_pack.errors import ArtifactCorruptError

_READ_BYTES = 4 * 1024 * 1024
"""One range read is about this long, raw and stored."""
_GAP_BYTES = 64 * 1024
"""Bytes between two wanted chunks that are read rather than asked around."""
_BYTES_AHEAD = 40 * 1024 * 1024

STAGING_PREFIX = ".mlflow-pack-"


@dataclass(frozen=True)
class _Wanted:
    """One chunk of one file of the plan."""

    file: int
    chunk: Chunk


@dataclass
class _Group:
    """Chunks that one range read brings."""

    wanted: list[_Wanted]
    start: int
    end: int
    raw: int

    @property
    def weight(self) -> int:
        """Bytes held in memory for it: as stored and, put together, as they were."""
        return self.end - self.start + self.raw


_Piece = tuple[int, bytes | memoryview | Chunk]
"""A file's number and its next bytes, or a chunk of it that could not be read."""


def download(
    store: Store,
    files: Iterable[tuple[FileEntry, str]],
    folder: str,
    file_done: Callable[[], None] = lambda: None,
) -> None:
    """Write files into a folder.

    Args:
        store: Where they are stored.
        files: Entry and place relative to the folder.
        folder: An existing folder.
        file_done: Called after each file's bytes have come, for a progress bar.

    Raises:
        ArtifactCorruptError: If a stored byte is missing or wrong; then no file was written.
        StorageError: If the store or the local disk fails.
    """
    listed = list(files)
    staging = os.path.join(folder, STAGING_PREFIX + secrets.token_hex(8))
    try:
        os.mkdir(staging, 0o700)
        try:
            _stage(store, [entry for entry, _ in listed], staging, file_done)
            _publish([place for _, place in listed], staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as exc:
        raise translate(exc, getattr(exc, "filename", None) or folder, "write") from exc


def download_one(store: Store, entry: FileEntry, local_path: str) -> None:
    """Write one file to a path, whose folder exists; the file appears whole or not at all."""
    temporary = os.path.join(
        os.path.dirname(os.path.abspath(local_path)), STAGING_PREFIX + secrets.token_hex(8)
    )
    try:
        os.mkdir(temporary, 0o700)
        try:
            _stage(store, [entry], temporary, lambda: None)
            os.replace(os.path.join(temporary, "0"), local_path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as exc:
        raise translate(exc, str(local_path), "write") from exc


def read_file(store: Store, entry: FileEntry) -> Iterator[bytes | memoryview]:
    """Give a file's bytes in order, each chunk checked; the whole is for the caller to check."""
    for _, data in _fetch(store, [entry]):
        yield data


def _publish(places: list[str], staging: str, folder: str) -> None:
    checked: set[str] = set()
    for number, place in enumerate(places):
        target = os.path.join(folder, place)
        parent = os.path.dirname(target)
        if parent not in checked:
            # A link inside the destination must not lead a file out of it.
            validate_path_within_directory(folder, parent)
            os.makedirs(parent, exist_ok=True)
            checked.add(parent)
        os.replace(os.path.join(staging, str(number)), target)


def _stage(
    store: Store, entries: list[FileEntry], staging: str, file_done: Callable[[], None]
) -> None:
    fetched = _fetch(store, entries)
    upcoming = next(fetched, None)
    for number, entry in enumerate(entries):
        whole, size = hashlib.sha256(), 0
        with Path(staging, str(number)).open("xb", buffering=0) as file:
            while upcoming is not None and upcoming[0] == number:
                data = upcoming[1]
                whole.update(data)
                _write_fully(file, data)
                size += len(data)
                upcoming = next(fetched, None) if size <= entry.size else None
        file_done()
        if size != entry.size or whole.digest() != entry.sha256:
            raise ArtifactCorruptError(
                f"The artifact {entry.path!r} was put together from chunks that are each right, "
                f"but as a whole it does not have its recorded size and sha256 "
                f"{entry.sha256.hex()}. Nothing was written to the destination. Run "
                f"`mlflow-pack artifacts fsck --read-data` on {store.location.uri}."
            )


def _write_fully(file: BinaryIO | object, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]  # type: ignore[union-attr]


# --- planning -------------------------------------------------------------------------------------


def _plan(store: Store, entries: list[FileEntry]) -> Iterator[_Wanted | tuple[int, bytes]]:
    for number, entry in enumerate(entries):
        if entry.inline is not None:
            yield number, entry.inline
        elif entry.recipe:
            for place in entry.recipe:
                for chunk in _read_recipe(store, entry, place):
                    yield _Wanted(number, chunk)
        else:
            for chunk in entry.chunks:
                yield _Wanted(number, chunk)


def _read_recipe(store: Store, entry: FileEntry, place: Chunk) -> tuple[Chunk, ...]:
    part = read_recipe(store, place)
    if part is None:
        raise _unreadable(store, entry, place)
    if part.file_sha256 != entry.sha256 or part.file_size != entry.size:
        raise ArtifactCorruptError(
            f"The recipe {place.sha256.hex()} of the artifact {entry.path!r} belongs to another "
            f"file. Nothing was written to the destination. Run `mlflow-pack artifacts fsck` on "
            f"{store.location.uri}."
        )
    return part.chunks


def read_recipe(store: Store, place: Chunk) -> RecipePart | None:
    """Return a recipe part, or None if there is no good copy of it."""
    data = _read_at(store, place)
    if data is None:
        copy = _elsewhere(store, place)
        data = None if copy is None else _read_at(store, copy)
        place = place if copy is None else copy
    return None if data is None else decode_recipe_part(data, place.pack)


def _group(plan: Iterator[_Wanted | tuple[int, bytes]]) -> Iterator[_Group | tuple[int, bytes]]:
    current: _Group | None = None
    for item in plan:
        if isinstance(item, tuple):
            if current is not None:
                yield current
                current = None
            yield item
            continue
        chunk = item.chunk
        end = chunk.offset + chunk.stored
        if (
            current is not None
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
        current = _Group([item], chunk.offset, end, chunk.raw)
    if current is not None:
        yield current


# --- fetching -------------------------------------------------------------------------------------


def _fetch(store: Store, entries: list[FileEntry]) -> Iterator[tuple[int, bytes | memoryview]]:
    """Give the files' bytes in order, reading ahead in parallel."""
    ahead: deque[tuple[Future[list[_Piece]] | None, _Group | tuple[int, bytes]]]
    ahead = deque()
    groups = _group(_plan(store, entries))
    bytes_ahead = 0
    more = True
    try:
        while more or ahead:
            while more and bytes_ahead < _BYTES_AHEAD:
                group = next(groups, None)
                if group is None:
                    more = False
                elif isinstance(group, tuple):
                    ahead.append((None, group))
                    bytes_ahead += len(group[1])
                else:
                    ahead.append((transfer.submit(_read_group, store, group), group))
                    bytes_ahead += group.weight
            if not ahead:
                break
            future, group = ahead.popleft()
            if future is None or isinstance(group, tuple):
                assert isinstance(group, tuple)  # noqa: S101 - for the type checker
                bytes_ahead -= len(group[1])
                yield group
                continue
            pieces = future.result()
            bytes_ahead -= group.weight
            for number, piece in pieces:
                if not isinstance(piece, Chunk):
                    yield number, piece
                    continue
                found = _read_elsewhere(store, piece)
                if found is None:
                    raise _unreadable(store, entries[number], piece)
                yield number, found
    finally:
        for future, _ in ahead:
            if future is not None:
                future.cancel()


def _read_group(store: Store, group: _Group) -> list[_Piece]:
    """Read and check a group.

    Returns:
        Per file its bytes in one piece, since every hand-over between threads costs more than a
        copy does; a chunk that is not good stands for itself.
    """
    pack = group.wanted[0].chunk.pack
    try:
        data = store.backend.read(
            store.key(layout.pack_key(pack)), group.start, group.end - group.start
        )
    except ObjectMissingError:
        return [(wanted.file, wanted.chunk) for wanted in group.wanted]
    stored = memoryview(data)
    decoded: dict[Chunk, bytes | memoryview | None] = {}
    pieces: list[_Piece] = []
    for number, wanteds in itertools.groupby(group.wanted, key=lambda wanted: wanted.file):
        run: list[bytes | memoryview] = []
        for chunk in (wanted.chunk for wanted in wanteds):
            if chunk not in decoded:
                start = chunk.offset - group.start
                decoded[chunk] = decode_chunk(chunk, stored[start : start + chunk.stored])
            good = decoded[chunk]
            if good is not None:
                run.append(good)
                continue
            if run:
                pieces.append((number, b"".join(run)))
                run = []
            pieces.append((number, chunk))
        if run:
            pieces.append((number, run[0] if len(run) == 1 else b"".join(run)))
    return pieces


def _read_at(store: Store, chunk: Chunk) -> bytes | memoryview | None:
    try:
        stored = store.backend.read(
            store.key(layout.pack_key(chunk.pack)), chunk.offset, chunk.stored
        )
    except ObjectMissingError:
        return None
    return decode_chunk(chunk, stored)


def _read_elsewhere(store: Store, chunk: Chunk) -> bytes | memoryview | None:
    copy = _elsewhere(store, chunk)
    return None if copy is None else _read_at(store, copy)


def _elsewhere(store: Store, chunk: Chunk) -> Chunk | None:
    """Return where the index says that a chunk is: its place may have grown old."""
    store.refresh_index()
    copy = store.index.find_chunk(chunk.sha256)
    return None if copy == chunk else copy


def _unreadable(store: Store, entry: FileEntry, chunk: Chunk) -> ArtifactCorruptError:
    return ArtifactCorruptError(
        f"The artifact {entry.path!r} cannot be read: its chunk {chunk.sha256.hex()} is missing "
        f"or damaged in the pack {layout.pack_key(chunk.pack)}, and the store has no other copy. "
        f"Nothing was written to the destination. Restore the pack from a backup; or run "
        f"`mlflow-pack artifacts fsck --read-data --repair-index {store.location.uri}`, which "
        f"lists all that is affected and makes the store forget the damaged copy, and log the "
        f"file again."
    )
