"""What child processes leave for the process that has the runs: one file of JSON lines a process.

The folder's name travels by an environment variable, which children inherit; the parent makes the
folder before the first child and removes it at its end. A child writes each place once, at once,
because a pool's worker may be killed at any moment. What a child cannot write is lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from typing import Any

from mlflow_plugins_pack.lineage.capture.event import Event
from mlflow_plugins_pack.lineage.files import FileState

VARIABLE = "_MLFLOW_PACK_LINEAGE_SPOOL"
RANK_VARIABLE = "_MLFLOW_PACK_LINEAGE_RANK"
"""Set by a rank of a distributed training, so that its children do not take themselves for it."""
_PREFIX = "mlflow-pack-lineage-"
_PROGRAM = "program-"
_BYTES_LIMIT = 64 << 20
_MALFORMED = (ValueError, TypeError, IndexError, OverflowError, RecursionError)


def new_folder() -> str:
    """Return an unguessable name for a folder, which is not created yet."""
    base = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108  # made with mkdir, mode 0700
    return f"{base}/{_PREFIX}{os.getpid()}-{os.urandom(8).hex()}"


def rank_folder() -> str | None:
    """Return the folder that the ranks of one distributed training on this host share.

    None outside of one. The name is known to others, so the folder must be the user's own.
    """
    names = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")
    if not all(os.environ.get(name) for name in names) or os.environ["WORLD_SIZE"] == "1":
        return None
    import hashlib

    parts = [os.environ.get(name, "") for name in (*names[:2], "TORCHELASTIC_RUN_ID")]
    token = hashlib.sha256("\0".join([socket.gethostname(), *parts]).encode()).hexdigest()[:16]
    base = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108  # ownership is checked
    return f"{base}/{_PREFIX}{os.getuid()}-rank-{token}"


def make(folder: str) -> bool:
    """Make the folder; False if it is there and not this user's alone."""
    try:
        os.mkdir(folder, 0o700)  # noqa: PTH102
    except FileExistsError:
        found = os.lstat(folder)
        return found.st_uid == os.getuid() and not found.st_mode & 0o077
    except OSError:
        return False
    return True


class Writer:
    """The child's side.

    Args:
        folder: Made by the parent.
        owners: Runs that the child was started for, if known.
        is_program: The child is a program of its own, which says at once that it captures.
    """

    def __init__(
        self, folder: str, owners: tuple[str, ...] = (), *, is_program: bool = False
    ) -> None:
        self.folder = folder
        self._prefix = _PROGRAM if is_program else ""
        self.owners = owners
        self._file: int | None = None
        self._left = _BYTES_LIMIT
        if is_program:
            with contextlib.suppress(OSError):
                self._open()

    def write(self, event: Event) -> None:
        """Append an event; whatever fails ends the writing for good."""
        if self._left <= 0:
            return
        line = json.dumps([*event[1:4], event.owners or self.owners, *event[6:10], event.seq])
        try:
            self._left -= os.write(self._open(), line.encode("ascii") + b"\n")
        except OSError:
            self._left = 0

    def _open(self) -> int:
        if self._file is None:
            name = f"{self.folder}/{self._prefix}{os.getpid()}-{os.urandom(4).hex()}.jsonl"
            self._file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return self._file


class Reader:
    """The parent's side.

    Args:
        folder: The folder, which need not be there yet.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._offsets: dict[str, int] = {}

    def events(self, thread: int) -> Iterator[Event]:
        """Return what the children wrote since the last call.

        Args:
            thread: Which thread their events count for.
        """
        try:
            names = sorted(entry.name for entry in os.scandir(self.folder))
        except OSError:
            return
        for name in names:
            with contextlib.suppress(OSError):
                for line in self._new_lines(name):
                    with contextlib.suppress(*_MALFORMED):
                        yield _event(json.loads(line), thread)

    def _new_lines(self, name: str) -> list[bytes]:
        offset = self._offsets.get(name, 0)
        with open(f"{self.folder}/{name}", "rb") as file:  # noqa: PTH123
            file.seek(offset)
            text = file.read(max(_BYTES_LIMIT - offset, 0))
        whole = text[: text.rfind(b"\n") + 1]
        self._offsets[name] = offset + len(whole)
        return whole.splitlines()

    def programs(self) -> int:
        """Return how many programs said that they capture."""
        try:
            return sum(entry.name.startswith(_PROGRAM) for entry in os.scandir(self.folder))
        except OSError:
            return 0

    def remove(self) -> None:
        """Remove the folder and what is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _event(values: list[Any], thread: int) -> Event:
    kind, where, via, owners, state, size, version, source, seq = values
    return Event(
        seq=int(seq),
        kind=str(kind),
        where=str(where),
        via=str(via),
        owners=tuple(map(str, owners)),
        thread=thread,
        state=FileState(*state) if state else None,
        size=size,
        version=version,
        source=source,
    )
