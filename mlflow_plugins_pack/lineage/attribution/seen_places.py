"""What was recorded already for some runs, and the files that they read beyond the first 1,000.

Of the first files, everything that can be known of a read is kept. Of further ones, only path, size
and modification time are, and recording them must cost very little, since a program that opens so
many files does little else. Two measures ensure that: a folder from which the user's code has read
many files is trusted, so that the call stack is not searched again; and between two reads a path is
only put in a list: all else is done in batches, which takes half the time that it takes between
two reads, when the processor's caches hold other things.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from itertools import islice

from mlflow_plugins_pack.lineage.files import SIZE_BITS, FileState, packed

MORE_PER_LISTED = 9
"""Number of files noted, by size and time only, per file that a run may list."""
EXACT = 1_000
"""Number of places of a run that are recorded in full."""
BATCH = 256
_CONVINCING = 32
"""Files of a folder that are judged one by one before the folder is trusted."""
_KINDS = 0o170000  # the bits of a mode that tell a file's kind, see inode(7)


class Seen:
    """Places recorded for the same runs, read or written.

    The audit hook uses it in any thread, so it has no lock: each step is one operation of a dict,
    set or list, and a file that falls between two threads is looked at when the run ends.

    Attributes:
        exact: Places that are recorded with all that is known of them.
        more: `packed` states by path of files that were read beyond those.
        folders: Folders whose files are the user's without a look at the call stack.
        waiting: Files that were read beyond the first ones and were not looked at yet.
        dropped: How often a place was not recorded, because there were too many.

    Args:
        limit: How many places a run may list.
        data_of: Returns those of some absolute paths that may be a user's data.
        beyond: How many may be kept beyond those, for each that may be listed.
    """

    __slots__ = (
        "_ahead",
        "_data_of",
        "_exact",
        "_judged",
        "_limit",
        "_looked_at",
        "_total",
        "dropped",
        "exact",
        "folders",
        "more",
        "waiting",
    )

    def __init__(
        self, limit: int, data_of: Callable[[list[str]], list[str]], beyond: int = MORE_PER_LISTED
    ) -> None:
        self.exact: set[str] = set()
        self.more: dict[str, int] = {}
        self.folders: set[str] = set()
        self.dropped = 0
        self._data_of = data_of
        self._limit = limit
        self._exact = min(limit, EXACT) if beyond else limit
        self._total = limit * (1 + beyond)
        self._ahead = 0
        self.waiting: list[str] = []
        self._looked_at: list[list[str]] = []
        self._judged: dict[str, int] = {}

    def is_new(self, place: str) -> bool:
        """Return whether a place is to be recorded; count it if there are too many."""
        if place in self.exact or place in self.more:
            return False
        if len(self.exact) + len(self.more) >= self._total:
            self.dropped += 1
            return False
        return True

    def is_full(self) -> bool:
        """Return whether only size and time are to be kept of further files."""
        return len(self.exact) >= self._exact

    def is_crowded(self) -> bool:
        """Return whether there are more places than a run may list."""
        return len(self.exact) + len(self.more) > self._limit

    def add(self, path: str) -> None:
        """Note a local file beyond the first ones that a user's code reads."""
        waiting = self.waiting
        waiting.append(path)
        if len(waiting) >= BATCH:
            self.look()

    def trust(self, path: str) -> None:
        """Count a file of a folder that the user's code, judged by the call stack, reads."""
        folder = path.rpartition("/")[0]
        times = self._judged.get(folder, 0) + 1
        if times < _CONVINCING:
            self._judged[folder] = times
        else:
            self.folders.add(folder)

    def add_known(self, path: str, state: FileState) -> None:
        """Note a local file beyond the first ones whose state is known."""
        self.more[path] = packed(state.size, state.mtime_ns)

    def ahead(self, most: int) -> list[tuple[str, int]]:
        """Return paths and states that were not returned before, in the order of reading.

        Args:
            most: How many at a time.
        """
        self.look()
        found = list(islice(self.more.items(), self._ahead, self._ahead + most))
        self._ahead += len(found)
        return found

    def look(self) -> None:
        """Look at the files that wait for it; forget what is not a file."""
        if not self.waiting:
            return
        # What another thread takes is never lost: it is in one of the two, or in `more`.
        waiting, self.waiting = self.waiting, []
        self._looked_at.append(waiting)
        self._look(self._new_of(waiting))
        self._looked_at.remove(waiting)

    def _new_of(self, waiting: list[str]) -> list[str]:
        """Return the places that are not recorded yet, as far as there is room."""
        more, exact = self.more, self.exact
        new = [path for path in dict.fromkeys(waiting) if path not in more and path not in exact]
        room = max(0, self._total - len(more) - len(exact))
        if len(new) > room:
            self.dropped += len(new) - room
            del new[room:]
        return new

    def look_at_all(self) -> dict[str, int]:
        """Return the states of all files read beyond the first ones."""
        self.look()
        for under_way in list(self._looked_at):
            self._look(self._new_of(under_way))
        return self.more.copy()

    def _look(self, paths: list[str]) -> None:
        states, ask = self.more, os.stat
        kinds, regular = _KINDS, stat.S_IFREG
        for path in self._data_of(paths):
            try:
                found = ask(path)
                if found.st_mode & kinds == regular:
                    # As `packed` does; a call would take as long again.
                    states[path] = found.st_mtime_ns << SIZE_BITS | found.st_size
            except (OSError, ValueError):
                pass
