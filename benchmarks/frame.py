"""The frame of every benchmark: both sides in turn, block by block, in one run.

A machine's speed drifts by more than what is measured here, so nothing is ever compared across
runs: each block measures stock and pack one right after the other, in an order that flips from
block to block, and the figure is the spread of the blocks' own ratios.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

STOCK, PACK = "stock", "pack"


@dataclass(frozen=True)
class Options:
    """What the command line chose.

    Attributes:
        blocks: Number of blocks; None for the case's own choice.
        scale: Share of the full size, 1.0 for the published figures.
        work: Folder for all data; on tmpfs for the published figures.
        progress: Called with one line after each block.
    """

    blocks: int | None = None
    scale: float = 1.0
    work: Path = Path("/dev/shm")
    progress: Callable[[str], None] = lambda _line: None

    def count(self, full: int) -> int:
        """Return a number of things, scaled, at least one."""
        return max(1, round(full * self.scale))


@dataclass
class Figure:
    """One thing measured on both sides, a value per block.

    Attributes:
        name: What it is.
        unit: ``s``, ``ms``, ``us`` or ``B``.
        stock: Values of stock, one a block.
        pack: Values of the pack, in the same order.
        others: Values of further sides that took part, by their names.
        goal: What the project promises, in words; empty if nothing.
        is_overhead: Whether the difference counts, not the ratio: the pack only adds here.
    """

    name: str
    unit: str
    stock: list[float] = field(default_factory=list)
    pack: list[float] = field(default_factory=list)
    others: dict[str, list[float]] = field(default_factory=dict)
    goal: str = ""
    is_overhead: bool = False

    def ratios(self) -> list[float]:
        """Return stock / pack of each block: how many times less the pack takes."""
        return [a / b if b else float("inf") for a, b in zip(self.stock, self.pack, strict=True)]

    def added(self) -> list[float]:
        """Return pack - stock of each block."""
        return [b - a for a, b in zip(self.stock, self.pack, strict=True)]


@dataclass(frozen=True)
class Case:
    """A benchmark.

    Attributes:
        name: How the command line calls it.
        summary: One line.
        blocks: Default number of blocks.
        run: Measures it.
    """

    name: str
    summary: str
    blocks: int
    run: Callable[[Options, int], list[Figure]]


@dataclass(frozen=True)
class Survey:
    """A case that measures the pack alone, without stock to compare with.

    Attributes:
        name: How the command line calls it; in full, a prefix does not name it.
        summary: One line.
        run: Measures it, or only those parts whose name holds the text; returns Markdown.
    """

    name: str
    summary: str
    run: Callable[[Options, str], str]


Sample = Mapping[str, float]
"""What one side measured in one block: figure name to value."""


def interleave(
    sides: Mapping[str, Callable[[], Sample]],
    figures: Sequence[Figure],
    blocks: int,
    progress: Callable[[str], None],
) -> list[Figure]:
    """Measure all sides block by block, the order flipped each time.

    Args:
        sides: ``stock``, ``pack`` and any others: each measures once and returns a value for each
            figure.
        figures: What to fill.
        blocks: How many pairs.
        progress: Told about each block.

    Returns:
        The figures, filled.
    """
    for block in range(blocks):
        order = list(sides) if block % 2 == 0 else list(reversed(sides))
        samples = {side: sides[side]() for side in order}
        for figure in figures:
            figure.stock.append(samples[STOCK][figure.name])
            figure.pack.append(samples[PACK][figure.name])
            for side in sides.keys() - {STOCK, PACK}:
                figure.others.setdefault(side, []).append(samples[side][figure.name])
        shown = ", ".join(
            f"{f.name} {' / '.join(show(samples[side][f.name], f.unit) for side in sides)}"
            for f in figures
        )
        progress(f"block {block + 1} of {blocks} ({' / '.join(sides)}): {shown}")
    return list(figures)


@dataclass
class Stopwatch:
    """Elapsed wall and processor time of this process, in seconds; set when the block ends."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Time a block."""
    watch = Stopwatch()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield watch
    finally:
        watch.wall_seconds = time.perf_counter() - wall
        watch.cpu_seconds = time.process_time() - cpu


def show(value: float, unit: str) -> str:
    """Return a value as a person reads it."""
    if unit == "B":
        for name in ("B", "KiB", "MiB", "GiB"):
            if abs(value) < 1024 or name == "GiB":
                return f"{value:.0f} B" if name == "B" else f"{value:.1f} {name}"
            value /= 1024
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f} {unit}"


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return minimum, median and maximum."""
    return min(values), statistics.median(values), max(values)
