"""The manifests of a store: what each run, model and trace holds, and how that changes.

What is decided, and why it is right, stands in `commit.numbered`; what a process learned of a scope
is remembered here for its next call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from mlflow_plugins_pack.artifacts import deferred, thread_pools
from mlflow_plugins_pack.artifacts.commit import listed, numbered, reading, set_back
from mlflow_plugins_pack.artifacts.commit.heads import Heads
from mlflow_plugins_pack.artifacts.commit.requests import (
    HEAD_SECONDS,
    RETENTION_SECONDS,
    Decide,
    Head,
)
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import Lock, Operation, Segment
from mlflow_plugins_pack.artifacts.format.segment_names import (
    entry_name,
    joined_name,
    joins_due,
    parse_segment_name,
    plan_reading,
    receipt_name,
    superseded,
)
from mlflow_plugins_pack.artifacts.format.view import View
from mlflow_plugins_pack.artifacts.store.commit_turns import CommitTurns
from mlflow_plugins_pack.artifacts.store.objects import StoreObjects
from mlflow_plugins_pack.artifacts.store.segment_io import SegmentIO, steady_seconds
from mlflow_plugins_pack.errors import PackError, StoreChangedError

# Long: what is read, changed and joined all rests on what is remembered of a scope.

_logger = logging.getLogger(__name__)

INLINE_SCOPE_BYTES = 1024 * 1024
"""From this size of a scope's manifest on, small files go to packs where entries are never joined:
a listing reads all of it."""

JOIN_FROM_SEGMENTS = 64
"""A collection joins all segments of a scope that takes more than these to read."""

_SET_BACK_TRIES = 5

_NEAR_SECONDS = 0.01
"""Of a storage that creates an entry in less, two requests take less one after the other than the
processor's work for a third one."""


def _without(head: Head, known: Head | None) -> Head:
    """Return a head with nothing more to look for than followed what was known and is there."""
    asked = known.seen if known is not None else ()
    # One that was read or listed again does not rest on what was asked for.
    if not asked or head.seen[: len(asked)] != asked:
        return head
    return replace(head, seen=head.seen[len(asked) - 1 :])


def _follows(head: Head, known: Head) -> bool:
    """Return whether a head was reached from a known one, call by call."""
    is_next = bool(known.seen) or head.number <= known.number + 1
    return is_next and head.seen[: len(known.seen)] == known.seen


