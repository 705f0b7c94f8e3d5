"""Digests of local files: full up to a size, sampled above it, and never hashed twice unchanged."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from typing import BinaryIO, NamedTuple

from mlflow_plugins_pack.lineage.capture.event import FileState
from mlflow_plugins_pack.lineage.graph import FULL, SAMPLED

_BLOCK_BYTES = 1 << 20
_SAMPLE_BLOCKS = 64
_CACHE_LIMIT = 100_000


class Fingerprint(NamedTuple):
    """A digest and how much of the content it covers.

    Attributes:
        digest: ``sha256:<hex>``.
        coverage: ``full`` or ``sampled``.
    """

    digest: str
    coverage: str


class Fingerprinter:
    """Hashes files and remembers what it hashed by device, inode, size and times."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[FileState, bool], Fingerprint] = OrderedDict()

    def cached(self, state: FileState, *, full: bool) -> Fingerprint | None:
        """Return the fingerprint of a file in this state if it was made before."""
        return self._known.get((state, full))

    def fingerprint(self, path: str, state: FileState, *, full: bool) -> Fingerprint | None:
        """Hash a file.

        Args:
            path: The file.
            state: Its state; the result is remembered for it.
            full: Hash every byte; else 64 blocks of 1 MiB, first and last among them.

        Returns:
            The fingerprint, or None if the file cannot be read or changed meanwhile.
        """
        if known := self._known.get((state, full)):
            return known
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                made = _hash_all(file) if full else _hash_sample(file, state.size)
                after = os.fstat(file.fileno())
        except OSError:
            return None
        if (after.st_size, after.st_mtime_ns) != (state.size, state.mtime_ns):
            return None
        while len(self._known) >= _CACHE_LIMIT:
            self._known.popitem(last=False)
        self._known[state, full] = made
        return made


def _hash_all(file: BinaryIO) -> Fingerprint:
    hasher = hashlib.sha256()
    while block := file.read(_BLOCK_BYTES):
        hasher.update(block)
    return Fingerprint(f"sha256:{hasher.hexdigest()}", FULL)


def _hash_sample(file: BinaryIO, size: int) -> Fingerprint:
    if size <= _SAMPLE_BLOCKS * _BLOCK_BYTES:
        return _hash_all(file)
    # The size goes in first: two files of different length never share a sampled digest.
    hasher = hashlib.sha256(f"sampled-{_SAMPLE_BLOCKS}x{_BLOCK_BYTES}:{size}\n".encode())
    for index in range(_SAMPLE_BLOCKS):
        file.seek(index * (size - _BLOCK_BYTES) // (_SAMPLE_BLOCKS - 1))
        hasher.update(file.read(_BLOCK_BYTES))
    return Fingerprint(f"sha256:{hasher.hexdigest()}", SAMPLED)
