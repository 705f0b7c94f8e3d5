"""The state of a local file: what distinguishes contents without reading them."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple


class FileState(NamedTuple):
    """What `os.stat` says of a regular file, as far as it changes with the content."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def file_state(path: str) -> FileState | None:
    """Return the state of a regular file, or None if the path does not name one."""
    try:
        found = os.stat(path)  # noqa: PTH116  # called from the audit hook
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    values = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return tuple.__new__(FileState, values)  # half the time of FileState(*values)


def is_same_content(before: FileState, after: FileState | None) -> bool:
    """Return whether a file still has the content that it had; the change time does not matter."""
    return after is not None and before[:4] == after[:4]


SIZE_BITS = 64
_SIZES = (1 << SIZE_BITS) - 1


def packed(size: int, mtime_ns: int) -> int:
    """Return size and modification time in one number.

    The garbage collector visits each of 100,000 tuples at every full collection; it ignores
    integers.
    """
    return mtime_ns << SIZE_BITS | size


def unpacked(state: int) -> tuple[int, int]:
    """Return size in bytes and modification time in nanoseconds."""
    return state & _SIZES, state >> SIZE_BITS
