"""Cut a byte stream into content-defined chunks (FastCDC, 2020 variant); pure.

A boundary depends only on the bytes after the boundary before it, so an insertion moves the cuts
near it and no others. Every writer of a store must cut alike or nothing is found again: the
parameters stand in the store's ``format.json`` and the tables in `gear`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlflow_plugins_pack.artifacts.format.gear_tables import GEAR, MASKS

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_MASK64 = (1 << 64) - 1

Cut = Callable[[memoryview], Iterator[int]]
"""Gives the lengths of a buffer's chunks, in order; they add up to the buffer's length."""


@dataclass(frozen=True)
class CutSizes:
    """Sizes that steer the cutting, in bytes.

    Attributes:
        minimum: No chunk but the last of a file is shorter.
        average: The size aimed at; a power of two.
        maximum: No chunk is longer.
    """

    minimum: int
    average: int
    maximum: int


@dataclass(frozen=True)
class ChunkerParameters:
    """The parameters by which a store cuts files; written once and never changed.

    Attributes:
        small: Sizes used from the start of a file.
        large: Sizes used from the first boundary at or beyond ``large_from``. The switch depends
            on the offset and not on the file's size, so that a stream of unknown length is cut as
            the same bytes in a file are.
        large_from: Offset in bytes.
    """

    small: CutSizes = CutSizes(16 * KIB, 64 * KIB, 256 * KIB)
    large: CutSizes = CutSizes(64 * KIB, 256 * KIB, MIB)
    large_from: int = GIB


NORMALIZATION = 1
"""Bits by which the cut mask is harder before, and easier after, the average size."""


class Chunker:
    """Cuts one stream that is fed piece by piece.

    Feed bytes with `feed` and call `finish` at the end; both give whole chunks. Take all that a
    call gives before the next call.
    """

    def __init__(self, parameters: ChunkerParameters, cutter: Callable[[CutSizes], Cut]) -> None:
        self._parameters = parameters
        self._cutter = cutter
        self._cut = cutter(parameters.small)
        self._sizes = parameters.small
        self._rest = bytearray()
        self.offset = 0
        """Offset in the stream at which the next chunk starts."""

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[memoryview]:
        """Take the next bytes of the stream and give the chunks that are certain by now."""
        self._rest += data
        return self._take(final=False)

    def finish(self) -> Iterator[memoryview]:
        """Yield the chunks that are left; the stream has ended."""
        return self._take(final=True)

    def _take(self, *, final: bool) -> Iterator[memoryview]:
        # The rest is replaced and never resized: a caller may still hold views of it.
        done = 0
        buffer = memoryview(self._rest)
        while done < len(buffer):
            if self._switch_due():
                self._sizes = self._parameters.large
                self._cut = self._cutter(self._sizes)
            for length in self._cut(buffer[done:]):
                # A cut within `maximum` bytes of the buffer's end may be the buffer's doing.
                if not final and len(buffer) - done < self._sizes.maximum:
                    self._rest = self._rest[done:]
                    return
                yield buffer[done : done + length]
                done += length
                self.offset += length
                if self._switch_due():
                    break
        self._rest = self._rest[done:]

    def _switch_due(self) -> bool:
        return (
            self._sizes is not self._parameters.large and self.offset >= self._parameters.large_from
        )


@functools.cache
def fast_cutter(sizes: CutSizes) -> Cut:
    """Return a cut that runs in compiled code, or the slow one where it is not installed."""
    try:
        from pyfastcdc.cy import FastCDC
    except ImportError:
        return slow_cutter(sizes)
    cdc = FastCDC(
        sizes.average,
        min_size=sizes.minimum,
        max_size=sizes.maximum,
        normalized_chunking=NORMALIZATION,
        seed=0,
    )
    return lambda buffer: (chunk.length for chunk in cdc.cut_buf(buffer))


def slow_cutter(sizes: CutSizes) -> Cut:
    """Return a cut in plain Python: some 200 times slower, and the definition of the format."""
    bits = math.floor(math.log2(sizes.average) + 0.5)
    hard, easy = MASKS[bits + NORMALIZATION], MASKS[bits - NORMALIZATION]

    def cut(buffer: memoryview) -> Iterator[int]:
        start = 0
        while start < len(buffer):
            length = _first_cut(buffer[start:], sizes, hard, easy)
            yield length
            start += length

    return cut


def _first_cut(buffer: memoryview, sizes: CutSizes, hard: int, easy: int) -> int:
    # Two bytes a step, as in the paper: the first with table and mask shifted left by one.
    remaining = min(len(buffer), sizes.maximum)
    if remaining <= sizes.minimum:
        return remaining
    middle = min(sizes.average, remaining) // 2 * 2
    fingerprint = 0
    for mask, begin, end in (
        (hard, sizes.minimum // 2 * 2, middle),
        (easy, middle, remaining // 2 * 2),
    ):
        shifted = (mask << 1) & _MASK64
        for at in range(begin, end, 2):
            fingerprint = ((fingerprint << 2) + (GEAR[buffer[at]] << 1)) & _MASK64
            if not fingerprint & shifted:
                return at
            fingerprint = (fingerprint + GEAR[buffer[at + 1]]) & _MASK64
            if not fingerprint & mask:
                return at + 1
    return remaining
