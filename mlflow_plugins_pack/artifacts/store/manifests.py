"""The manifests of a store: what each run, model and trace holds, and how that changes.

What is decided, and why it is right, stands in `commit.numbered`; what a process learned of a scope
is remembered here for its next call.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

from cachetools import LRUCache

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.commit import listed, numbered, reading
from mlflow_plugins_pack.artifacts.commit.requests import RETENTION_SECONDS, Decide, Head
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import Operation, Segment
from mlflow_plugins_pack.artifacts.format.segment_names import (
    entry_name,
    joins_due,
    parse_segment_name,
    plan_reading,
    superseded,
)
from mlflow_plugins_pack.artifacts.format.view import View
from mlflow_plugins_pack.artifacts.store.commit_turns import CommitTurns
from mlflow_plugins_pack.artifacts.store.objects import StoreObjects
from mlflow_plugins_pack.artifacts.store.segment_io import SegmentIO, steady_seconds
from mlflow_plugins_pack.errors import PackError

_logger = logging.getLogger(__name__)

INLINE_SCOPE_BYTES = 1024 * 1024
"""From this size of a scope's manifest on, small files go to packs where entries are never joined:
a listing reads all of it."""

_KEPT_INLINE_BYTES = 1024 * 1024
"""Of a remembered scope with more bytes of small files than that, they are read when needed."""

JOIN_FROM_SEGMENTS = 64
"""A collection joins all segments of a scope that takes more than these to read."""

_READER_TRUST_SECONDS = 10
"""So long a reader takes for granted that the storage was not set back behind this process."""

_SEEN_SCOPES = 10_000
_HEADS_BYTES = 64 * 1024 * 1024
_HEAD_BYTES = 1000
_FILE_BYTES = 700
"""About the memory that a remembered scope takes, and each of its files."""


def _weight(head: Head) -> int:
    if head.view is None:
        return _HEAD_BYTES
    return _HEAD_BYTES + _FILE_BYTES * len(head.view.files) + head.view.inline_bytes


class _Heads:
    """What this process knows of scopes; safe to use by several threads at once."""

    def __init__(self) -> None:
        self._heads: LRUCache[str, Head] = LRUCache(_HEADS_BYTES, getsizeof=_weight)
        self._seen: LRUCache[str, tuple[int, float]] = LRUCache(_SEEN_SCOPES)
        self._guard = threading.Lock()

    def get(self, scope: str) -> Head | None:
        """Return what is remembered of a scope."""
        with self._guard:
            head: Head | None = self._heads.get(scope)
            return head

    def remember(self, scope: str, head: Head) -> None:
        """Remember a head, unless a later one is known."""
        if head.view is not None and head.view.inline_bytes > _KEPT_INLINE_BYTES:
            head = replace(head, view=head.view.without_bytes())
        with self._guard:
            known = self._heads.get(scope)
            if known is not None and known.number > head.number:
                return
            if known is not None and known.number == head.number and head.view is None:
                return
            # Of a run of more than some 100,000 files only the last number is kept.
            fits = _weight(head) <= _HEADS_BYTES
            self._heads[scope] = head if fits else replace(head, view=None)

    def forget(self, scope: str) -> None:
        """Forget a scope."""
        with self._guard:
            self._heads.pop(scope, None)

    def is_seen(self, scope: str, head: Head, seconds: float) -> bool:
        """Return whether a scope's last call was seen to be there so lately."""
        with self._guard:
            number, at = self._seen.get(scope, (0, 0.0))
        return number == head.number and time.monotonic() - at < seconds

    def note_seen(self, scope: str, number: int, at: float) -> None:
        """Note when a scope's last call was there."""
        with self._guard:
            self._seen[scope] = (number, at)


