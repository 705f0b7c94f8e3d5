"""Names of manifest segments, and which segments make up a scope's state; pure.

Committed calls of a scope are numbered from 1, without gaps. A name says which of them a segment
holds::

    000000000042                      an entry: the 42nd call
    000000000042-abcdefghijklmnop     an entry of a store whose service cannot create exclusively
    000000000033-000000000064         a joined segment: the calls 33 to 64, put together
    lock-<ULID>, lock-<ULID>-2        markers: the scope has, or had, a lock; each stands for both
    receipt-<name of an entry>        that entry was written: should it be lost, this tells; two of
                                      them, the other with -2 at the end, where a lock holds with it
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

JOIN_SPAN = 16
"""So many entries, and so many joined segments of one size, are put together into the next size."""

_NAME = re.compile(r"(?P<first>\d{12})(?:-(?P<last>\d{12})|-(?P<writer>[a-z2-7]{16}))?")
_MARKER = re.compile(r"(lock-[0-9A-HJKMNP-TV-Z]{26})(-2)?")
_RECEIPT, _SECOND = "receipt-", "-2"


@dataclass(frozen=True)
class SegmentName:
    """Which calls a segment holds.

    Attributes:
        first, last: Numbers of its first and last call.
        writer: Chosen at random, where two writers may take the same number.
    """

    first: int
    last: int
    writer: str = ""

    def __str__(self) -> str:
        if self.first != self.last:
            return f"{self.first:012}-{self.last:012}"
        return f"{self.first:012}-{self.writer}" if self.writer else f"{self.first:012}"

    @property
    def is_joined(self) -> bool:
        """Whether it holds several calls."""
        return self.first != self.last


def entry_name(number: int, writer: str = "") -> str:
    """Return the name of the entry with a number."""
    return str(SegmentName(number, number, writer))


def joined_name(first: int, last: int) -> str:
    """Return the name of the segment that holds the calls from the first to the last."""
    return str(SegmentName(first, last))


def calls_name(first: int, last: int) -> str:
    """Return the name of the segment that holds exactly these calls."""
    return entry_name(first) if first == last else joined_name(first, last)


def parse_segment_name(name: str) -> SegmentName | None:
    """Return what a segment's name says; None for a name of another form."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    first = int(match["first"])
    last = first if match["last"] is None else int(match["last"])
    if first < 1 or last < first or (match["last"] is not None and last == first):
        return None
    return SegmentName(first, last, match["writer"] or "")


def lock_markers(ulid: str) -> tuple[str, str]:
    """Return the names of two objects that say: look for locks. One of them may be lost."""
    return f"lock-{ulid}", f"lock-{ulid}-2"


def is_lock_marker(name: str) -> bool:
    """Return whether an object says that the scope has, or had, locks."""
    return _MARKER.fullmatch(name) is not None


def lost_markers(names: Collection[str]) -> list[str]:
    """Return the lock markers of which only the other one of the two is there."""
    found = [match for match in map(_MARKER.fullmatch, names) if match]
    pairs = {name for match in found for name in (match[1], f"{match[1]}-2")}
    return sorted(pairs.difference(names))


def receipt_name(entry: str) -> str:
    """Return the name of the receipt of an entry, which says that it was written."""
    return _RECEIPT + entry


def lock_receipts(entry: str) -> tuple[str, str]:
    """Return the names of the two receipts of an entry whose lock holds with one of them."""
    return receipt_name(entry), receipt_name(entry) + _SECOND


def entry_of_receipt(name: str) -> SegmentName | None:
    """Return which entry an object says was written; None for a name of another form."""
    if not name.startswith(_RECEIPT):
        return None
    entry = parse_segment_name(name[len(_RECEIPT) :].removesuffix(_SECOND))
    return None if entry is None or entry.is_joined else entry


def confirmed(names: Iterable[str]) -> frozenset[str]:
    """Return the names of the entries that have a receipt."""
    return frozenset(str(entry) for entry in map(entry_of_receipt, names) if entry is not None)


def is_own_name(name: str) -> bool:
    """Return whether an object of this name belongs to a manifest."""
    return any(form(name) for form in (parse_segment_name, is_lock_marker, entry_of_receipt))


def lost_entries(names: Collection[str]) -> list[SegmentName]:
    """Return the entries that a receipt names, and that no later one and no joined segment shows.

    Args:
        names: Of everything in the manifest.
    """
    last = last_number(names)
    found = [entry for entry in map(entry_of_receipt, names) if entry is not None]
    # An entry of its own name, with a writer, is never joined; any other is, with its number.
    return sorted(
        (e for e in found if (str(e) not in names if e.writer else e.first > last)),
        key=lambda entry: (entry.first, entry.writer),
    )


