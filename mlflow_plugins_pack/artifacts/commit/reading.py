"""Reads the state that all committed calls of a scope led to; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlflow_plugins_pack.artifacts.commit.requests import (
    HEAD_SECONDS,
    Clock,
    Head,
    ListNames,
    MissingSegmentsError,
    Protocol,
    ReadSegments,
    Wait,
)
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import Lock, Operation, Segment
from mlflow_plugins_pack.artifacts.format.segment_names import (
    calls_name,
    confirmed,
    entry_name,
    is_lock_marker,
    plan_reading,
)
from mlflow_plugins_pack.artifacts.format.view import View, advance, merge
from mlflow_plugins_pack.errors import ArtifactCorruptError, ArtifactLockedError

_PROBES = 4
_RELISTS = 5
_LISTING_WAIT = 2


def read(scope: str, known: Head | None = None) -> Protocol[Head]:
    """Return a head with a view that holds all that was committed before this was called.

    Raises:
        MissingSegmentsError: If segments are missing.
    """
    now = yield Clock()
    if known is not None and known.view is not None and now - known.seen_at < HEAD_SECONDS:
        head = replace(known, seen_at=now)
        for _ in range(_PROBES):
            (segment,) = yield ReadSegments((entry_name(head.number + 1),))
            if segment is None:
                return head
            head = advanced(head, segment)
    return (yield from _read_listed(scope))


def advanced(head: Head, segment: Segment) -> Head:
    """Return the head after one more entry."""
    view = None if head.view is None else advance(head.view, [segment.held()])
    has_locks = head.has_locks or any(isinstance(o, Lock) for o in segment.operations)
    seen = (*head.seen, (segment.name, segment.identity))
    return Head(segment.numbers.last, head.seen_at, has_locks, view, seen)


def _read_listed(scope: str) -> Protocol[Head]:
    head, _ = yield from read_names(scope)
    return head


def read_names(scope: str) -> Protocol[tuple[Head, frozenset[str]]]:
    """Return a head with a view, and the names that were listed for it."""
    missing: Sequence[tuple[int, int]] = ()
    for attempt in range(_RELISTS):
        now = yield Clock()
        names = yield ListNames()
        plan = plan_reading(names)
        missing = plan.missing
        if missing:
            # A listing made while others commit may show the later of two and not the earlier.
            yield Wait(_LISTING_WAIT + attempt)
            continue
        segments = yield ReadSegments(plan.names)
        if None in segments:
            # Removed between listing and reading: a joined one holds its calls by now.
            continue
        view = merge(segments, confirmed(names))
        has_locks = bool(view.locks) or any(map(is_lock_marker, names))
        seen = tuple((segment.name, segment.identity) for segment in segments[-2:])
        return Head(plan.head, now, has_locks, view, seen), frozenset(names)
    if missing:
        raise _missing(scope, missing)
    raise ArtifactCorruptError(
        f"The manifest of {scope or 'the store root'!r} keeps changing while it is read. Nothing "
        f"was changed. Try again."
    )


def list_names(scope: str) -> Protocol[Sequence[str]]:
    """Return the names of everything in a manifest of which no call is missing.

    Raises:
        MissingSegmentsError: If one is: what followed it could not be read.
    """
    for attempt in range(_RELISTS):
        names: Sequence[str] = yield ListNames()
        plan = plan_reading(names)
        if not plan.missing:
            return names
        yield Wait(_LISTING_WAIT + attempt)
    raise _missing(scope, plan.missing)


def _missing(scope: str, gaps: Sequence[tuple[int, int]]) -> MissingSegmentsError:
    keys = [object_keys.segment_key(scope, calls_name(first, last)) for first, last in gaps]
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return MissingSegmentsError(
        f"The manifest of {scope or 'the store root'!r} is incomplete: {keys[0]}{more} is "
        f"missing, though it was written, so what the manifest holds is unknown. Nothing was read "
        f"or changed. "
        f"Restore it from a backup; `mlflow-pack artifacts fsck` says what is lost, and with "
        f"`--repair-manifests` goes on without it.",
        gaps,
    )


def refuse_locked(scope: str, view: View | None, operations: Sequence[Operation]) -> None:
    """Refuse operations on what is locked.

    Raises:
        ArtifactLockedError: With the lock's reason.
    """
    for operation in operations:
        lock = None if view is None else view.lock_on(operation)
        if lock is not None:
            raise ArtifactLockedError(
                f"{object_keys.join(scope, operation.path) or 'Everything'!r} cannot be "
                f"changed: {object_keys.join(scope, lock.path)!r} is locked ({lock.reason}). "
                f"Nothing was changed. Log to another path or run; who locked it can release it."
            )
