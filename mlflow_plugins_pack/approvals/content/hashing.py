"""Reads a version's files for their digest, a block at a time, with one file on disk at most."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BLOCK_BYTES = 1 << 20
FEW_FILES = 32
FEW_BYTES = 1 << 20


class ReadingStoppedError(Exception):
    """The digest job was told to stop."""


class Progress:
    """The progress of a digest job; written by one thread, read by others.

    Attributes:
        bytes_done: bytes read so far.
        bytes_total: size of all files as their repository lists it; 0 until it is known.
    """

    def __init__(self) -> None:
        self.bytes_done = 0
        self.bytes_total = 0
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Stop the job at its next block."""
        self._stopped.set()

    def add(self, count: int) -> None:
        """Add to the bytes that were read.

        Raises:
            ReadingStoppedError: If the job was stopped.
        """
        if self._stopped.is_set():
            raise ReadingStoppedError
        self.bytes_done += count


def hash_files(repository: Any, path: str | None, progress: Progress) -> list[tuple[str, int, str]]:
    """Return (path, size in bytes, sha256 in hex) of every file under a path of a repository.

    Raises:
        FileNotFoundError: If no files are there.
        ReadingStoppedError: If the job was stopped.
    """
    root = on_disk(repository, path)
    if root is not None:
        return hash_folder(root, progress)
    return _some(_elsewhere(repository, path, progress))


def hash_folder(root: Path, progress: Progress) -> list[tuple[str, int, str]]:
    """Return the same of a folder, or of one file, on this machine's disk."""
    return _some(_below(root, progress))


def _some(files: Iterator[tuple[str, int, str]]) -> list[tuple[str, int, str]]:
    found = list(files)
    if not found:
        raise FileNotFoundError("there are no files")
    return found


def on_disk(repository: Any, path: str | None) -> Path | None:
    """Return the local path of a repository's path, or None if it is not on this machine."""
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    if not isinstance(repository, LocalArtifactRepository):
        return None
    return Path(repository.download_artifacts(path or ""))


def are_few(root: Path) -> bool:
    """Return whether a folder holds only a few small files, which take milliseconds to read."""
    count, size, left = 0, 0, [os.fspath(root)]
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                count += 1
                if entry.is_dir():
                    left.append(entry.path)
                elif entry.is_file():
                    size += entry.stat().st_size
                else:
                    return False  # reading a pipe or device may block for ever
                if count > FEW_FILES or size > FEW_BYTES:
                    return False
    return True


def _below(root: Path, progress: Progress) -> Iterator[tuple[str, int, str]]:
    paths = [root]
    if root.is_file():
        root = root.parent
    else:
        paths = []
        seen: set[str] = set()
        for folder, subfolders, files in os.walk(root, followlinks=True):
            # A link to a folder is served as one, so it counts; a loop of links must end.
            real = os.path.realpath(folder)
            if real in seen:
                subfolders.clear()
                continue
            seen.add(real)
            paths += [Path(folder) / name for name in files]
    progress.bytes_total = sum(path.stat().st_size for path in paths)
    for path in paths:
        yield path.relative_to(root).as_posix(), *_hashed(path, progress)


def _elsewhere(
    repository: Any, path: str | None, progress: Progress
) -> Iterator[tuple[str, int, str]]:
    listed = list(_listed(repository.list_artifacts, path))
    if listed:
        start = _inside(path)
        files = [(info.path, info.path[start:]) for info in listed]
    elif path:
        files = [(path, path.rpartition("/")[2])]
    else:
        files = []
    progress.bytes_total = sum(info.file_size or 0 for info in listed)
    for there, name in files:
        with tempfile.TemporaryDirectory(prefix="mlflow-pack-digest-") as folder:
            here = Path(folder) / "file"
            repository._download_file(remote_file_path=there, local_path=str(here))
            yield name, *_hashed(here, progress)


def list_files(repository: Any, path: str | None) -> list[str]:
    """Return the paths of all files under a path of a repository, relative to it."""
    start = _inside(path)
    return [info.path[start:] for info in _listed(repository.list_artifacts, path)]


def _inside(path: str | None) -> int:
    return len(path) + 1 if path else 0


def _listed(list_artifacts: Callable[[str | None], list[Any]], path: str | None) -> Iterator[Any]:
    for info in list_artifacts(path):
        if info.is_dir:
            yield from _listed(list_artifacts, info.path)
        else:
            yield info


def _hashed(path: Path, progress: Progress) -> tuple[int, str]:
    whole, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            whole.update(block)
            size += len(block)
            progress.add(len(block))
    return size, whole.hexdigest()
