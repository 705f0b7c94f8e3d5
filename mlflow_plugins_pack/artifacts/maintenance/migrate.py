"""Copies artifacts between any two artifact roots that MLflow can open, in both directions.

A copy that was interrupted goes on where it stopped: what is at the target with the same size is
left alone. What is copied is read back and compared before it counts.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack import uris
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.pieces import InProcess, Workers
from mlflow_plugins_pack.artifacts.store.opening import find_store
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from mlflow_plugins_pack.errors import (
    ArtifactNotFoundError,
    ArtifactPathError,
    ForeignDataError,
)

_OWN_FOLDERS = frozenset({object_keys.OWN_FOLDER, object_keys.SEGMENT_FOLDER})
_BATCH_FILES = 200
_BATCH_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class _File:
    path: str
    size: int


@dataclass
class Copied:
    """What a copy did.

    Attributes:
        files, bytes: Copied and read back.
        skipped: There already.
        failed: Why a file could not be copied or came back different, by path.
    """

    files: int = 0
    bytes: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, other: Copied) -> None:
        """Add what another part did."""
        self.files += other.files
        self.bytes += other.bytes
        self.skipped += other.skipped
        self.failed |= other.failed


def is_ours(uri: str) -> bool:
    """Return whether a URI names a store of the pack."""
    return uris.is_pack_uri(uris.ARTIFACT_WORD, uri)


def copy_artifacts(
    source_uri: str,
    target_uri: str,
    *,
    checksum: bool = False,
    workers: Workers | None = None,
    begin: Callable[[int], None] = lambda _: None,
    file_done: Callable[[], None] = lambda: None,
) -> Copied:
    """Copy everything at and under one artifact root to another, paths unchanged.

    Args:
        source_uri: Any artifact URI.
        target_uri: Any other.
        checksum: Compare also what is there already by its bytes, not only by its size.
        workers: Who copies; this process if not given.
        begin: Told how many files there are.
        file_done: Called after each file.

    Raises:
        ArtifactNotFoundError: If the source is a store of the pack's that is not there.
        MlflowException: If a root cannot be opened or listed.
    """
    if is_ours(source_uri) and find_store(parse_location(source_uri)) is None:
        raise ArtifactNotFoundError(
            f"There is no artifact store at {source_uri}. Nothing was copied. Check the URI."
        )
    source, target = get_artifact_repository(source_uri), get_artifact_repository(target_uri)
    there = _sizes(target)
    files = list(_walk(source, is_ours=is_ours(source_uri)))
    begin(len(files))
    copied = Copied()
    pieces = (
        [(file, there.get(file.path) == file.size) for file in batch] for batch in _batches(files)
    )
    call = partial(_copy_batch, source_uri, target_uri, checksum)
    for batch in (workers or InProcess()).map(call, pieces, lambda: None):
        copied.add(batch)
        for _ in range(batch.files + batch.skipped + len(batch.failed)):
            file_done()
    return copied


def _copy_batch(
    source_uri: str, target_uri: str, checksum: bool, batch: list[tuple[_File, bool]]
) -> Copied:
    """Copy some files, each with whether one of its size is at the target."""
    source, target = get_artifact_repository(source_uri), get_artifact_repository(target_uri)
    copied = Copied()
    with tempfile.TemporaryDirectory(prefix="mlflow-pack-copy-") as name:
        copying = _Batch(source, target, Path(name), copied)
        for file, is_there in batch:
            if is_there and (not checksum or copying.is_same(file.path)):
                copied.skipped += 1
            else:
                copying.take(file)
        copying.put()
    return copied


def _sizes(target: Any) -> dict[str, int]:
    try:
        return {file.path: file.size for file in _walk(target, is_ours=True)}
    except ForeignDataError:
        # What stock left in this folder is about to be taken into the store.
        return {}


def _walk(repository: Any, *, is_ours: bool) -> Iterator[_File]:
    waiting: list[str | None] = [None]
    while waiting:
        for info in repository.list_artifacts(waiting.pop()):
            if info.is_dir:
                # A store's own objects may be next to what stock left there.
                if is_ours or not _OWN_FOLDERS.intersection(info.path.split("/")):
                    waiting.append(info.path)
            else:
                yield _File(info.path, info.file_size or 0)


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


class _Batch:
    """Some files on their way: all are fetched, then logged by one call, then read back."""

    def __init__(self, source: Any, target: Any, folder: Path, copied: Copied) -> None:
        self._source, self._target = source, target
        self._staged, self._back = folder / "staged", folder / "back"
        self._copied = copied
        self._digests: dict[str, tuple[int, str]] = {}

    def take(self, file: _File) -> None:
        """Fetch one file."""
        try:
            # A path that climbs would be fetched to a place outside the staging folder.
            if object_keys.normalize_path(file.path) != file.path:
                raise ArtifactPathError(f"The path {file.path!r} is not written plainly.")
            local = self._staged / file.path
            local.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._source._download_file(remote_file_path=file.path, local_path=str(local))
            except BaseException:
                local.unlink(missing_ok=True)
                raise
            self._digests[file.path] = _digest(local)
        except (MlflowException, OSError) as exc:
            self._copied.failed[file.path] = str(exc)

    def is_same(self, path: str) -> bool:
        """Return whether source and target have the same bytes at a path."""
        digests = []
        self._back.mkdir(exist_ok=True)
        for repository in (self._source, self._target):
            local = self._back / "compared"
            repository._download_file(remote_file_path=path, local_path=str(local))
            digests.append(_digest(local))
            local.unlink()
        return digests[0] == digests[1]

    def put(self) -> None:
        """Log what was fetched, and read it back."""
        if not self._digests:
            return
        try:
            self._target.log_artifacts(str(self._staged), None)
        except (MlflowException, OSError) as exc:
            self._copied.failed.update(dict.fromkeys(self._digests, str(exc)))
            return
        self._back.mkdir(exist_ok=True)
        for path, digest in self._digests.items():
            local = self._back / "copy"
            try:
                self._target._download_file(remote_file_path=path, local_path=str(local))
                if _digest(local) != digest:
                    self._copied.failed[path] = "it came back different; copy it again"
                    continue
            except (MlflowException, OSError) as exc:
                self._copied.failed[path] = str(exc)
                continue
            finally:
                local.unlink(missing_ok=True)
            self._copied.files += 1
            self._copied.bytes += digest[0]


def _digest(path: os.PathLike[str]) -> tuple[int, str]:
    with open(path, "rb") as file:
        whole, size = hashlib.sha256(), 0
        while block := file.read(1 << 20):
            whole.update(block)
            size += len(block)
    return size, whole.hexdigest()
