"""Reading files back: planned from manifests, fetched in parallel, every byte checked.

Files are built in a hidden folder (see `staging`) and put in their places only once all of them are
right. One SHA-256 over the whole file proves it right, every byte of every chunk included; only
where that fails are the hashes of its chunks computed, to find which of them to read again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable

from mlflow.utils.uri import validate_path_within_directory

from mlflow_plugins_pack.artifacts.backends.local import translate
from mlflow_plugins_pack.artifacts.download.fetch import Data, fetch, write_at
from mlflow_plugins_pack.artifacts.download.file_cache import open_cache
from mlflow_plugins_pack.artifacts.download.plan import Inline, Wanted, plan_files
from mlflow_plugins_pack.artifacts.download.range_cache import open_range_cache
from mlflow_plugins_pack.artifacts.download.staging import Staging, name_download, open_staging
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.store.chunk_reader import (
    inconsistent,
    read_at,
    read_elsewhere,
    read_held,
    unreadable,
)
from mlflow_plugins_pack.artifacts.store.store import Store


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
            if parent != folder:
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
    fetched = fetch(store, entries, staging)
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


def _repair(store: Store, entry: FileEntry, path: str) -> None:
    """Find the chunks of a staged file that are wrong, and read them again or from a copy.

    Raises:
        ArtifactCorruptError: If there is no good copy of one, or if the file is wrong although
            all of its chunks are right.
    """
    whole = hashlib.sha256()
    wrong: set[bytes] = set()
    write_at(path, b"")
    with open(path, "r+b", buffering=0) as file:
        for item in plan_files(store, [entry]):
            if not isinstance(item, Wanted):
                small = item.data if isinstance(item, Inline) else read_held(store, [entry])[0]
                write_at(path, small)
                whole.update(small)
                continue
            chunk = item.chunk
            data: Data = os.pread(file.fileno(), chunk.raw, item.offset)
            if store.sealer.chunk_id(data) != chunk.id:
                wrong.add(chunk.pack)
                found = read_at(store, chunk) or read_elsewhere(store, chunk)
                if found is None:
                    raise unreadable(store, entry, chunk)
                data = found
                write_at(path, data, item.offset)
            whole.update(data)
        # A place with a wrong length may have left bytes beyond the end.
        file.truncate(entry.size)
    if wrong and (cache := open_range_cache()) is not None:
        # If it was the cache that was wrong, it must not be so again.
        cache.forget(wrong)
    if whole.digest() != entry.sha256:
        raise inconsistent(
            store,
            entry,
            f"was put together from chunks that are each right, but as a whole it does not have "
            f"its recorded sha256 {entry.sha256.hex()}",
        )
