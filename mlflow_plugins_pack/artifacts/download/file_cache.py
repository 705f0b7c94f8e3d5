"""Whole files that were downloaded before, kept on this host for the next download of the same.

Meant for hosts that serve models and start again and again. Files are named by their sha256 and
hashed again whenever they are used: a damaged cache costs a download and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
from pathlib import Path

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.store.index_cache import cache_folder

_logger = logging.getLogger(__name__)

_BLOCK_BYTES = 1024 * 1024
_WRITING = "writing-"


def open_cache() -> ReadCache | None:
    """Return the host's cache, or None if none is configured.

    Raises:
        ConfigurationError: If the setting is not a number of bytes.
    """
    limit = settings.ARTIFACT_CACHE_BYTES.get()
    return ReadCache(cache_folder() / "files", limit) if limit else None


class ReadCache:
    """A folder of files, the least recently used of which go when it is full."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes

    def take(self, entry: FileEntry, target: str) -> bool:
        """Copy a file out of the cache, if it is there and right.

        Args:
            entry: Which file.
            target: Where to; what a download that broke off has left there goes.

        Returns:
            True if it was; else the target does not exist.
        """
        if entry.inline is not None:
            return False
        path = self._path(entry)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
        try:
            with path.open("rb") as source, Path(target).open("xb") as copy:
                whole, size = hashlib.sha256(), 0
                while block := source.read(_BLOCK_BYTES):
                    whole.update(block)
                    copy.write(block)
                    size += len(block)
            if (size, whole.digest()) == (entry.size, entry.sha256):
                os.utime(path)
                return True
            _logger.warning("The cached file %s is damaged; it is fetched again.", path)
            path.unlink()
        except FileNotFoundError:
            pass
        except OSError as exc:
            _logger.warning("The file cache cannot be used: %s. Going on without it.", exc)
        with contextlib.suppress(OSError):
            os.unlink(target)
        return False

    def keep(self, entry: FileEntry, source: str) -> None:
        """Take in a copy of a file that was checked; makes room first, never fails."""
        if entry.inline is not None or entry.size > self._limit_bytes:
            return
        path = self._path(entry)
        writing = path.with_name(f"{_WRITING}{secrets.token_hex(8)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._make_room(entry.size)
            shutil.copyfile(source, writing)
            os.replace(writing, path)
        except OSError as exc:
            _logger.warning("The file cache cannot be used: %s. Going on without it.", exc)
            with contextlib.suppress(OSError):
                writing.unlink()

    def _path(self, entry: FileEntry) -> Path:
        name = entry.sha256.hex()
        return self._folder / name[:2] / name

    def _make_room(self, coming: int) -> None:
        known = []
        for path in self._folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                known.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in known) + coming
        for _, size, path in sorted(known):
            if total <= self._limit_bytes:
                return
            # Another process may be copying it: an open file stays readable.
            path.unlink(missing_ok=True)
            total -= size
