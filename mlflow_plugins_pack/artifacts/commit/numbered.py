"""The order of a scope's calls: the decisions, apart from input and output; pure.

Every function here is a generator that yields requests to the storage and is sent their answers,
so that the model check of ``tests.artifacts.support.commit_model`` runs this very code through
every order of events.

**The rule.** A call takes the number after the last one and creates the entry of that name, which
the service does for one writer only. So

* the writer of entry n + 1 created it when the entries 1 to n existed and no other: it knows
  what it changes, locks included, and takes effect right then;
* a call that starts after another returned finds that one's number taken, and gets a larger one;
* a number that is missing among the others is a lost object, and its name is known; a receipt,
  which is written a little later, names the last one;
* what several entries changed together is a function of them alone, so joining them takes
  nothing away from any writer, whichever process does it, when, and how often.

**What rests on time.** A process that knows entry n as the last one need not ask again before it
creates n + 1, unless a collection has removed a joined entry n + 1 meanwhile. A collection removes
only what has been joined for `RETENTION_SECONDS` by the storage's clock, and a process trusts what
it knows for `HEAD_SECONDS` by its own; only lengths of time are compared, never times of day.

Services that cannot create exclusively are served by `listed`.
"""

from __future__ import annotations

from dataclasses import replace

from mlflow_plugins_pack.artifacts.commit.reading import (
    advanced,
    list_names,
    read,
    refuse_locked,
)
from mlflow_plugins_pack.artifacts.commit.requests import (
    HEAD_SECONDS,
    RETENTION_SECONDS,
    Clock,
    CreateSegment,
    Decide,
    Head,
    Identify,
    ListAges,
    ListNames,
    MarkLocked,
    Protocol,
    ReadSegments,
    Remove,
    Wait,
)
from mlflow_plugins_pack.artifacts.format.segment_names import (
    entry_name,
    is_lock_marker,
    joined_name,
    last_number,
    parse_segment_name,
    pieces_of,
    plan_reading,
    superseded,
)
from mlflow_plugins_pack.artifacts.format.view import net_effect
from mlflow_plugins_pack.errors import PackError, StorageUnavailableError

_COMMIT_TRIES = 1000
_RELISTS = 5


def is_recent(known: Head, now: float) -> bool:
    """Return whether a head may still be taken for the last one until a creation says otherwise."""
    return now - known.seen_at < HEAD_SECONDS


def locate(scope: str, known: Head | None) -> Protocol[Head]:
    """Return the number to commit after; it is asked for only if it is not known.

    Raises:
        MissingSegmentsError: If the last call is lost: its number must not be given again.
    """
    now = yield Clock()
    if known is not None and is_recent(known, now):
        return known
    for _ in range(_RELISTS):
        names = yield from list_names(scope)
        head = Head(last_number(names), now, any(map(is_lock_marker, names)))
        seen: list[tuple[str, bytes]] = []
        # The one before it, too: if the storage was wiped after the listing, another writer may
        # have created the last number again, but not yet learned that those before it are gone.
        last = plan_reading(names).names[-2:]
        for name in last:
            identity = yield Identify(name)
            # Else it was removed meanwhile: a joined one holds its calls by now.
            if identity is not None:
                seen.append((name, identity))
        if len(seen) == len(last):
            return replace(head, seen=tuple(seen))
    raise StorageUnavailableError(
        f"{scope or 'The store root'!r} keeps changing while it is listed. Nothing was changed. "
        f"Try again."
    )


def commit(
    scope: str,
    decide: Decide,
    known: Head | None = None,
    *,
    needs_view: bool = False,
    locks: bool = False,
) -> Protocol[Head]:
    """Make operations take effect, after everything that was committed before this was called.

    Args:
        scope: The scope that they change.
        decide: Given what the scope holds, returns the operations; none if nothing is to be done.
            It may be asked several times, and is given None while the view is not needed.
        known: What this process knows of the scope.
        needs_view: Whether it has to be known what the scope holds.
        locks: Whether one of the operations is a lock.

    Returns:
        The head after the call.

    Raises:
        ArtifactLockedError: If a lock forbids one of them; nothing was changed.
        StorageUnavailableError: If other writers were faster too often; nothing was changed. Or if
            the call took so long that whether it took effect is unknown.
    """
    if locks:
        # Before the lock itself: a listing that shows the lock's number shows the marker too.
        yield MarkLocked()
    head = yield from locate(scope, known)
    is_fresh = head is not known
    for attempt in range(_COMMIT_TRIES):
        if head.view is None and (needs_view or head.has_locks):
            head, is_fresh = (yield from read(scope)), True
        try:
            operations = tuple(decide(head.view))
            refuse_locked(scope, head.view, operations)
        except PackError:
            if is_fresh:
                raise
            operations = ()
        if not operations:
            # Without an entry of one's own nothing proves that what was known is still so.
            if is_fresh:
                return head
            head, is_fresh = (yield from read(scope, head)), True
            continue
        name = entry_name(head.number + 1)
        created = yield CreateSegment(name, operations)
        if created is not None:
            yield from _confirm(scope, head)
            after = advanced(head, created)
            return replace(after, has_locks=after.has_locks or locks)
        yield Wait(attempt)
        head = (yield from read(scope, head)) if head.view else (yield from locate(scope, None))
        is_fresh = True
    raise StorageUnavailableError(
        f"{_COMMIT_TRIES} times another writer committed to {scope or 'the store root'!r} first. "
        f"Nothing was changed. Try again, with fewer processes at once."
    )


def _confirm(scope: str, head: Head) -> Protocol[None]:
    """Make sure that an entry just created does not repeat one that was joined and removed."""
    now = yield Clock()
    if now - head.seen_at < 2 * HEAD_SECONDS:
        return
    names = yield ListNames()
    parsed = (p for p in map(parse_segment_name, names) if p is not None and p.is_joined)
    if any(segment.first <= head.number + 1 <= segment.last for segment in parsed):
        raise StorageUnavailableError(
            f"A change of {scope or 'the store root'!r} was under way for so long that it is "
            f"unknown whether it took effect. Look whether it did, and repeat it if not."
        )


# --- joining --------------------------------------------------------------------------------------


def join(first: int, last: int) -> Protocol[bool]:
    """Put the entries from the first to the last together; return whether this wrote a segment."""
    # They exist, since there are no gaps, unless a collection has removed some that are joined.
    segments = yield ReadSegments(pieces_of(first, last), are_just_written=True)
    if None in segments:
        names = yield ListNames()
        inside = [n for n in names if (p := parse_segment_name(n)) and p.first >= first]
        plan = plan_reading(inside, first - 1, last)
        segments = [] if plan.missing else (yield ReadSegments(plan.names))
        if plan.missing or None in segments:
            return False
    operations = [operation for segment in segments for operation in segment.operations]
    name = joined_name(first, last)
    return (yield CreateSegment(name, net_effect(operations, whole=first == 1))) is not None


def remove_joined(retention_seconds: float = RETENTION_SECONDS) -> Protocol[int]:
    """Remove the segments that a joined one has stood for long enough; return how many."""
    ages = yield ListAges()
    standing = {name for name, age in ages.items() if age >= retention_seconds}
    removing = superseded(ages, standing)
    if removing:
        yield Remove(tuple(removing))
    return len(removing)
