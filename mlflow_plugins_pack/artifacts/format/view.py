"""What a scope holds now: the ordered union of its segments; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

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


@dataclass
class View:
    """Files and folders of one scope, or of several put together.

    Attributes:
        files: By path.
        folders: Paths of folders that were made explicitly.
        locks: What may not be changed.
    """

    files: dict[str, FileEntry] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    locks: set[Lock] = field(default_factory=set)

    def apply(self, operations: Iterable[Operation]) -> None:
        """Let operations take effect in their order.

        What changes something locked has none: a writer that did not yet see the lock when it
        committed must not change what was locked.
        """
        for operation in operations:
            if isinstance(operation, FileEntry):
                if self.lock_on(operation) is None:
                    self.files[operation.path] = operation
            elif isinstance(operation, Folder):
                if self.lock_on(operation) is None:
                    self.folders.add(operation.path)
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
                    self.files[entry.path] = entry
                else:
                    self.folders.add(entry.path)
        self.locks.add(Lock(lock.path, lock.reason))

    def remove(self, path: str) -> None:
        """Remove what is at and under a path, locked or not."""
        for known in [p for p in self.files if object_keys.relative_to(p, path) is not None]:
            del self.files[known]
        self.folders = {p for p in self.folders if object_keys.relative_to(p, path) is None}

    def _delete(self, path: str) -> None:
        if path in self.files and path not in self.folders and not self.locks:
            # The usual case, without a walk over all paths.
            del self.files[path]
        for known in [p for p in self.files if object_keys.relative_to(p, path) is not None]:
            if self._lock_over(known) is None:
                del self.files[known]
        self.folders = {
            p
            for p in self.folders
            if object_keys.relative_to(p, path) is None or self._lock_over(p) is not None
        }

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
            return None if operation.path in self.all_folders() else over
        return over

    def is_empty(self) -> bool:
        """Return whether there is neither a file nor a folder."""
        return not self.files and not self.folders

    def has_folder(self, path: str) -> bool:
        """Return whether a folder exists, by itself or through what is in it."""
        if not path or path in self.folders:
            return True
        inside = path + "/"
        return any(p.startswith(inside) for p in self.files) or any(
            p.startswith(inside) for p in self.folders
        )

    def all_folders(self) -> set[str]:
        """Return every folder, those included that exist through what is in them."""
        found = set(self.folders)
        for path in (*self.folders, *self.files):
            for parent in object_keys.ancestors(path)[1:-1]:
                if parent in found:
                    break
                found.add(parent)
        return found

    def children(self, path: str) -> list[tuple[str, FileEntry | None]]:
        """Return what is directly in a folder, sorted: paths, with None for a folder.

        Object stores allow a file and a folder of one name; then both are there, folder first.
        """
        folders: set[str] = set()
        files: dict[str, FileEntry] = {}
        for known in self.folders:
            inner = object_keys.relative_to(known, path)
            if inner:
                folders.add(object_keys.join(path, inner.split("/", 1)[0]))
        for known, entry in self.files.items():
            inner = object_keys.relative_to(known, path)
            if inner:
                name, slash, _ = inner.partition("/")
                child = object_keys.join(path, name)
                if slash:
                    folders.add(child)
                else:
                    files[child] = entry
        found: list[tuple[str, FileEntry | None]] = [(folder, None) for folder in folders]
        found += files.items()
        return sorted(found, key=lambda item: (item[0], item[1] is not None))

    def under(self, path: str) -> Iterator[FileEntry]:
        """Yield the file at the path, or all files under it, in no particular order."""
        for known, entry in self.files.items():
            if object_keys.relative_to(known, path) is not None:
                yield entry

    def holds(self, path: str) -> bool:
        """Return whether a file, or a folder made explicitly, is at or under the path."""
        return any(True for _ in self.under(path)) or bool(self.folders_under(path))

    def bound_by(self, path: str) -> tuple[FileEntry | Folder, ...]:
        """Return what a lock of the path binds: all files and explicit folders at and under it."""
        return (
            *map(Folder, self.folders_under(path)),
            *sorted(self.under(path), key=lambda entry: entry.path),
        )

    def folders_under(self, path: str) -> list[str]:
        """Return explicit folders at or under the path."""
        return sorted(p for p in self.folders if object_keys.relative_to(p, path) is not None)

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
    new = View(dict(view.files), set(view.folders), set(view.locks))
    for segment in ordered:
        if segment.name in voided:
            continue
        if segment.numbers.is_joined and segment.numbers.first == 1:
            new = View()
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
            view.files[operation.path] = operation
        elif isinstance(operation, Folder):
            view.folders.add(operation.path)
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
