"""Places the nodes of a small graph in columns, by their distance from its centre; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

COLUMN_WIDTH, ROW_HEIGHT = 250, 58
BOX_WIDTH, BOX_HEIGHT = 200, 42


@dataclass(frozen=True)
class Layout:
    """The place of everything, in pixels.

    Attributes:
        places: The upper left corner of each node's box.
        lines: For each edge the path of an SVG.
        width: The drawing's width.
        height: Its height.
    """

    places: Mapping[str, tuple[int, int]]
    lines: tuple[str, ...]
    width: int
    height: int


def place(depths: Mapping[str, int], edges: Iterable[tuple[str, str]]) -> Layout:
    """Place nodes so that edges go from left to right and seldom cross.

    Each column is ordered by the mean height of its neighbours in the column before (the barycentre
    heuristic of Sugiyama, Tagawa and Toda, 1981).

    Args:
        depths: The column of each node.
        edges: Pairs of nodes.
    """
    joined = list(edges)
    neighbours: dict[str, list[str]] = defaultdict(list)
    for a, b in joined:
        neighbours[a].append(b)
        neighbours[b].append(a)
    columns: dict[int, list[str]] = defaultdict(list)
    for key, depth in depths.items():
        columns[depth].append(key)
    rank: dict[str, float] = {}

    def height(key: str) -> tuple[float, str]:
        known = [rank[other] for other in neighbours[key] if other in rank]
        return (sum(known) / len(known) if known else 0.0, key)

    # From the centre outwards, so that what is near it decides.
    for depth in sorted(columns, key=abs):
        columns[depth].sort(key=height)
        rank.update((key, float(number)) for number, key in enumerate(columns[depth]))
    longest = max((len(keys) for keys in columns.values()), default=0)
    places = {
        key: (
            10 + number * COLUMN_WIDTH,
            10 + int(((longest - len(columns[depth])) / 2 + row) * ROW_HEIGHT),
        )
        for number, depth in enumerate(sorted(columns))
        for row, key in enumerate(columns[depth])
    }
    width = 20 + max(len(columns) - 1, 0) * COLUMN_WIDTH + BOX_WIDTH
    lines = tuple(_line(places[a], places[b]) for a, b in joined)
    return Layout(places, lines, width, 20 + longest * ROW_HEIGHT)


def _line(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + BOX_WIDTH, start[1] + BOX_HEIGHT // 2
    x2, y2 = end[0], end[1] + BOX_HEIGHT // 2
    if x2 < x1:  # back, or in the same column: from the box's lower side
        x1, y1 = start[0] + BOX_WIDTH // 2, start[1] + BOX_HEIGHT
        x2, y2 = end[0] + BOX_WIDTH // 2, end[1] + BOX_HEIGHT
    middle = (x1 + x2) // 2
    return f"M{x1},{y1} C{middle},{y1} {middle},{y2} {x2},{y2}"
