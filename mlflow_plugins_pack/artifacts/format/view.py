"""What a scope holds now: the ordered union of its segments; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
                self.locks.add(operation)
            else:
                self.locks.discard(Lock(operation.path, operation.reason))

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
        if isinstance(operation, Folder) and operation.path in self.all_folders():
            return None
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

    def folders_under(self, path: str) -> list[str]:
        """Return explicit folders at or under the path."""
        return sorted(p for p in self.folders if object_keys.relative_to(p, path) is not None)

    def blocking_file(self, path: str) -> str | None:
        """Return the file that stands where a folder above the path would have to be."""
        for parent in object_keys.ancestors(path)[1:]:
            if parent in self.files:
                return parent
        return None

    def compacted(self) -> tuple[Operation, ...]:
        """Return operations that make this view out of nothing."""
        return (
            *(Folder(path) for path in sorted(self.folders)),
            *(self.files[path] for path in sorted(self.files)),
            # Last: the files before them are what they lock.
            *sorted(self.locks, key=lambda lock: (lock.path, lock.reason)),
        )


def _outermost(locks: Iterable[Lock]) -> Lock | None:
    # Always the same one, so that a refusal reads the same each time.
    return min(locks, key=lambda lock: (lock.path, lock.reason), default=None)


def live_combined(combined: Iterable[Segment]) -> tuple[list[Segment], set[str]]:
    """Return the combined segments that count, and all names that they stand for.

    Segments are only ever added, so of two combined ones the later has seen all that the earlier
    stands for, even where two processes combined at once and neither knew of the other. Counting
    the earlier too would bring back what was deleted between them.
    """
    by_reach = sorted(combined, key=lambda s: len(s.replaces), reverse=True)
    living: list[Segment] = []
    covered: list[frozenset[str]] = []
    for segment in by_reach:
        reach = frozenset(segment.replaces)
        if not any(reach <= other or segment.name in other for other in covered):
            living.append(segment)
            covered.append(reach)
    return living, set().union(*covered)


def manifest_bytes(sizes: Mapping[str, int]) -> int:
    """Return about how much has to be read of a scope's segments, from a listing alone.

    Args:
        sizes: Size of each segment by name.
    """
    last = max(filter(object_keys.is_combined, sizes), default="")
    return sum(size for name, size in sizes.items() if name >= last)


def merge(segments: Iterable[Segment]) -> View:
    """Return the view that segments add up to, whatever order they are given in."""
    known = {segment.name: segment for segment in segments}
    living, replaced = live_combined(s for s in known.values() if s.replaces)
    living += [s for s in known.values() if not s.replaces and s.name not in replaced]
    view = View()
    for segment in sorted(living, key=lambda s: s.order):
        view.apply(segment.operations)
    return view
