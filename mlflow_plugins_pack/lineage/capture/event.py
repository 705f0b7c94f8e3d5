"""One read or write as a capture layer saw it; pure."""

from __future__ import annotations

from typing import NamedTuple

READ = "r"
WRITE = "w"
MOVE = "m"
DATABASE = "d"
MORE_PER_LISTED = 9
"""How many files are noted, by size and time only, for each one that a run may list."""


class FileState(NamedTuple):
    """What tells one content of a file from another without reading it."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


_SIZE_BITS = 64
_SIZES = (1 << _SIZE_BITS) - 1


def packed(size: int, mtime_ns: int) -> int:
    """Return size and time of change in one number.

    A hundred thousand tuples would have the garbage collector go through the whole program's
    objects again and again; numbers do not concern it.
    """
    return mtime_ns << _SIZE_BITS | size


def unpacked(state: int) -> tuple[int, int]:
    """Return size and time of change in nanoseconds."""
    return state & _SIZES, state >> _SIZE_BITS


class Event(NamedTuple):
    """One read or write.

    Attributes:
        seq: Grows with each event of the process.
        kind: `READ`, `WRITE`, `MOVE` (``source`` was renamed to ``where``), or `DATABASE` (a
            database file was opened; which of the two it was shows later).
        where: Absolute path of a local file, or the URI of anything else.
        via: Layer that saw it: ``audit``, ``wrap``, ``boto``.
        owners: Innermost active runs it belongs to; empty if none was active.
        thread: Identifier of the thread.
        state: A local file's state at the event; None if it was not there yet, or is not local.
        size: Bytes, if the layer knows.
        version: Version or entity tag, if the layer knows.
        source: Former path of a renamed file.
    """

    seq: int
    kind: str
    where: str
    via: str
    owners: tuple[str, ...]
    thread: int
    state: FileState | None = None
    size: int | None = None
    version: str | None = None
    source: str | None = None
