"""Remembers the SHA-256 of files that this process downloaded, so that they are not hashed again.

The artifact repository writes to the registry and lineage reads it, so that neither plugin imports
the other. A file counts as unchanged while its device, inode, size and times are.
"""

from __future__ import annotations

import os
import threading
from typing import NamedTuple

from cachetools import FIFOCache

LIMIT = 10_000
"""Most files to remember, the newest."""

State = tuple[int, int, int, int, int]
"""Device, inode, size in bytes, times of change of content and of the file, in nanoseconds."""


class Downloaded(NamedTuple):
    """Origin of a file.

    Attributes:
        sha256: Lower-case hex.
        uri: The artifact's, as ``cas-file:///...``; without credentials.
    """

    sha256: str
    uri: str


_known: FIFOCache[State, Downloaded] = FIFOCache(LIMIT)
_lock = threading.Lock()


def note(path: str, size: int, sha256: str, uri: str) -> None:
    """Remember a file that was just put in its place, whole and checked."""
    try:
        found = os.stat(path)  # noqa: PTH116  # once a file, in a long list
    except OSError:
        return
    if found.st_size != size:
        return
    state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    with _lock:
        _known[state] = Downloaded(sha256, uri)


def find(state: State) -> Downloaded | None:
    """Return where a file in this state came from, or None if it was not downloaded so."""
    return _known.get(state)
