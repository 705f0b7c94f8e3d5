"""Reading files back: planned from manifests, fetched in parallel, every byte checked.

Files are built in a hidden folder (see `staging`) and put in their places only once all of them are
right. One SHA-256 over the whole file proves it right, every byte of every chunk included; only
where that fails are the hashes of its chunks computed, to find which of them to read again.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait

from mlflow.utils.uri import validate_path_within_directory

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.backends.base import ObjectMissingError
from mlflow_plugins_pack.artifacts.backends.local import translate
from mlflow_plugins_pack.artifacts.download.file_cache import open_cache
from mlflow_plugins_pack.artifacts.download.plan import (
    Group,
    Held,
    Inline,
    Kept,
    Wanted,
    group_reads,
    plan_files,
    resume,
)
from mlflow_plugins_pack.artifacts.download.staging import Staging, name_download, open_staging
from mlflow_plugins_pack.artifacts.format.encryption import Sealer
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.pack import CODEC_RAW, Chunk, decode_unchecked
from mlflow_plugins_pack.artifacts.store.chunk_reader import (
    inconsistent,
    read_at,
    read_elsewhere,
    read_held,
    unreadable,
)
from mlflow_plugins_pack.artifacts.store.store import Store

_Data = bytes | memoryview


def download(
    store: Store,
    files: Iterable[tuple[FileEntry, str]],
    folder: str,
    file_done: Callable[[], None] = lambda: None,
    is_right: Callable[[], bool] = lambda: True,
) -> None:
    """Write files into a folder.

    Args:
        store: Where they are stored.
        files: Entry and place relative to the folder.
        folder: An existing folder.
        file_done: Called after each file's bytes have come, for a progress bar.
        is_right: Asked when all bytes have come; if it says no, no file is written.

    Raises:
        ArtifactCorruptError: If a stored byte is missing or wrong; then no file was written.
        StorageError: If the store or the local disk fails.
    """
    listed = list(files)
    try:
        with open_staging(folder, name_download(store.format.store_id, listed)) as staging:
            _obtain(store, [entry for entry, _ in listed], staging, file_done)
            if not is_right():
                return
            _publish(store, listed, staging, folder)
    except OSError as exc:
        raise translate(exc, getattr(exc, "filename", None) or folder, "write") from exc


def download_one(store: Store, entry: FileEntry, local_path: str) -> None:
    """Write one file to a path, whose folder exists; the file appears whole or not at all."""
    folder, place = os.path.split(os.path.abspath(local_path))
    name = name_download(store.format.store_id, [(entry, place)])
    try:
        with open_staging(folder, name) as staging:
            _obtain(store, [entry], staging, lambda: None)
            _check_length(store, entry, staging.file(0))
            os.replace(staging.file(0), local_path)
    except OSError as exc:
        raise translate(exc, str(local_path), "write") from exc


def _check_length(store: Store, entry: FileEntry, staged: str) -> None:
    """Refuse a file of a wrong length, whether it was fetched, resumed or taken from a cache."""
    size = os.stat(staged).st_size
    if size != entry.size:
        raise inconsistent(store, entry, f"has {size} bytes on this disk instead of {entry.size}")


def _publish(
    store: Store, files: list[tuple[FileEntry, str]], staging: Staging, folder: str
) -> None:
    for number, (entry, _) in enumerate(files):
        _check_length(store, entry, staging.file(number))
    checked: set[str] = set()
    for number, (_, place) in enumerate(files):
        target = os.path.join(folder, place)
        parent = os.path.dirname(target)
        if parent not in checked:
            # A link inside the destination must not lead a file out of it.
            validate_path_within_directory(folder, parent)
            os.makedirs(parent, exist_ok=True)
            checked.add(parent)
        os.replace(staging.file(number), target)


def _obtain(
    store: Store, entries: list[FileEntry], staging: Staging, file_done: Callable[[], None]
) -> None:
    """Stage files, those that this host has kept from its cache."""
    cache = open_cache()
    if cache is None:
        _stage(store, entries, staging, file_done)
        return
    missing = [n for n, e in enumerate(entries) if not cache.take(e, staging.file(n))]
    for _ in range(len(entries) - len(missing)):
        file_done()
    fetched = Staging(os.path.join(staging.path, "fetched"), staging.is_resumed)
    os.makedirs(fetched.path, exist_ok=True)
    _stage(store, [entries[n] for n in missing], fetched, file_done)
    for position, number in enumerate(missing):
        cache.keep(entries[number], fetched.file(position))
        os.replace(fetched.file(position), staging.file(number))


def _stage(
    store: Store, entries: list[FileEntry], staging: Staging, file_done: Callable[[], None]
) -> None:
    fetched = _fetch(store, entries, staging)
    upcoming = next(fetched, None)
    for number, entry in enumerate(entries):
        whole = hashlib.sha256()
        while upcoming is not None and upcoming[0] == number:
            whole.update(upcoming[1])
            upcoming = next(fetched, None)
        path = staging.file(number)
        if whole.digest() != entry.sha256 or os.stat(path).st_size != entry.size:
            _repair(store, entry, path)
        file_done()


def _write(path: str, data: _Data, offset: int = 0, flags: int = 0) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o666)
    try:
        view = memoryview(data)
        while view:
            written = os.pwrite(handle, view, offset)
            view, offset = view[written:], offset + written
    finally:
        os.close(handle)


def _repair(store: Store, entry: FileEntry, path: str) -> None:
    """Find the chunks of a staged file that are wrong, and read them again or from a copy.

    Raises:
        ArtifactCorruptError: If there is no good copy of one, or if the file is wrong although
            all of its chunks are right.
    """
    whole = hashlib.sha256()
    _write(path, b"")
    with open(path, "r+b", buffering=0) as file:
        for item in plan_files(store, [entry]):
            if isinstance(item, Held):
                whole.update(read_held(store, item.entries)[0])
                continue
            if not isinstance(item, Wanted):
                whole.update(item[1])
                continue
            chunk = item.chunk
            data: _Data = os.pread(file.fileno(), chunk.raw, item.offset)
            if store.sealer.chunk_id(data) != chunk.sha256:
                found = read_at(store, chunk) or read_elsewhere(store, chunk)
                if found is None:
                    raise unreadable(store, entry, chunk)
                data = found
                _write(path, data, item.offset)
            whole.update(data)
        # A place with a wrong length may have left bytes beyond the end.
        file.truncate(entry.size)
    if whole.digest() != entry.sha256:
        raise inconsistent(
            store,
            entry,
            f"was put together from chunks that are each right, but as a whole it does not have "
            f"its recorded sha256 {entry.sha256.hex()}",
        )


# --- fetching -------------------------------------------------------------------------------------


def _fetch(store: Store, entries: list[FileEntry], staging: Staging) -> Iterator[tuple[int, _Data]]:
    """Write all files, reading ahead in parallel; give each file's bytes in order, unchecked.

    What could not be read is missing in what is given, and a hole in what is written.
    """
    ahead: deque[tuple[Future[list[tuple[int, _Data]]], int]] = deque()
    planned: Iterator[Wanted | Inline | Held | Kept] = plan_files(store, entries)
    if staging.is_resumed:
        planned = resume(store, entries, planned, staging)
    groups = group_reads(planned)
    share = thread_pools.Share(thread_pools.DOWNLOAD_MEMORY)
    bytes_ahead = 0
    try:
        upcoming = next(groups, None)
        while upcoming is not None or ahead:
            while upcoming is not None:
                weight = _weight(upcoming)
                if ahead and bytes_ahead + weight > share.bytes:
                    break
                ahead.append((_start(store, upcoming, staging), weight))
                bytes_ahead += weight
                upcoming = next(groups, None)
            pieces, weight = ahead.popleft()
            yield from pieces.result()
            del pieces
            bytes_ahead -= weight
    finally:
        reading = [pieces for pieces, _ in ahead]
        for pieces in reading:
            pieces.cancel()
        # What they write is unchecked: it must not come on top of what a next call has checked.
        wait(reading)
        share.close()


def _weight(item: Group | Inline | Held | Kept) -> int:
    return item.weight if isinstance(item, Group | Held) else len(item[1])


def _start(
    store: Store, item: Group | Inline | Held | Kept, staging: Staging
) -> Future[list[tuple[int, _Data]]]:
    """Begin to bring what follows next."""
    if isinstance(item, Held):
        return thread_pools.submit(_read_held, store, item, staging)
    if isinstance(item, Group):
        return thread_pools.submit(_read_group, store, item, staging)
    if not isinstance(item, Kept):
        _write(staging.file(item[0]), item[1], flags=os.O_TRUNC)
    there: Future[list[tuple[int, _Data]]] = Future()
    there.set_result([(item[0], item[1])])
    return there


def _read_held(store: Store, item: Held, staging: Staging) -> list[tuple[int, _Data]]:
    found: list[tuple[int, _Data]] = []
    for number, data in zip(item.files, read_held(store, item.entries), strict=True):
        _write(staging.file(number), data, flags=os.O_TRUNC)
        found.append((number, data))
    return found


def _read_group(store: Store, group: Group, staging: Staging) -> list[tuple[int, _Data]]:
    """Read a group and write what it brings into the staged files.

    Returns:
        Each file's bytes, in as few pieces as can be: every hand-over between threads costs more
        than a copy does.
    """
    pack = group.wanted[0].chunk.pack
    try:
        stored = memoryview(store.packs.read(pack, group.start, group.end - group.start))
    except ObjectMissingError:
        store.index.note_gone(pack)
        return []
    pieces: list[tuple[int, _Data]] = []
    for number, wanteds in itertools.groupby(group.wanted, key=lambda wanted: wanted.file):
        for offset, data in _join(_decode(list(wanteds), stored, group.start, store.sealer)):
            _write(staging.file(number), data, offset)
            pieces.append((number, data))
    return pieces


def _is_verbatim(chunk: Chunk) -> bool:
    # Unequal lengths are damage, which `decode_unchecked` finds.
    return chunk.codec == CODEC_RAW and chunk.stored == chunk.raw


def _join(pieces: Iterator[tuple[int, _Data]]) -> Iterator[tuple[int, _Data]]:
    """Put together what follows each other."""
    run: list[_Data] = []
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


def _one(run: list[_Data]) -> _Data:
    return run[0] if len(run) == 1 else b"".join(run)


def _decode(
    wanted: list[Wanted], stored: memoryview, start: int, sealer: Sealer
) -> Iterator[tuple[int, _Data]]:
    """Yield offsets and bytes of one file's chunks; one that cannot be decoded is left out.

    Chunks that are stored side by side as they are come as one piece, without a copy.
    """
    known: dict[Chunk, _Data | None] = {}
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
