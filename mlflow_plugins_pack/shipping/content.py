"""Moves the files of a version, and compares what is at both ends.

Between two ``cas-`` stores that are reached directly, only chunks that the target lacks are moved,
and both manifests say the digest. Otherwise files go through this machine in batches: each is
hashed on its way, read back from the target, and read again from the source, unless an approval
there says the digest; what changes on the way to either end is found.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_plugins_pack import uris
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.errors import DigestDiffersError, NotShippableError, PackError
from mlflow_plugins_pack.folder_digest import digest_files
from mlflow_plugins_pack.shipping.ends import End
from mlflow_plugins_pack.shipping.record import MAX_FILES, MAX_PATH_LENGTH

_BATCH_FILES = 200
_BATCH_BYTES = 256 * 1024 * 1024
_BLOCK_BYTES = 1 << 20

Say = Callable[[str], None]


@dataclass(frozen=True)
class _File:
    path: str
    size: int


@dataclass
class Moved:
    """What was moved.

    Attributes:
        digest: Of the files, equal at both ends.
        files: The number of files.
        bytes: Their size in bytes.
        moved_bytes: Bytes that were sent to the target, before compression.
    """

    digest: str = ""
    files: int = 0
    bytes: int = 0
    moved_bytes: int = 0


def free_digest(end: End, location: str) -> str | None:
    """Return the digest of a place that is known without reading files, or None."""
    if not _is_store(location):
        return None
    with end.acting():
        digest: str = end.repository(location).content_digest()
        return digest


def read_digest(end: End, location: str) -> str:
    """Return the digest of a place by reading all its files.

    Raises:
        NotShippableError: If there are too many, or one has a path that is not safe.
    """
    with end.acting():
        repository = end.repository(location)
        return _read_digest(repository, _listed(repository))


def move(source: End, place: str, target: End, to: str, known: frozenset[str], say: Say) -> Moved:
    """Copy all files of one place to another and compare the two ends.

    Args:
        source: Where they come from.
        place: The place there.
        target: Where they go to.
        to: The place there.
        known: Digests that approvals at the source are bound to.
        say: Told what is done next.

    Raises:
        DigestDiffersError: If the ends differ.
        NotShippableError: If there are no files, too many, or one has a path that is not safe.
    """
    if _is_store(place) and _is_store(to):
        return _move_chunks(source, place, target, to, say)
    with source.acting():
        reader = source.repository(place)
        files = _listed(reader)
    if not files:
        raise NotShippableError(
            f"There are no files at {place!r}. Nothing was registered. Check that they were not "
            "deleted."
        )
    moved = Moved(files=len(files), bytes=sum(file.size for file in files))
    with target.acting():
        writer = target.repository(to)
        there = {file.path: file.size for file in _listed(writer)}
    if extra := sorted(there.keys() - {file.path for file in files}):
        raise DigestDiffersError(
            f"The target has files at {to!r} that the version has not, such as {extra[0]!r}. "
            "Nothing was registered. Delete them, and repeat the command."
        )
    hashes: list[tuple[str, int, str]] = []
    for batch in _batches(files):
        say(f"files {len(hashes) + 1} to {len(hashes) + len(batch)} of {len(files)}")
        hashes += _Batch(source, reader, target, writer, moved).move(batch, there)
    moved.digest = digest_files(hashes)
    if moved.digest not in known:
        say("reading the source again")
        with source.acting():
            again = _read_digest(reader, files)
        if again != moved.digest:
            raise _differs(again, moved.digest)
    return moved


def _move_chunks(source: End, place: str, target: End, to: str, say: Say) -> Moved:
    from mlflow_plugins_pack.artifacts.store_copy import copy_folder

    source.check(place)
    target.check(to)
    say("chunks that the target lacks")
    copied = copy_folder(place, to)
    here, there = free_digest(source, place), free_digest(target, to)
    if here is None or here != there:
        raise _differs(here, there)
    return Moved(here, copied.files, copied.bytes, copied.read_bytes)


def _differs(here: str | None, there: str | None) -> DigestDiffersError:
    return DigestDiffersError(
        f"the files at the target are not those of the source: {here} there, {there} at the target."
        " They changed on the way, or were written to meanwhile. Nothing was registered. "
        "Repeat the command; if it happens again, look at what is between here and the servers."
    )


class _Batch:
    def __init__(self, source: End, reader: Any, target: End, writer: Any, moved: Moved) -> None:
        self._source, self._reader = source, reader
        self._target, self._writer = target, writer
        self._moved = moved

    def move(self, batch: list[_File], there: dict[str, int]) -> Iterator[tuple[str, int, str]]:
        """Copy some files and read them back; give their hashes."""
        with tempfile.TemporaryDirectory(prefix="mlflow-pack-ship-") as name:
            staged, back = Path(name) / "staged", Path(name) / "back"
            found: dict[str, tuple[int, str]] = {}
            for file in batch:
                local = staged / file.path
                local.parent.mkdir(parents=True, exist_ok=True)
                with self._source.acting():
                    found[file.path] = _fetch(self._reader, file, local)
                if there.get(file.path) == file.size and self._back(file, back) == found[file.path]:
                    local.unlink()  # an interrupted shipment has brought it
            sent = {file.path for file in batch if (staged / file.path).exists()}
            if sent:
                with self._target.acting():
                    _put(self._writer, staged)
                self._moved.moved_bytes += sum(found[path][0] for path in sent)
            for file in batch:
                if file.path in sent and self._back(file, back) != found[file.path]:
                    raise DigestDiffersError(
                        f"The file {file.path!r} came back from the target with other bytes than "
                        "were sent. Nothing was registered. Repeat the command; if it happens "
                        "again, look at what is between here and the target."
                    )
            return iter([(path, *about) for path, about in found.items()])

    def _back(self, file: _File, local: Path) -> tuple[int, str]:
        with self._target.acting():
            return _fetch(self._writer, file, local)


def _put(writer: Any, folder: Path) -> None:
    """Log a folder; empty folders of what was there already are left out."""
    for inner in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        if not any(inner.iterdir()):
            inner.rmdir()
    writer.log_artifacts(str(folder), None)


def _fetch(repository: Any, file: _File, local: Path) -> tuple[int, str]:
    """Fetch a file; return its size and SHA-256."""
    repository._download_file(remote_file_path=file.path, local_path=str(local))
    whole, size = hashlib.sha256(), 0
    with local.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            whole.update(block)
            size += len(block)
    return size, whole.hexdigest()


def _read_digest(repository: Any, files: list[_File]) -> str:
    hashes = []
    with tempfile.TemporaryDirectory(prefix="mlflow-pack-ship-") as name:
        for file in files:
            local = Path(name) / "file"
            hashes.append((file.path, *_fetch(repository, file, local)))
            local.unlink()
    return digest_files(hashes)


def _listed(repository: Any) -> list[_File]:
    """List all files below a repository's root.

    Raises:
        NotShippableError: If there are too many, or a path could lead out of a folder.
    """
    found: list[_File] = []
    waiting: list[str | None] = [None]
    seen = 0
    while waiting:
        for info in repository.list_artifacts(waiting.pop()):
            seen += 1
            if seen > MAX_FILES:
                raise NotShippableError(
                    f"There are more than {MAX_FILES:,} files and folders. Nothing was registered. "
                    "It cannot be shipped."
                )
            if not _is_safe(info.path):
                raise NotShippableError(
                    f"The server lists a file {info.path[:300]!r}, whose path is not plain. "
                    "Nothing was registered. Log the model again under plain names."
                )
            if info.is_dir:
                waiting.append(info.path)
            else:
                found.append(_File(info.path, int(info.file_size or 0)))
    return sorted(found, key=lambda file: file.path)


def _is_safe(path: str) -> bool:
    try:
        return len(path) <= MAX_PATH_LENGTH and object_keys.storable_path(path) == path != ""
    except PackError:
        return False


def _batches(files: list[_File]) -> Iterator[list[_File]]:
    batch: list[_File] = []
    size = 0
    for file in files:
        if batch and (len(batch) >= _BATCH_FILES or size + file.size > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


def _is_store(location: str) -> bool:
    return uris.is_pack_uri(uris.ARTIFACT_WORD, location)
