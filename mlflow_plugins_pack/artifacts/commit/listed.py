"""Commits where the service replaces what it was asked to leave alone; pure.

Each writer's entry has a name of its own, and a number greater than all that it saw. An entry that
arrives late takes the place of its number: only calls that overlap can go either way. Such entries
are never joined, since a late one may lack. A lock carries what it binds, and holds once its
receipt is there, which its locker writes when it has seen that it missed nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from mlflow_plugins_pack.artifacts.commit.reading import read, read_names, refuse_locked
from mlflow_plugins_pack.artifacts.commit.requests import (
    Clock,
    Confirm,
    CreateSegment,
    Decide,
    Head,
    ListAges,
    ListNames,
    MarkLocked,
    NewWriter,
    Protocol,
    ReadSegments,
    Wait,
)
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import (
    FileEntry,
    Folder,
    Lock,
    Operation,
    Segment,
    Unlock,
)
from mlflow_plugins_pack.artifacts.format.segment_names import (
    confirmed,
    entry_name,
    is_lock_marker,
    last_number,
    parse_segment_name,
)
from mlflow_plugins_pack.artifacts.format.view import View, merge, voided_entries
from mlflow_plugins_pack.errors import StorageUnavailableError

_COMMIT_TRIES = 1000

LOCK_SECONDS = 600
"""A lock without a receipt that is older than this, by the storage's clock, was never completed."""


def commit(
    scope: str, decide: Decide, *, needs_view: bool = False, locks: bool = False
) -> Protocol[Head]:
    """Make operations take effect where the service replaces what it was asked to leave alone.

    Each writer's entry has a name of its own, and a number greater than all that it saw. An entry
    that arrives late takes the place of its number: only calls that overlap can go either way.
    Such entries are never joined, since a late one may lack. A lock carries what it binds. A
    writer, and likewise a locker, looks again after its write: of two that overlap one at least
    sees the other, the writer fails, and the locker takes its lock back and tries again. A locker
    that saw none writes the receipt with which its lock holds.

    Raises:
        ArtifactLockedError: If a lock forbids one of the operations; they changed nothing.
        StorageUnavailableError: If a lock was being taken meanwhile: whether the operations take
            effect is unknown.
    """
    if locks:
        yield MarkLocked()
    for attempt in range(_COMMIT_TRIES):
        listed: Sequence[str] = yield ListNames()
        number, names, view = last_number(listed), frozenset(listed), None
        if needs_view or any(map(is_lock_marker, listed)):
            head, names = yield from read_names(scope)
            number, view = head.number, head.view
        operations = tuple(decide(view))
        refuse_locked(scope, view, operations)
        if not operations:
            break
        name = entry_name(number + 1, (yield NewWriter()))
        began = yield Clock()
        yield CreateSegment(name, operations)
        if not locks:
            yield from _refuse_overlapping(scope, name, operations)
            break
        after: Sequence[str] = yield ListNames()
        missed = any(parse_segment_name(n) for n in frozenset(after) - names - {name})
        if not missed and (yield Clock()) - began < LOCK_SECONDS / 2:
            yield Confirm(name)
            break
        # An entry that this lock does not bind may have been acknowledged before the lock.
        undone = tuple(
            Unlock(o.path, o.reason, voids=name) for o in operations if isinstance(o, Lock)
        )
        yield CreateSegment(entry_name(last_number(after) + 1, (yield NewWriter())), undone)
        yield Wait(attempt)
    else:
        raise StorageUnavailableError(
            f"{scope or 'The store root'!r} is changed so often that it cannot be locked. Nothing "
            f"was locked. Try again once the writers are done."
        )
    return (yield from read(scope)) if needs_view else Head(0, 0, has_locks=True)


def _refuse_overlapping(scope: str, name: str, operations: Sequence[Operation]) -> Protocol[None]:
    """Refuse operations that a lock hides, or may hide, although they are written.

    Args:
        scope: The scope that they change.
        name: Of the entry with the operations.
        operations: What was written.

    Raises:
        StorageUnavailableError: If a lock was being taken meanwhile.
    """
    ages: Mapping[str, float] = yield ListAges()
    if not any(map(is_lock_marker, ages)):
        return
    names = sorted(n for n in ages if parse_segment_name(n))
    read_segments: Sequence[Segment | None] = yield ReadSegments(tuple(names))
    segments = [segment for segment in read_segments if segment is not None]
    receipts, voided = confirmed(ages), voided_entries(segments)

    def state_before(entry: str) -> View:
        return merge((s for s in segments if s.name < entry), receipts)

    held = state_before(name)
    for operation in operations:
        if (lock := held.lock_on(operation)) is not None:
            raise _hidden(scope, lock, operation)
    for segment in segments:
        locks = [o for o in segment.operations if isinstance(o, Lock)]
        if not locks or segment.name in voided:
            continue
        is_held = segment.name in receipts
        if ages[segment.name] >= LOCK_SECONDS if not is_held else segment.name < name:
            continue
        seen = state_before(segment.name)
        for lock, operation in itertools.product(locks, operations):
            if View(locks={lock}).lock_on(operation) is None:
                continue
            if not is_held:
                raise _pending(scope, lock, operation)
            if _took(seen, operation) and not _took(_bound(lock), operation):
                raise _hidden(scope, lock, operation)


def _pending(scope: str, lock: Lock, operation: Operation) -> StorageUnavailableError:
    return StorageUnavailableError(
        f"{object_keys.join(scope, lock.path)!r} is being locked ({lock.reason}) while "
        f"{object_keys.join(scope, operation.path)!r} was written. Whether that takes effect is "
        f"unknown. Look whether it did, and repeat it if not."
    )


def _hidden(scope: str, lock: Lock, operation: Operation) -> StorageUnavailableError:
    return StorageUnavailableError(
        f"{object_keys.join(scope, lock.path)!r} was locked ({lock.reason}) while "
        f"{object_keys.join(scope, operation.path)!r} was written, which has no effect. Log to "
        f"another path or run; who locked it can release it."
    )


def _bound(lock: Lock) -> View:
    """Return what a lock binds."""
    view = View()
    view.apply(lock.binds)
    return view


def _took(view: View, operation: Operation) -> bool:
    """Return whether an operation took effect as far as a state shows it."""
    if isinstance(operation, FileEntry):
        return view.files.get(operation.path) == operation
    if isinstance(operation, Folder):
        return view.has_folder(operation.path)
    return not any(True for _ in view.under(operation.path))
