"""What becomes of an entry whose writer learns that the call before it is gone; pure.

An operator may wipe a storage, or set it back to an older state, under a running process. The
process reads whether the last call that it knows is still there at the same time as it creates the
next entry, which may then stand behind numbers that do not exist any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlflow_plugins_pack.artifacts.commit.requests import (
    Clock,
    CreateSegment,
    Head,
    Identify,
    ListNames,
    MarkLocked,
    Protocol,
    Remove,
)
from mlflow_plugins_pack.artifacts.format.segment_names import (
    entry_name,
    lost_entries,
    plan_reading,
    receipt_name,
)
from mlflow_plugins_pack.errors import StorageUnavailableError

_MOST_FILLED = 100
"""So many missing calls at most are replaced, one request each."""

_ROUNDS = 5

_WITHDRAW_SECONDS = 5
"""For so long after it was seen that calls before an entry are missing it may be removed: before
others can build on it they have to make those calls, and more than `_MOST_FILLED` take longer."""


def settle(scope: str, head: Head, *, may_fill: bool = True, locks: bool = False) -> Protocol[bool]:
    """Make an entry count that was created after a call that is gone, or remove it.

    Calls that are missing before it are replaced by calls that change nothing: others may already
    have made some of them, and have built on the entry, and then nothing is taken from them.

    Args:
        scope: The scope that it is in.
        head: The head that it made.
        may_fill: Whether that may be done: not where no store is any more.
        locks: Whether the entry holds a lock, whose marker may be gone.

    Returns:
        Whether it is there, and counts.

    Raises:
        StorageUnavailableError: If it is unknown whether it may still be removed.
    """
    number, (name, identity) = head.number, head.seen[-1]
    is_entry, made = True, None
    is_marked = locks and may_fill
    if is_marked:
        yield MarkLocked()
    lowest = number
    for _ in range(_ROUNDS):
        began = yield Clock()
        names: Sequence[str] = yield ListNames()
        if (yield Identify(name)) != identity:
            if made is None:
                return False
            # Set back once more. What was created here meanwhile may itself stand behind missing
            # calls now, and no reader could tell those from lost ones.
            number, name, identity = made
            lowest, is_entry, made = number, False, None
            continue
        missing = plan_reading(names, until=number).missing
        if not missing:
            return is_entry
        first, last = missing[-1]
        # What a receipt or a later call shows was lost, not set back: readers are to name it.
        is_lost = len(missing) > 1 or last != lowest - 1
        is_lost |= bool(lost_entries([n for n in names if n != name]))
        if is_lost or not may_fill or last - first >= _MOST_FILLED:
            if (yield Clock()) - began > _WITHDRAW_SECONDS:
                raise unknown(scope)
            # The one that was lost may have a receipt, which took this one for its entry.
            yield Remove((name, receipt_name(name)))
            return False
        if not is_marked:
            # Before the calls that make it count, or another process's entry after it, which may
            # hold a lock: a listing that shows those shows the marker too.
            is_marked = True
            yield MarkLocked()
        for gone in range(first, lowest):
            created = yield CreateSegment(entry_name(gone), ())
            if created is not None:
                made = (gone, created.name, created.identity)
        # Should the storage be set back again meanwhile, there are more.
        lowest = first
    raise unknown(scope)


def unknown(scope: str) -> StorageUnavailableError:
    """Return the error for a change of which it is unknown whether it took effect."""
    return StorageUnavailableError(
        f"The storage was set back while {scope or 'the store root'!r} was being changed. Whether "
        f"the change took effect is unknown. Look whether it did, and repeat it if not."
    )
