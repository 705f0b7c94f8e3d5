"""Which files git tracks, and as which blob, according to the index of each repository.

One process answers for all new folders of a repository; none is started where no ``.git`` is found
at or above a file's folder. It is never called from inside an open.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

_SECONDS = 3
_ARGUMENTS = 100
"""Most folders to name to git; beyond it, the whole index is listed."""
_WILDCARDS = re.compile(rb"([\\*?\[])")
_LISTED = re.compile(rb"100(?:644|755) ([0-9a-f]{40}) 0\t(.+)", re.DOTALL)
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")


def run(folder: str, *arguments: str | bytes) -> bytes | None:
    """Return what git prints in a folder; None if it fails, is missing or takes too long."""
    # A program that a git hook started has the names of the hook's repository.
    settings = {key: value for key, value in os.environ.items() if key not in _ELSEWHERE}
    settings.update(GIT_OPTIONAL_LOCKS="0", GIT_NO_LAZY_FETCH="1")
    try:
        done = subprocess.run(  # noqa: S603  # no shell
            ["git", "-c", "core.fsmonitor=false", *arguments],  # noqa: S607  # the user's git
            cwd=folder,
            env=settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


@dataclass
class _Index:
    """What is known of one repository's index.

    Attributes:
        state: Of the index file when this was asked.
        folders: Those that were asked about.
        blobs: Blob ids of their files, by path below the repository.
    """

    state: tuple[int, int] | None
    folders: set[str] = field(default_factory=set)
    blobs: dict[str, str] = field(default_factory=dict)


class Repositories:
    """Answers for the files of any repository but those that use SHA-256."""

    def __init__(self) -> None:
        self._roots: dict[str, str | None] = {}
        self._indexes: dict[str, _Index] = {}
        self._silent: set[str] = set()

    def learn(self, paths: Iterable[str]) -> None:
        """Ask git about the folders of some absolute paths, as far as that was not done."""
        wanted: dict[str, set[str]] = defaultdict(set)
        for folder in {path.rpartition("/")[0] for path in paths}:
            root = self.root_of(folder)
            if root is not None and root not in self._silent:
                wanted[root].add(folder[len(root) + 1 :])
        for root, folders in wanted.items():
            state = _index_state(root)
            index = self._indexes.get(root)
            if index is None or index.state != state:
                index = self._indexes[root] = _Index(state)
            if state is not None and (new := folders - index.folders):
                self._ask(root, index, new)

    def blob_of(self, path: str) -> str | None:
        """Return the blob that the index has for a path that `learn` was given, or None."""
        root = self.root_of(path.rpartition("/")[0])
        index = self._indexes.get(root) if root is not None else None
        return index.blobs.get(path[len(root) + 1 :]) if index and root is not None else None

    def root_of(self, folder: str) -> str | None:
        """Return the folder at or above an absolute one that has a ``.git``."""
        if folder not in self._roots:
            if os.path.exists(f"{folder}/.git"):  # noqa: PTH110
                self._roots[folder] = folder
            else:
                self._roots[folder] = self.root_of(folder.rpartition("/")[0]) if folder else None
        return self._roots[folder]

    def _ask(self, root: str, index: _Index, folders: set[str]) -> None:
        specs: list[bytes] = []
        if len(folders) <= _ARGUMENTS:
            names = (os.fsencode(f"{folder}/" if folder else "") for folder in sorted(folders))
            specs = [b":(glob)" + _WILDCARDS.sub(rb"\\\1", name) + b"*" for name in names]
        listed = run(root, "ls-files", "--stage", "-z", "--", *specs)
        if listed is None:
            # Git did not answer in time, or failed; it would again.
            self._silent.add(root)
            return
        for line in listed.split(b"\0"):
            if found := _LISTED.fullmatch(line):
                name = os.fsdecode(found[2])
                if name.rpartition("/")[0] in folders:
                    index.blobs[name] = found[1].decode("ascii")
        index.folders |= folders


def _index_state(root: str) -> tuple[int, int] | None:
    """Return modification time and size of a repository's index; None if it has no index."""
    place = f"{root}/.git"
    try:
        if os.path.isfile(place):  # noqa: PTH113
            # A worktree's or submodule's: one line that says where the folder is.
            with open(place, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
                line = file.read(4096).strip()
            place = os.path.join(root, line.removeprefix("gitdir: "))  # noqa: PTH118
        found = os.stat(f"{place}/index")  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size
