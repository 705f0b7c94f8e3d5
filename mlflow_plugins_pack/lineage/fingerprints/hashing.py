"""Digests of local files: full up to a size, sampled above it, and never hashed twice unchanged.

Digests of large files outlive the process: a small file in the user's cache holds each, under the
name of the path and with the state (device, inode, size, times) that it was made for.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import threading
from typing import Any, BinaryIO, NamedTuple

from cachetools import FIFOCache

from mlflow_plugins_pack import base_dirs, download_registry
from mlflow_plugins_pack.lineage.document.graph import FULL, SAMPLED
from mlflow_plugins_pack.lineage.files import FileState

_BLOCK_BYTES = 1 << 20
_SAMPLE_BLOCKS = 64
_SMALL_BYTES = 64 << 10
_CACHE_LIMIT = 100_000
_LARGE_BYTES = 8 << 20
"""From this size on, a look into the cache's folder pays."""

MD5, BLOB = "md5", "blob"
"""Digests that may be asked for next to the sha256, made while the same bytes are read."""
NOTHING: frozenset[str] = frozenset()


class Fingerprint(NamedTuple):
    """A digest and how much of the content it covers.

    Attributes:
        digest: ``sha256:<hex>``.
        coverage: ``full`` or ``sampled``.
        md5: Of a full reading, as hex, where it was asked for.
        blob: The id that git would give the content (SHA-1), likewise.
    """

    digest: str
    coverage: str
    md5: str | None = None
    blob: str | None = None

    def has(self, also: frozenset[str]) -> bool:
        """Return whether it has these digests too, as far as its coverage allows."""
        return not also or self.coverage != FULL or all(getattr(self, name) for name in also)


class Fingerprinter:
    """Hashes files and remembers what it hashed by device, inode, size and times.

    Args:
        folder: Where digests of large files are kept for other processes; nowhere if None.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._folder = folder
        self._known: FIFOCache[tuple[FileState, bool], Fingerprint] = FIFOCache(_CACHE_LIMIT)
        self._large = (os.getpid(), threading.Lock())

    def cached(
        self, state: FileState, *, full: bool, also: frozenset[str] = NOTHING
    ) -> Fingerprint | None:
        """Return the fingerprint of a file in this state if it was made before."""
        known = self._known.get((state, full))
        return known if known is not None and known.has(also) else None

    def fingerprint(
        self, path: str, state: FileState, *, full: bool, also: frozenset[str] = NOTHING
    ) -> Fingerprint | None:
        """Hash a file.

        Args:
            path: The file.
            state: Its state; the result is remembered for it.
            full: Hash every byte; else 64 blocks of 1 MiB, first and last among them.
            also: Further digests of a full reading: `MD5`, `BLOB`.

        Returns:
            The fingerprint, or None if the file cannot be read or changed meanwhile.
        """
        if known := self.cached(state, full=full, also=also):
            return known
        if (origin := download_registry.find(state)) and not also:
            made = self._known[state, full] = Fingerprint(f"sha256:{origin.sha256}", FULL)
            return made
        if (kept := self._kept(path, state, full=full)) and kept.has(also):
            return kept
        try:
            small = state.size <= _SMALL_BYTES
            if small:
                made, after = _hash_small(path, also)
            else:
                # The worker and the end of a run may ask for the same large file at once.
                with self._turn():
                    if known := self.cached(state, full=full, also=also):
                        return known
                    made, after = _hash_large(path, state.size, also, full=full)
                    if (after.st_size, after.st_mtime_ns) == (state.size, state.mtime_ns):
                        self._known[state, full] = made
        except OSError:
            return None
        if (after.st_size, after.st_mtime_ns) != (state.size, state.mtime_ns):
            return None
        self._known[state, full] = made
        self._keep(path, state, made, full=full)
        return made

    def _turn(self) -> threading.Lock:
        """Return the lock for large files; a forked child has one that no thread holds."""
        if self._large[0] != os.getpid():
            self._large = (os.getpid(), threading.Lock())
        return self._large[1]

    def _place(self, path: str, *, full: bool) -> str:
        name = hashlib.sha256(os.fsencode(path) + (b"\0full" if full else b"\0sampled"))
        return f"{self._folder}/{name.hexdigest()[:40]}.json"

    def _kept(self, path: str, state: FileState, *, full: bool) -> Fingerprint | None:
        """Return the digest that an earlier process made of the file in this very state."""
        if state.size < _LARGE_BYTES or self._folder is None:
            return None
        with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
            with open(self._place(path, full=full), encoding="ascii") as file:  # noqa: PTH123
                held = json.load(file)
            if held["state"] == list(state):
                made = Fingerprint(
                    str(held["digest"]), str(held["coverage"]), held.get(MD5), held.get(BLOB)
                )
                self._known[state, full] = made
                return made
        return None

    def _keep(self, path: str, state: FileState, made: Fingerprint, *, full: bool) -> None:
        if state.size < _LARGE_BYTES or self._folder is None:
            return
        with contextlib.suppress(OSError):
            os.makedirs(self._folder, 0o700, exist_ok=True)  # noqa: PTH103
            place = self._place(path, full=full)
            temporary = f"{place}.{os.getpid()}"
            held = {"state": list(state), **made._asdict()}
            with open(temporary, "w", encoding="ascii") as file:  # noqa: PTH123
                json.dump(held, file)
            os.replace(temporary, place)  # noqa: PTH105


def cache_folder() -> str:
    """Return where digests of large files are kept: in the user's cache."""
    return f"{base_dirs.cache_dir()}/digests"