class Manifests:
    """Reads and changes the manifests of one store."""

    # Long: all of it rests on what is remembered of a scope.

    def __init__(self, objects: StoreObjects) -> None:
        self._objects = objects
        self._io = SegmentIO(objects)
        self._heads = Heads()
        self._turns = CommitTurns()
        self._create_seconds = 0.0

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
        known = None if fresh else self._recent(scope)
        is_there = self._ask_for(scope, known)
        head = self._io.run(scope, reading.read(scope, known))
        if is_there():
            head = _without(head, known)
        else:
            # The storage was set back: what may have followed does not follow what was known.
            self.forget(scope)
            head = self._io.run(scope, reading.read(scope))
        self._remember(scope, head)
        assert head.view is not None  # noqa: S101 - reading returns one
        return head.view

    def remembered(self, scope: str) -> tuple[View, Callable[[], bool]] | None:
        """Return what a scope held when it was last looked at, and what says if that is still so.

        That is asked for while the caller does something else. Nothing is returned where it would
        take more than one round trip to find out.
        """
        _ = self._objects.sealer
        head, now = self._recent(scope), steady_seconds()
        if head is None or head.view is None:
            return None
        is_there = self._ask_for(scope, head)
        following = thread_pools.ask(self._io.read, scope, entry_name(head.number + 1))

        def is_last() -> bool:
            if not is_there():
                self.forget(scope)
                return False
            if following.result() is not None:
                return False
            self._remember(scope, replace(_without(head, head), seen_at=now))
            return True

        return head.view, is_last

    def _recent(self, scope: str) -> Head | None:
        """Return what is remembered of a scope, if it holds unless later calls are there."""
        head = self._heads.get(scope)
        if head is None or head.view is None or not numbered.is_recent(head, steady_seconds()):
            return None
        return head

    def _ask_for(self, scope: str, head: Head | None) -> Callable[[], bool]:
        """Begin to ask whether what was seen of a scope is there; return what says if it is."""
        if head is None or not head.number:
            return lambda: True
        asking = [partial(self._io.is_there, scope, *seen) for seen in head.seen]
        if self._objects.backend.is_remote:
            asked = [thread_pools.ask(ask) for ask in asking]
            return lambda: all(answer.result() for answer in asked)
        return lambda: all(ask() for ask in asking)

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
        """Return whether it is known after which call the next one would come.

        While the next one is committed, it is asked whether that call is still there.
        """
        head = self._heads.get(scope)
        # While the first one was committed the store itself may have been wiped.
        return head is not None and head.number > 1 and numbered.is_recent(head, steady_seconds())

    def locate(self, scope: str) -> None:
        """Find out after which call the next one would come, if that is not known already."""
        if self._objects.format.is_numbered:
            known = self._still_there(scope)
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
        with self._turns.alone(scope):
            number = self._commit(scope, decide, needs_view=needs_view, locks=locks)
        if locks:
            self._io.write_receipt_now(scope)
        self._join_due(scope, number)

    def _commit(
        self, scope: str, decide: Decide, *, needs_view: bool = False, locks: bool = False
    ) -> int:
        """Commit once, after everything that is committed; return the number of the last call.

        Whether what is known of the scope is still so is asked before, if operations depend on it,
        and again when the entry is there. Else it is asked at the same time, or afterwards where
        the storage is near, which leaves less to ask at the next call.
        """
        decided: Sequence[Operation] = ()

        def note(view: View | None) -> Sequence[Operation]:
            nonlocal decided
            decided = decide(view)
            return decided

        for _ in range(_SET_BACK_TRIES):
            known = self._still_there(scope) if needs_view else self._heads.get(scope)
            # The calls before do not say whether the store itself is there.
            is_unsure = known is None or (needs_view and known.number <= 1)
            if is_unsure and self._objects.format.is_encrypted:
                # No process of another store could read what is created now.
                self._objects.confirm_identity()
            is_late = needs_view or self._create_seconds < _NEAR_SECONDS
            is_there = self._ask_for(scope, None if is_late else known)
            began = steady_seconds()
            try:
                head = self._io.run(
                    scope,
                    numbered.commit(scope, note, known, needs_view=needs_view, locks=locks),
                )
            except PackError:
                if needs_view or (self._ask_for(scope, known) if is_late else is_there)():
                    raise
                # What is known of locks and numbers is of no use.
                self.forget(scope)
                continue
            if is_late:
                is_there = self._ask_for(scope, replace(head, seen=head.seen[:-1]))
            if not needs_view:
                self._create_seconds = (self._create_seconds + steady_seconds() - began) / 2
            # Nor do calls that were listed meanwhile: a storage that was wiped may have taken them.
            is_other = known is not None and not _follows(head, known)
            if is_there() and not ((is_unsure or is_other) and self._is_replaced()):
                if is_other:
                    self.forget(scope)
                head = replace(head, seen=head.seen[-1:]) if is_late else _without(head, known)
                self._remember(scope, head)
                if not is_late:
                    # The next call does as well, unless it only reads, or finds itself set back.
                    look = partial(self._look_again, scope, head)
                    deferred.later((id(self), scope, "look"), look)
                return head.number
            self.forget(scope)
            if not decided:
                # Raises where there is another store now.
                self._objects.confirm_identity()
            elif self._settle(scope, head, decided):
                if needs_view:
                    raise set_back.unknown(scope)
                return head.number
        raise set_back.unknown(scope)

    def _is_replaced(self) -> bool:
        """Return whether this store is no longer there."""
        try:
            self._objects.confirm_identity()
        except StoreChangedError:
            return True
        return False

    def _look_again(self, scope: str, head: Head) -> None:
        """Look for the calls before an entry now that it is there.

        The storage may have been set back while it was being created. No call may follow it then.
        """
        if all(self._io.is_there(scope, *seen) for seen in head.seen[:-1]):
            self._heads.note_there(scope, head)
        else:
            self.forget(scope)
            self._settle(scope, head, ())

    def _settle(self, scope: str, head: Head, operations: Sequence[Operation]) -> bool:
        """Return whether an entry takes effect that was created after a call that is gone.

        Raises:
            StoreChangedError: If the store itself is gone.
        """
        locks = any(isinstance(operation, Lock) for operation in operations)
        try:
            self._objects.confirm_identity()
        except StoreChangedError as exc:
            if self._objects.format.is_encrypted:
                # No process of another store could read it, so that none has built on it.
                entry = entry_name(head.number)
                self.remove(scope, [entry, receipt_name(entry)])
                raise
            is_store = self._objects.holds_a_store()
            if self._io.run(scope, set_back.settle(scope, head, may_fill=is_store, locks=locks)):
                raise StoreChangedError(set_back.unknown(scope).message) from exc
            raise
        if not self._io.run(scope, set_back.settle(scope, head, locks=locks)):
            return False
        view = self.view(scope, fresh=True)
        if any(view.lock_on(operation) is not None for operation in operations):
            raise set_back.unknown(scope)
        return True

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
            if not self._try_to_join(scope, first, last):
                break

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

    def _try_to_join(self, scope: str, first: int, last: int) -> bool:
        """Return whether the calls are still there that were to be joined."""
        try:
            head, began = self._heads.get(scope), steady_seconds()
            is_new = self._io.run(scope, numbered.join(first, last))
            is_there = self._ask_for(scope, head)
            # So soon no collection has removed what was joined: the storage was set back, and these
            # are not the calls that it holds.
            if is_new and not is_there() and steady_seconds() - began < HEAD_SECONDS:
                self.remove(scope, [joined_name(first, last)])
                return False
        except PackError:
            # The commit itself has succeeded; damage is for readers and fsck to report.
            _logger.debug("Calls of %r were not joined.", scope, exc_info=True)
        return True

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

    def _still_there(self, scope: str) -> Head | None:
        """Return what is remembered of a scope; forget it if the storage was set back.

        A collection removes the last call as well, once it has been joined for long enough.
        """
        head = self._heads.get(scope)
        # Not in other threads, since this is called in one of a pool.
        if head is None or not head.number:
            return head
        if not all(self._io.is_there(scope, *seen) for seen in head.seen):
            self.forget(scope)
            return None
        return _without(head, head)

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
