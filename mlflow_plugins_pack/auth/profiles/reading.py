"""Reads a file that must be a regular one: another thing in its place neither hangs nor leaks."""

from __future__ import annotations

import os
from collections.abc import Callable


def read_file(
    path: str, largest_bytes: int, check: Callable[[os.stat_result], None], flags: int = 0
) -> bytes:
    """Return the first bytes of a file.

    Args:
        path: The file.
        largest_bytes: How many bytes a good one has at most; one more is read, to see others.
        check: Called with the state of the opened file; raises an error if it is not good. What is
            not a regular file must be refused there.
        flags: More flags to open it with.

    Raises:
        OSError: If it cannot be opened or read.
    """
    # Not blocking: a named pipe in its place must not hang the request.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | flags)
    try:
        check(os.fstat(descriptor))
        # With `closefd` the descriptor of a folder would stay open after the error.
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(largest_bytes + 1)
    finally:
        os.close(descriptor)