class Manifests:
    """Reads and changes the manifests of one store."""

    # Long: what is read, changed and joined all rests on what is remembered of a scope.

    def __init__(self, objects: StoreObjects) -> None:
        self._objects = objects
        self._io = SegmentIO(objects)
        self._heads = _Heads()
        self._turns = CommitTurns()

    # --- reading ---

    def view(self, scope: str, *, fresh: bool = False) -> View:
        """Return what a scope holds now. The view is shared: it must not be changed.

        Args:
            scope: Which one.
            fresh: Whether every segment is to be read, and nothing taken from memory.

        Raises:
            ArtifactCorruptError: If a segment is damaged or missing.
        """
        # Raises without the key of an encrypted store, which shows nothing then, known or not.
        _ = self._objects.sealer
        known = None
        if self._objects.format.is_numbered and not fresh:
            self._forget_lost(scope, _READER_TRUST_SECONDS)
            known = self._heads.get(scope)
        head = self._io.run(scope, reading.read(scope, known))
        if (
            known is not None
            and 0 < known.number < head.number
            and not self._io.is_same(scope, entry_name(known.number))
        ):
            # What followed does so on what is there now, which is not what was known.
            self.forget(scope)
            head = self._io.run(scope, reading.read(scope))
        self._remember(scope, head)
        assert head.view is not None  # noqa: S101 - reading returns one
        return head.view

    def remembered(self, scope: str) -> tuple[View, Future[bool]] | None:
        """Return what a scope held when it was last looked at, and whether that is still so.

        The second is asked for while the caller does something else. Nothing is returned where
        that is not known, or would take more than one request to find out.
        """
        _ = self._objects.sealer
        head = self._heads.get(scope)
        if head is None or head.view is None or not numbered.is_recent(head, steady_seconds()):
            return None
        return head.view, thread_pools.submit(self._is_last, scope, head)

    def _is_last(self, scope: str, head: Head) -> bool:
        now = steady_seconds()
        self._forget_lost(scope, _READER_TRUST_SECONDS)
        if self._heads.get(scope) is None or self._io.read(scope, entry_name(head.number + 1)):
            return False
        self._remember(scope, replace(head, seen_at=now))
        return True

    def segment_names(self, scope: str) -> list[str]:
        """Return the names of all segments of a scope, those that others hold too included."""
        return sorted(name for name in self._io.list(scope) if parse_segment_name(name))

    def takes_inline(self, scope: str) -> bool:
        """Return whether a scope's manifest may grow by small files' bytes, as far as is known."""
        return (
            self._objects.format.is_numbered or self._io.sizes.get(scope, 0) <= INLINE_SCOPE_BYTES
        )

    # --- changing ---

    def is_located(self, scope: str) -> bool:
        """Return whether `locate` would ask for nothing."""
        head = self._heads.get(scope)
        return (
            head is not None
            and numbered.is_recent(head, steady_seconds())
            and (not head.number or self._heads.is_seen(scope, head, self._objects.TRUST_SECONDS))
        )

    def locate(self, scope: str) -> None:
        """Find out after which call the next one would come, if that is not known already."""
        if self._objects.format.is_numbered:
            self._forget_lost(scope)
            known = self._heads.get(scope)
            self._remember(scope, self._io.run(scope, numbered.locate(scope, known)))

    def commit(self, scope: str, operations: Sequence[Operation]) -> None:
        """Make operations take effect, after everything that is committed by now.

        Raises:
            ArtifactLockedError: If one of them is on what is locked.
        """
        if not self._objects.format.is_numbered:
            self.change(scope, lambda _: operations, needs_view=False)
            return
        numbers: list[int] = []

        def commit(all_operations: Sequence[Operation]) -> None:
            numbers.append(self._commit(scope, lambda _: all_operations))

        self._turns.together(scope, operations, commit)
        for number in numbers:
            self._join_due(scope, number)

    def change(
        self, scope: str, decide: Decide, *, needs_view: bool = True, locks: bool = False
    ) -> None:
        """Make operations take effect that depend on what the scope holds.

        Args:
            scope: The scope that they change.
            decide: Given what it holds, returns the operations. It may be asked several times.
            needs_view: Whether it really needs the view.
            locks: Whether it returns a lock.

        Raises:
            ArtifactLockedError: If one of the operations is on what is locked.
        """
        if not self._objects.format.is_numbered:
            self._io.run(scope, listed.commit(scope, decide, needs_view=needs_view, locks=locks))
            return
        if needs_view:
            self._forget_lost(scope)
        with self._turns.alone(scope):
            number = self._commit(scope, decide, needs_view=needs_view, locks=locks)
        if locks:
            self._io.write_receipt_now(scope)
        self._join_due(scope, number)

    def _commit(
        self, scope: str, decide: Decide, *, needs_view: bool = False, locks: bool = False
    ) -> int:
        """Commit once; return the number of the last call after it."""
        protocol = numbered.commit(
            scope, decide, self._heads.get(scope), needs_view=needs_view, locks=locks
        )
        now = time.monotonic()
        known = self._heads.get(scope)
        head = self._io.run(scope, protocol)
        self._remember(scope, head)
        if known is None or head.number != known.number:
            self._heads.note_seen(scope, head.number, now)
        return head.number

    def refuse_locked(self, scope: str, operations: Sequence[Operation]) -> None:
        """Refuse operations on what is locked; a commit does, a caller may before it begins.

        Raises:
            ArtifactLockedError: With the lock's reason.
        """
        if self._objects.format.is_numbered:
            self.locate(scope)
            head = self._heads.get(scope)
            if head is not None and not head.has_locks:
                return
        reading.refuse_locked(scope, self.view(scope), operations)

    # --- joining ---

    def _join_due(self, scope: str, number: int) -> None:
        """Join what the writer of a call joins; done twice, it changes nothing."""
        for first, last in joins_due(number):
            self._try_to_join(scope, first, last)

    def tidy(self, scope: str) -> None:
        """Write the last call's receipt; join all segments of a scope that is empty or has many."""
        if not self._objects.format.is_numbered:
            return
        names = self._io.list(scope)
        plan = plan_reading(names)
        if not plan.missing:
            self._io.complete_receipts(scope, names, plan.head)
        if len(plan.names) > JOIN_FROM_SEGMENTS or (
            len(plan.names) > 1 and self.view(scope).is_empty()
        ):
            self._try_to_join(scope, 1, plan.head)

    def _try_to_join(self, scope: str, first: int, last: int) -> None:
        try:
            self._io.run(scope, numbered.join(first, last))
        except PackError:
            # The commit itself has succeeded; damage is for readers and fsck to report.
            _logger.debug("Calls of %r were not joined.", scope, exc_info=True)

    def removable(self, scope: str, now: float) -> list[str]:
        """Return the segments whose calls joined ones hold too, and have held for long enough.

        Args:
            scope: Which one.
            now: Seconds since 1970 by the storage's clock.
        """
        ages = {name: now - stored.modified for name, stored in self._io.list(scope).items()}
        standing = {n for n, age in ages.items() if age >= RETENTION_SECONDS}
        joined = superseded(ages, standing)
        if not joined:
            return []
        held = self._io.holders_in(scope, [name for name in ages if name not in set(joined)])
        return [n for n in joined if object_keys.segment_key(scope, n) not in held]

    def holder(self, key: str) -> Segment | None:
        """Return the entry that holds the bytes of small files, None if it does not exist.

        Raises:
            ArtifactCorruptError: If it is damaged.
        """
        scope = object_keys.scope_of_key(key)
        return None if scope is None else self._io.read(scope, key.rpartition("/")[2])

    def remove(self, scope: str, names: Sequence[str]) -> None:
        """Remove segments that are `removable`."""
        self._objects.backend.delete(self._io.key(scope, name) for name in names)

    # --- remembering ---

    def _forget_lost(self, scope: str, seconds: float = 0) -> None:
        """Forget a scope whose last call is not there, or another one: its storage was set back.

        A collection removes it as well, once it has been joined for long enough.
        """
        head = self._heads.get(scope)
        if head is None or not head.number:
            return
        if self._heads.is_seen(scope, head, max(seconds, self._objects.TRUST_SECONDS)):
            return
        now = time.monotonic()
        if not self._io.is_same(scope, entry_name(head.number)):
            self.forget(scope)
        else:
            self._heads.note_seen(scope, head.number, now)

    def _remember(self, scope: str, head: Head) -> None:
        if self._objects.format.is_numbered:
            self._heads.remember(scope, head)

    def forget(self, scope: str) -> None:
        """Forget what is remembered of a scope."""
        self._heads.forget(scope)
        self._io.forget(scope)

    # --- scopes ---

    def scopes_under(self, path: str) -> list[str]:
        """Return the scopes at or below a path that is not inside a scope."""
        return sorted(set(self._io.find_scopes(path)))

    def view_under(self, path: str) -> View:
        """Return everything at or below a path; the view's paths are relative to the store."""
        scope, _ = object_keys.split_scope(path)
        scopes = [scope]
        if not scope:
            scopes += [found for found in self.scopes_under(path) if found]
        whole = View()
        for found in scopes:
            view = self.view(found)
            for entry in view.files.values():
                whole.put(replace(entry, path=object_keys.join(found, entry.path)))
            for folder in view.folders:
                whole.add_folder(object_keys.join(found, folder))
        return whole
