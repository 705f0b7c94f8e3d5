"""What was recorded already for some runs, and the files that they read beyond those listed.

A run lists so many files one by one. Of further ones only path, size and time are kept, and their
recording has to cost next to nothing, for a program that opens so many does little else. Two things
see to that: a folder of which a person's code has read many files is the person's, so that the
call stack is not searched again; and size and time are asked for in batches, which takes half the
time that it takes between two reads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from mlflow_plugins_pack.lineage.capture.event import MORE_PER_LISTED, FileState, packed

UNKNOWN = -1
"""State of a file that was not looked at yet."""
_BATCH = 256
_CONVINCING = 32
"""Files of a folder, each judged by itself, after which the rest of it goes without saying."""
_KINDS = 0o170000  # the bits of a mode that tell a file's kind, see inode(7)


class Seen:
    """Places recorded for the same runs, read or written.

    The audit hook uses it in any thread, so it has no lock: each step is one operation of a dict,
    set or list, and a file that falls between two threads is looked at when the run ends.

    Attributes:
        listed: Places that are recorded one by one.
        more: `packed` states by path of files that were read beyond those.
        folders: Folders of whose files it goes without saying that they are a person's.
        dropped: How often a place was turned away, there being too many.

    Args:
        limit: How many may be listed.
        data_of: Returns those of some absolute paths that may be a person's data.
        beyond: How many may be kept beyond those, for each that may be listed.
    """

    __slots__ = (
        "_data_of",
        "_judged",
        "_limit",
        "_most",
        "_waiting",
        "dropped",
        "folders",
        "listed",
        "more",
    )

    def __init__(
        self, limit: int, data_of: Callable[[list[str]], list[str]], beyond: int = MORE_PER_LISTED
    ) -> None:
        self.listed: set[str] = set()
        self.more: dict[str, int] = {}
        self.folders: set[str] = set()
        self.dropped = 0
        self._data_of = data_of
        self._limit, self._most = limit, limit * beyond
        self._waiting: list[str] = []
        self._judged: dict[str, int] = {}

    def is_new(self, place: str) -> bool:
        """Tell whether a place is to be recorded; count it if there are too many."""
        if place in self.listed or place in self.more:
            return False
        if len(self.listed) >= self._limit and len(self.more) >= self._most:
            self.dropped += 1
            return False
        return True

    def is_full(self) -> bool:
        """Tell whether as many places are listed as may be."""
        return len(self.listed) >= self._limit

    def add(self, path: str) -> None:
        """Note a local file beyond those listed that a person's code reads."""
        more = self.more
        if path in more:
            return
        if len(more) >= self._most:
            self.dropped += 1
            return
        more[path] = UNKNOWN
        waiting = self._waiting
        waiting.append(path)
        if len(waiting) >= _BATCH:
            self.look()

    def trust(self, path: str) -> None:
        """Learn that a person's code, to judge by the call stack, reads a file of this folder."""
        folder = path.rpartition("/")[0]
        times = self._judged.get(folder, 0) + 1
        if times < _CONVINCING:
            self._judged[folder] = times
        else:
            self.folders.add(folder)

    def add_unlisted(self, place: str, state: FileState | None) -> None:
        """Note a place beyond those listed; only local files that are read are kept.

        Args:
            place: Path, or what else identifies it.
            state: State of a local file that is read, else None.
        """
        if state is not None and len(self.more) < self._most:
            self.more[place] = packed(state.size, state.mtime_ns)
        else:
            self.dropped += 1

    def look(self) -> None:
        """Find out size and time of the files that wait for it; forget what is no file."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._look(waiting)

    def look_at_all(self) -> dict[str, int]:
        """Return the states of all files read beyond those listed."""
        self.look()
        states = self.more.copy()
        if late := [path for path, state in states.items() if state == UNKNOWN]:
            self._look(late)
            states = {path: state for path, state in self.more.items() if state != UNKNOWN}
        return states

    def _look(self, paths: list[str]) -> None:
        states, ask = self.more, os.stat
        kinds, regular = _KINDS, stat.S_IFREG
        data = self._data_of(paths)
        if len(data) < len(paths):
            for path in {*paths}.difference(data):
                states.pop(path, None)
        for path in data:
            try:
                found = ask(path)
                if found.st_mode & kinds == regular:
                    states[path] = packed(found.st_size, found.st_mtime_ns)
                else:
                    states.pop(path, None)
            except (OSError, ValueError):
                states.pop(path, None)
