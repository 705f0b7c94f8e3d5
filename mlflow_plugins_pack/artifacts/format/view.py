"""What a scope holds now: the ordered union of its segments; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from immutables import Map

from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import (
    FileEntry,
    Folder,
    Lock,
    Operation,
    Segment,
    Tombstone,
    Unlock,
)

_NO_FILES: Mapping[str, FileEntry] = MappingProxyType({})
_NO_NAMES: Map[str, None] = Map()


class View:
    """Files and folders of one scope, or of several put together.

    Looking a path up, listing a folder and changing a path cost as much as the path is deep and the
    folder has entries, however many files there are elsewhere: the maps are persistent ones (hash
    array mapped tries), which a changed copy shares but for a few nodes.

    Attributes:
        files: By path; never changed in place.
        locks: What may not be changed.
        inline_bytes: Bytes of small files that are in memory.
    """

    def __init__(
        self,
        files: Mapping[str, FileEntry] = _NO_FILES,
        folders: Iterable[str] = (),
        locks: Iterable[Lock] = (),
    ) -> None:
        self.files: Map[str, FileEntry] = Map()
        self.locks: set[Lock] = set(locks)
        self.inline_bytes = 0
        self._leaves_bytes = False
        self._explicit: Map[str, None] = Map()
        # By folder, the names of what is directly in it; empty folders are left out.
        self._names: Map[str, Map[str, None]] = Map()
        for entry in files.values():
            self.put(entry)
        for folder in folders:
            self.add_folder(folder)

    @property
    def folders(self) -> Collection[str]:
        """Paths of folders that were made explicitly."""
        return self._explicit

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, View):
            return NotImplemented
        return (self.files, self._explicit, self.locks) == (
            other.files,
            other._explicit,
            other.locks,
        )

    __hash__ = None  # type: ignore[assignment] # a view can be changed

    def copy(self) -> View:
        """Return a view that can be changed without this one, in constant time."""
        new = View(locks=self.locks)
        new.files, new._explicit, new._names = self.files, self._explicit, self._names
        new.inline_bytes, new._leaves_bytes = self.inline_bytes, self._leaves_bytes
        return new

    def without_bytes(self) -> View:
        """Return this view without the bytes that can be read from entries, for good."""
        if self._leaves_bytes:
            return self
        new = self.copy()
        new._leaves_bytes = True
        for entry in self.files.values():
            if entry.is_held and entry.inline is not None:
                new.put(entry)
        return new

    def without_locks(self) -> View:
        """Return this view as it is without its locks."""
        new = self.copy()
        new.locks = set()
        return new

    def without_files(self) -> View:
        """Return an empty view that keeps bytes if this one does."""
        new = View()
        new._leaves_bytes = self._leaves_bytes
        return new

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
        self._drop([entry.path for entry in self.under(path)], self.folders_under(path))

    def _drop(self, files: Iterable[str], folders: Iterable[str]) -> None:
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

    def apply(self, operations: Iterable[Operation]) -> None:
        """Let operations take effect in their order.

        What changes something locked has none: a writer that did not yet see the lock when it
        committed must not change what was locked.
        """
        for operation in operations:
            if isinstance(operation, FileEntry):
                if self.lock_on(operation) is None:
                    self.put(operation)
            elif isinstance(operation, Folder):
                if self.lock_on(operation) is None:
                    self.add_folder(operation.path)
            elif isinstance(operation, Tombstone):
                self._delete(operation.path)
            elif isinstance(operation, Lock):
                self._lock(operation)
            else:
                self.locks.discard(Lock(operation.path, operation.reason))

    def _lock(self, lock: Lock) -> None:
        """Let a lock hold, on exactly what its locker read.

        Where calls are numbered without gaps that is what is there. Where a service cannot create
        exclusively, a write with a smaller number may have arrived after the locker read; its
        call fails, and it changes nothing.
        """
        if lock.binds:
            self.remove(lock.path)
            for entry in lock.binds:
                if isinstance(entry, FileEntry):
                    self.put(entry)
                else:
                    self.add_folder(entry.path)
        self.locks.add(Lock(lock.path, lock.reason))

    def _delete(self, path: str) -> None:
        self._drop(
            [e.path for e in self.under(path) if self._lock_over(e.path) is None],
            [p for p in self.folders_under(path) if self._lock_over(p) is None],
        )

    # --- locks ---

    def _lock_over(self, path: str) -> Lock | None:
        return _outermost(
            k for k in self.locks if object_keys.relative_to(path, k.path) is not None
        )

    def lock_on(self, operation: Operation) -> Lock | None:
        """Return a lock that forbids an operation, None if no lock does."""
        if isinstance(operation, Lock | Unlock):
            return None
        over = self._lock_over(operation.path)
        if isinstance(operation, Tombstone) and over is None:
            return _outermost(
                k for k in self.locks if object_keys.relative_to(k.path, operation.path) is not None
            )
        if over is not None and isinstance(operation, Folder):
            return None if self.has_folder(operation.path) else over
        return over

    def bound_by(self, path: str) -> tuple[FileEntry | Folder, ...]:
        """Return what a lock of the path binds: all files and explicit folders at and under it."""
        return (
            *map(Folder, self.folders_under(path)),
            *sorted(self.under(path), key=lambda entry: entry.path),
        )

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


def _outermost(locks: Iterable[Lock]) -> Lock | None:
    # Always the same one, so that a refusal reads the same each time.
    return min(locks, key=lambda lock: (lock.path, lock.reason), default=None)


def merge(segments: Iterable[Segment]) -> View:
    """Return the state that segments lead to from nothing.

    Args:
        segments: In any order.
    """
    return advance(View(), segments)


def advance(view: View, segments: Iterable[Segment]) -> View:
    """Return the state that segments lead to from a state, which is left as it was.

    A joined segment that begins with the first call holds the whole state; any other one says
    what its calls changed.
    """
    ordered = sorted(segments, key=_order)
    voided = {
        operation.voids
        for segment in ordered
        for operation in segment.operations
        if isinstance(operation, Unlock) and operation.voids
    }
    new = view.copy()
    for segment in ordered:
        if segment.name in voided:
            continue
        if segment.numbers.is_joined and segment.numbers.first == 1:
            new = view.without_files()
        new.apply(segment.operations)
    return new


def _order(segment: Segment) -> tuple[int, int, str]:
    numbers = segment.numbers
    # Where two joined segments end alike, the longer one takes nothing away from what it follows.
    return (numbers.last, -numbers.first, numbers.writer)


def net_effect(operations: Iterable[Operation], *, whole: bool) -> tuple[Operation, ...]:
    """Return operations with the same effect on any state as all of these, one after the other.

    Args:
        operations: Of consecutive calls, in order.
        whole: Whether they begin with the scope's first call: then nothing was there before that
            they could delete or unlock.
    """
    view = View()
    deleted: set[str] = set()
    unlocked: dict[Unlock, None] = {}
    for operation in operations:
        if isinstance(operation, Tombstone):
            view.remove(operation.path)
            if deleted.isdisjoint(object_keys.ancestors(operation.path)):
                deleted = {p for p in deleted if object_keys.relative_to(p, operation.path) is None}
                deleted.add(operation.path)
        elif isinstance(operation, FileEntry):
            view.put(operation)
        elif isinstance(operation, Folder):
            view.add_folder(operation.path)
        elif isinstance(operation, Lock):
            view.locks.add(Lock(operation.path, operation.reason))
        else:
            view.locks.discard(Lock(operation.path, operation.reason))
            unlocked[operation] = None
    return (
        # What was locked before must be open when the rest takes effect.
        *(() if whole else unlocked),
        *(() if whole else map(Tombstone, sorted(deleted))),
        *map(Folder, sorted(view.folders)),
        *(view.files[path] for path in sorted(view.files)),
        *sorted(view.locks, key=lambda lock: (lock.path, lock.reason)),
    )
