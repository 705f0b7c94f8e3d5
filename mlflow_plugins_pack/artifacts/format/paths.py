"""Files and folders by path, in persistent maps; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from immutables import Map

from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry

_NO_NAMES: Map[str, None] = Map()


class Paths:
    """Files, and folders that were made explicitly or exist through what is in them.

    Looking a path up, listing a folder and changing a path cost as much as the path is deep and the
    folder has entries, however many files there are elsewhere: the maps are persistent ones (hash
    array mapped tries), which a changed copy shares but for a few nodes.

    Attributes:
        files: By path; never changed in place.
        inline_bytes: Bytes of small files that are in memory.
    """

    def __init__(self) -> None:
        self.files: Map[str, FileEntry] = Map()
        self.inline_bytes = 0
        self._leaves_bytes = False
        self._explicit: Map[str, None] = Map()
        # By folder, the names of what is directly in it; empty folders are left out.
        self._names: Map[str, Map[str, None]] = Map()

    @property
    def folders(self) -> Collection[str]:
        """Paths of folders that were made explicitly."""
        return self._explicit

    def share(self, other: Paths) -> None:
        """Take over what another one holds, in constant time."""
        self.files, self._explicit, self._names = other.files, other._explicit, other._names
        self.inline_bytes, self._leaves_bytes = other.inline_bytes, other._leaves_bytes

    def leave_bytes(self) -> None:
        """Drop the bytes that can be read from entries, those that come later too."""
        if self._leaves_bytes:
            return
        self._leaves_bytes = True
        for entry in self.files.values():
            if entry.is_held and entry.inline is not None:
                self.put(entry)

    # --- changing ---

    def put(self, entry: FileEntry) -> None:
        """Add or replace a file, whatever is locked."""
        if self._leaves_bytes and entry.is_held:
            entry = replace(entry, inline=None)
        self._link(entry.path)
        self.inline_bytes += len(entry.inline or b"")
        if (old := self.files.get(entry.path)) is not None:
            self.inline_bytes -= len(old.inline or b"")
        self.files = self.files.set(entry.path, entry)

    def add_folder(self, path: str) -> None:
        """Add a folder, whatever is locked."""
        self._link(path)
        self._explicit = self._explicit.set(path, None)

    def remove(self, path: str) -> None:
        """Remove what is at and under a path, locked or not."""
        self.drop([entry.path for entry in self.under(path)], self.folders_under(path))

    def drop(self, files: Iterable[str], folders: Iterable[str]) -> None:
        """Remove files and explicit folders."""
        for path in files:
            self.inline_bytes -= len(self.files[path].inline or b"")
            self.files = self.files.delete(path)
            self._unlink(path)
        for path in folders:
            self._explicit = self._explicit.delete(path)
            self._unlink(path)

    def _link(self, path: str) -> None:
        """Name a path in the folder around it, and that one in its own, up to one that is named."""
        while path:
            parent, _, name = path.rpartition("/")
            names = self._names.get(parent, _NO_NAMES)
            if name in names:
                return
            self._names = self._names.set(parent, names.set(name, None))
            path = parent

    def _unlink(self, path: str) -> None:
        """Take a path out of the folder around it if nothing is left there, and so on upwards."""
        while path and not (path in self.files or path in self._explicit or path in self._names):
            parent, _, name = path.rpartition("/")
            names = self._names[parent].delete(name)
            self._names = self._names.set(parent, names) if names else self._names.delete(parent)
            path = parent

    # --- reading ---

    def is_empty(self) -> bool:
        """Return whether there is neither a file nor a folder."""
        return not self.files and not self._explicit

    def has_folder(self, path: str) -> bool:
        """Return whether a folder exists, by itself or through what is in it."""
        return not path or path in self._explicit or path in self._names

    def has_children(self, path: str) -> bool:
        """Return whether there is a folder at the path with something in it."""
        return path in self._names

    def children(self, path: str) -> list[tuple[str, FileEntry | None]]:
        """Return what is directly in a folder, sorted: paths, with None for a folder.

        Object stores allow a file and a folder of one name; then both are there, folder first.
        """
        found: list[tuple[str, FileEntry | None]] = []
        for name in sorted(self._names.get(path, ())):
            child = object_keys.join(path, name)
            if self.has_folder(child):
                found.append((child, None))
            if (entry := self.files.get(child)) is not None:
                found.append((child, entry))
        return found

    def _walk(self, path: str) -> Iterator[str]:
        """Yield the path and all paths under it at which something is, in no particular order."""
        waiting = [path]
        while waiting:
            path = waiting.pop()
            yield path
            waiting += (object_keys.join(path, name) for name in self._names.get(path, ()))

    def under(self, path: str) -> Iterator[FileEntry]:
        """Yield the file at the path, or all files under it, in no particular order."""
        if not path:
            yield from self.files.values()
            return
        for known in self._walk(path):
            if (entry := self.files.get(known)) is not None:
                yield entry

    def folders_under(self, path: str) -> list[str]:
        """Return explicit folders at or under the path."""
        if not path or not self._explicit:
            return sorted(self._explicit)
        return sorted(known for known in self._walk(path) if known in self._explicit)

    def holds(self, path: str) -> bool:
        """Return whether a file, or a folder made explicitly, is at or under the path."""
        if not path:
            return not self.is_empty()
        return path in self.files or path in self._explicit or path in self._names

    def blocking_file(self, path: str) -> str | None:
        """Return the file that stands where a folder above the path would have to be."""
        for parent in object_keys.ancestors(path)[1:]:
            if parent in self.files:
                return parent
        return None