def _open(path: str) -> int:
    """Open a regular file; what became a FIFO or a device since is not waited for.

    Raises:
        OSError: If it cannot be opened, or is not a regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


def _hash_small(path: str, also: frozenset[str]) -> tuple[Fingerprint, os.stat_result]:
    """Hash a file that one call reads: a file object alone costs more than the hashing."""
    descriptor = _open(path)
    try:
        content = os.read(descriptor, _SMALL_BYTES + 1)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if len(content) != after.st_size:
        # It changed, which the caller sees, or a network's file system gave less than asked for.
        return _hash_large(path, after.st_size, also, full=True)
    hashers = _Hashers(len(content), also)
    hashers.update(content)
    return hashers.fingerprint(), after


class _Hashers:
    """All digests of one reading."""

    def __init__(self, size: int, also: frozenset[str]) -> None:
        self._sha256 = hashlib.sha256()
        self._others: dict[str, Any] = {}
        if MD5 in also:
            self._others[MD5] = hashlib.md5(usedforsecurity=False)
        if BLOB in also:
            self._others[BLOB] = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    def update(self, content: bytes) -> None:
        self._sha256.update(content)
        for hasher in self._others.values():
            hasher.update(content)

    def fingerprint(self) -> Fingerprint:
        others = {name: hasher.hexdigest() for name, hasher in self._others.items()}
        return Fingerprint(f"sha256:{self._sha256.hexdigest()}", FULL, **others)


def _hash_large(
    path: str, size: int, also: frozenset[str], *, full: bool
) -> tuple[Fingerprint, os.stat_result]:
    with open(_open(path), "rb", buffering=0) as file:
        made = _hash_all(file, size, also) if full else _hash_sample(file, size, also)
        return made, os.fstat(file.fileno())


def _hash_all(file: BinaryIO, size: int, also: frozenset[str]) -> Fingerprint:
    hashers = _Hashers(size, also)
    while block := file.read(_BLOCK_BYTES):
        hashers.update(block)
    return hashers.fingerprint()


def _hash_sample(file: BinaryIO, size: int, also: frozenset[str]) -> Fingerprint:
    if size <= _SAMPLE_BLOCKS * _BLOCK_BYTES:
        return _hash_all(file, size, also)
    # The size goes in first: two files of different length never share a sampled digest.
    hasher = hashlib.sha256(f"sampled-{_SAMPLE_BLOCKS}x{_BLOCK_BYTES}:{size}\n".encode())
    for index in range(_SAMPLE_BLOCKS):
        file.seek(index * (size - _BLOCK_BYTES) // (_SAMPLE_BLOCKS - 1))
        hasher.update(file.read(_BLOCK_BYTES))
    return Fingerprint(f"sha256:{hasher.hexdigest()}", SAMPLED)
