"""A lock between the workers of one test run."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def once(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock of this name in the run's folder: one worker at a time is in the block."""
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