def outdated_receipts(names: Iterable[str]) -> list[str]:
    """Return the receipts of numbered entries that a later one makes needless."""
    found = [e for e in map(entry_of_receipt, names) if e is not None and not e.writer]
    newest = max((entry.first for entry in found), default=0)
    return [receipt_name(str(entry)) for entry in found if entry.first < newest]


def last_number(names: Iterable[str]) -> int:
    """Return the number of the last call that a listing shows; 0 if it shows none."""
    return max((parsed.last for parsed in map(parse_segment_name, names) if parsed), default=0)


@dataclass(frozen=True)
class ReadingPlan:
    """Which segments to read, and what is missing.

    Attributes:
        names: In the order in which they take effect.
        head: Number of the last call.
        missing: Calls that no segment holds: first and last number of each gap.
    """

    names: tuple[str, ...]
    head: int
    missing: tuple[tuple[int, int], ...] = ()


def plan_reading(names: Iterable[str], after: int = 0, until: int | None = None) -> ReadingPlan:
    """Choose as few segments as possible that together hold all calls.

    A joined segment may begin before the last call that was already read: the net effect of calls
    33 to 64 leads from the state after call 50 to the state after call 64 too.

    Args:
        names: Of everything that is there.
        after: The last call that the reader already knows.
        until: The last call to read; by default the last there is, or that a receipt names.
    """
    names = frozenset(names)
    entries: dict[int, list[str]] = {}
    joined: list[SegmentName] = []
    for name in names:
        parsed = parse_segment_name(name)
        if parsed is None or (until is not None and parsed.last > until):
            continue
        if parsed.is_joined:
            joined.append(parsed)
        else:
            entries.setdefault(parsed.first, []).append(name)
    joined.sort(key=lambda segment: (segment.first, segment.last))
    head = max([after, *entries, *(segment.last for segment in joined)])
    if until is not None:
        head = until
    chosen: list[str] = []
    missing: list[tuple[int, int]] = []
    known, place, best = after, 0, SegmentName(0, 0)
    while known < head:
        while place < len(joined) and joined[place].first <= known + 1:
            best = max(best, joined[place], key=lambda segment: segment.last)
            place += 1
        if best.last > known + 1 or (best.last > known and known + 1 not in entries):
            chosen.append(str(best))
            known = best.last
        elif known + 1 in entries:
            chosen += sorted(entries[known + 1])
            known += 1
        else:
            starts = (n for n in (*entries, *(s.first for s in joined)) if n > known)
            following = min(starts, default=head + 1)
            missing.append((known + 1, following - 1))
            known = following - 1
    if until is None:
        gone = lost_entries(names)
        if gone and gone[-1].first > head:
            missing.append((head + 1, gone[-1].first))
        missing += [(entry.first, entry.first) for entry in gone if entry.writer]
        head = max([head, *(last for _, last in missing)])
    return ReadingPlan(tuple(chosen), head, tuple(missing))


def bytes_to_read(sizes: Mapping[str, int]) -> int:
    """Return how many bytes of segments a reader needs who knows none of them.

    Args:
        sizes: Size of each segment in bytes, by name.
    """
    return sum(sizes[name] for name in plan_reading(sizes).names)


def joins_due(number: int) -> Iterator[tuple[int, int]]:
    """Return the ranges of calls that the writer of a call puts together.

    As in a log-structured merge tree each call is written once more per level, so that a reader
    needs some 16 segments a level at most.
    """
    span = JOIN_SPAN
    while number and number % span == 0:
        yield number - span + 1, number
        span *= JOIN_SPAN


def pieces_of(first: int, last: int) -> tuple[str, ...]:
    """Return the segments one size smaller that a joined one is put together from."""
    span = 1
    while span * JOIN_SPAN < last - first + 1:
        span *= JOIN_SPAN
    starts = range(first, last + 1, span)
    return tuple(str(SegmentName(n, min(n + span - 1, last))) for n in starts)


def superseded(names: Iterable[str], standing: Collection[str]) -> list[str]:
    """Return the segments whose calls a larger one holds too, in order.

    Args:
        names: Of all segments.
        standing: Those joined ones that have been there for long enough to rely on.
    """
    parsed = [found for found in map(parse_segment_name, names) if found is not None]
    parsed.sort(key=lambda segment: (segment.first, -segment.last))
    covered, reach = [], 0
    for segment in parsed:
        if segment.last <= reach:
            covered.append(str(segment))
        elif segment.is_joined and str(segment) in standing:
            reach = segment.last
    return sorted(covered)
