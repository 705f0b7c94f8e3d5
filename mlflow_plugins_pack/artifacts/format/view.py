"""What a scope holds now: the ordered union of its segments; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

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
from mlflow_plugins_pack.artifacts.format.paths import Paths

_NO_FILES: Mapping[str, FileEntry] = MappingProxyType({})


class View(Paths):
    """Files, folders and locks of one scope, or of several put together.

    Attributes:
        locks: What may not be changed.
    """

    def __init__(
        self,
        files: Mapping[str, FileEntry] = _NO_FILES,
        folders: Iterable[str] = (),
        locks: Iterable[Lock] = (),
    ) -> None:
        super().__init__()
        self.locks: set[Lock] = set(locks)
        for entry in files.values():
            self.put(entry)
        for folder in folders:
            self.add_folder(folder)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, View):
            return NotImplemented
        return (self.files, self.folders, self.locks) == (other.files, other.folders, other.locks)

    __hash__ = None  # type: ignore[assignment] # a view can be changed

    def copy(self) -> View:
        """Return a view that can be changed without this one, in constant time."""
        new = View(locks=self.locks)
        new.share(self)
        return new

    def without_bytes(self) -> View:
        """Return this view without the bytes that can be read from entries, for good."""
        new = self.copy()
        new.leave_bytes()
        return new

    def without_locks(self) -> View:
        """Return this view as it is without its locks."""
        new = self.copy()
        new.locks = set()
        return new

    def without_files(self) -> View:
        """Return an empty view that keeps bytes if this one does."""
        new = View()
        if self._leaves_bytes:
            new.leave_bytes()
        return new

    # --- changing ---

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
        self.drop(
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


def _outermost(locks: Iterable[Lock]) -> Lock | None:
    # Always the same one, so that a refusal reads the same each time.
    return min(locks, key=lambda lock: (lock.path, lock.reason), default=None)


def merge(segments: Iterable[Segment], confirmed: Collection[str] = ()) -> View:
    """Return the state that segments lead to from nothing.

    Args:
        segments: In any order.
        confirmed: The entries that have a receipt.
    """
    return advance(View(), segments, confirmed)


def advance(view: View, segments: Iterable[Segment], confirmed: Collection[str] = ()) -> View:
    """Return the state that segments lead to from a state, which is left as it was.

    A joined segment that begins with the first call holds the whole state; any other one says
    what its calls changed. A lock whose number others may have too holds only with its receipt.
    """
    ordered = sorted(segments, key=_order)
    voided = voided_entries(ordered)
    new = view.copy()
    for segment in ordered:
        if segment.name in voided:
            continue
        if segment.numbers.is_joined and segment.numbers.first == 1:
            new = view.without_files()
        holds = not segment.numbers.writer or segment.name in confirmed
        new.apply(o for o in segment.operations if _has_effect(o, locks_hold=holds))
    return new


def _has_effect(operation: Operation, *, locks_hold: bool) -> bool:
    if isinstance(operation, Unlock):
        # A lock that was taken back never held; another one for the same reason may.
        return not operation.voids
    return locks_hold or not isinstance(operation, Lock)


def voided_entries(segments: Iterable[Segment]) -> frozenset[str]:
    """Return the names of entries whose locks their lockers took back."""
    return frozenset(
        operation.voids
        for segment in segments
        for operation in segment.operations
        if isinstance(operation, Unlock) and operation.voids
    )


def bound_by_locks(segments: Iterable[Segment]) -> Iterator[FileEntry]:
    """Yield the files that locks bind which were not released, whether they hold yet or not.

    Where calls are not numbered without gaps, a deletion that overlaps a lock may be visible
    before the lock is: what it binds must stay.
    """
    ordered = sorted(segments, key=_order)
    voided = voided_entries(ordered)
    bound: dict[Lock, list[FileEntry | Folder]] = {}
    for segment in ordered:
        for operation in segment.operations:
            if isinstance(operation, Lock) and segment.name not in voided:
                bound.setdefault(operation, []).extend(operation.binds)
            elif isinstance(operation, Unlock) and not operation.voids:
                bound.pop(Lock(operation.path, operation.reason), None)
    for entries in bound.values():
        yield from (entry for entry in entries if isinstance(entry, FileEntry))


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
