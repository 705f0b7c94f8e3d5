"""Turns the histories of a metric into the points of a small chart; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, MARGIN = 600, 150, 10
_MAX_POINTS = 300

Points = Sequence[tuple[int, float]]
"""Steps and values."""


@dataclass(frozen=True)
class Plot:
    """A chart of two lines, as an SVG has them.

    Attributes:
        name: The metric.
        candidate: The points of the candidate's line.
        holder: The points of the holder's line; empty: it has none.
        low: The lowest value as text.
        high: The highest value as text.
        steps: How many steps the candidate has.
    """

    name: str
    candidate: str
    holder: str
    low: str
    high: str
    steps: int


def plot(name: str, candidate: Points, holder: Points) -> Plot | None:
    """Return the chart of a metric; None if the candidate has fewer than two finite values."""
    lines = [_thinned(points) for points in (candidate, holder)]
    if len(lines[0]) < 2:
        return None
    values = [value for line in lines for _, value in line]
    steps = [step for line in lines for step, _ in line]
    low, high = min(values), max(values)
    width = max(steps) - min(steps) or 1
    height = high - low or 1

    def drawn(line: Points) -> str:
        return " ".join(
            f"{(step - min(steps)) / width * WIDTH:.1f},"
            f"{HEIGHT - MARGIN - (value - low) / height * (HEIGHT - 2 * MARGIN):.1f}"
            for step, value in line
        )

    return Plot(name, drawn(lines[0]), drawn(lines[1]), f"{low:.4g}", f"{high:.4g}", len(candidate))


def _thinned(points: Points) -> list[tuple[int, float]]:
    finite = sorted((step, value) for step, value in points if math.isfinite(value))
    every = math.ceil(len(finite) / _MAX_POINTS) or 1
    return finite[::every]
