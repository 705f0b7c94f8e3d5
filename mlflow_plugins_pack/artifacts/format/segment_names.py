"""Names of manifest segments, and which segments make up a scope's state; pure.

Committed calls of a scope are numbered from 1, without gaps. A name says which of them a segment
holds::

    000000000042                      an entry: the 42nd call
    000000000042-abcdefghijklmnop     an entry of a store whose service cannot create exclusively
    000000000033-000000000064         a joined segment: the calls 33 to 64, put together
    lock-<ULID>                       a marker: the scope has, or had, a lock
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

JOIN_SPAN = 16
"""So many entries, and so many joined segments of one size, are put together into the next size."""

_NAME = re.compile(r"(?P<first>\d{12})(?:-(?P<last>\d{12})|-(?P<writer>[a-z2-7]{16}))?")
_MARKER = re.compile(r"lock-[0-9A-HJKMNP-TV-Z]{26}")


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


def lock_marker(ulid: str) -> str:
    """Return the name of an object that says: look for locks."""
    return f"lock-{ulid}"


def is_lock_marker(name: str) -> bool:
    """Return whether an object says that the scope has, or had, locks."""
    return _MARKER.fullmatch(name) is not None


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
        names: Of all segments that are there; others are ignored.
        after: The last call that the reader already knows.
        until: The last call to read; by default the last there is.
    """
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
