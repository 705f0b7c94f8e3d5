"""Commits where the service replaces what it was asked to leave alone; pure.

Each writer's entry has a name of its own, and a number greater than all that it saw. An entry that
arrives late takes the place of its number: only calls that overlap can go either way. Such entries
are never joined, since a late one may lack. A lock carries what it binds.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlflow_plugins_pack.artifacts.commit.reading import read, read_names, refuse_locked
from mlflow_plugins_pack.artifacts.commit.requests import (
    CreateSegment,
    Decide,
    Head,
    ListNames,
    MarkLocked,
    NewWriter,
    Protocol,
    Wait,
)
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import (
    FileEntry,
    Folder,
    Lock,
    Operation,
    Unlock,
)
from mlflow_plugins_pack.artifacts.format.segment_names import (
    entry_name,
    is_lock_marker,
    last_number,
    parse_segment_name,
)
from mlflow_plugins_pack.artifacts.format.view import View
from mlflow_plugins_pack.errors import StorageUnavailableError

_COMMIT_TRIES = 1000


def commit(
    scope: str, decide: Decide, *, needs_view: bool = False, locks: bool = False
) -> Protocol[Head]:
    """Make operations take effect where the service replaces what it was asked to leave alone.

    Each writer's entry has a name of its own, and a number greater than all that it saw. An entry
    that arrives late takes the place of its number: only calls that overlap can go either way.
    Such entries are never joined, since a late one may lack. A lock carries what it binds. A
    writer, and likewise a locker, looks again after its write: of two that overlap one at least
    sees the other, the writer fails, and the locker tries again.

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
        # A lock that is there may be taken back by its locker: one more does no harm.
        operations = tuple(decide(view.without_locks() if view and locks else view))
        refuse_locked(scope, view, operations)
        if not operations:
            break
        name = entry_name(number + 1, (yield NewWriter()))
        yield CreateSegment(name, operations)
        after: Sequence[str] = yield ListNames()
        if not locks:
            if any(map(is_lock_marker, after)):
                head = yield from read(scope)
                _refuse_hidden(scope, head.view, operations)
            break
        if not any(parse_segment_name(n) for n in frozenset(after) - names - {name}):
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


def _refuse_hidden(scope: str, view: View | None, operations: Sequence[Operation]) -> None:
    """Refuse operations that a lock hides although they are written."""
    for operation in operations:
        lock = None if view is None else view.lock_on(operation)
        if view is None or lock is None or _took(view, operation):
            continue
        raise StorageUnavailableError(
            f"{object_keys.join(scope, lock.path)!r} was locked ({lock.reason}) while "
            f"{object_keys.join(scope, operation.path)!r} was written. It is not visible, but will "
            f"be if this lock is not completed. Look whether it is, and do not rely on it."
        )


def _took(view: View, operation: Operation) -> bool:
    """Return whether an operation took effect as far as a state shows it."""
    if isinstance(operation, FileEntry):
        return view.files.get(operation.path) == operation
    if isinstance(operation, Folder):
        return operation.path in view.folders
    return not any(True for _ in view.under(operation.path))
