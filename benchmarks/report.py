"""Figures as a table for people and as JSON for scripts, with the machine they come from."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.frame import Figure, Options, show, spread


def machine(work: Path) -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    return {
        "cpu": _after_colon("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory": _after_colon("/proc/meminfo", "MemTotal"),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "work": f"{work} ({filesystem(work)})",
        "python": platform.python_version(),
        "mlflow": importlib.metadata.version("mlflow"),
        "pack": importlib.metadata.version("mlflow-plugins-pack"),
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _after_colon(path: str, key: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def filesystem(path: Path) -> str:
    """Return the type of the file system that holds a path."""
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return kind
    resolved = str(path.resolve())
    for line in mounts:
        _, point, found, *_ = line.split()
        is_above = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= len(best):
            best, kind = point, found
    return kind


def table(name: str, figures: Sequence[Figure]) -> str:
    """Return the figures as text, one line each."""
    others = list(figures[0].others)
    rows = [("figure", "stock", "pack", "pack is", "spread", *others, "goal")]
    for figure in figures:
        stock, pack = spread(figure.stock)[1], spread(figure.pack)[1]
        if figure.is_overhead:
            low, middle, high = spread(figure.added())
            verdict = f"{'+' if middle >= 0 else '-'}{show(abs(middle), figure.unit)}"
            between = f"{show(low, figure.unit)} .. {show(high, figure.unit)}"
        else:
            low, middle, high = spread(figure.ratios())
            verdict, between = f"{middle:.2f}x", f"{low:.2f}x .. {high:.2f}x"
        rows.append(
            (
                figure.name,
                show(stock, figure.unit),
                show(pack, figure.unit),
                verdict,
                between,
                *(_against(figure, side) for side in others),
                figure.goal,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([f"{name}, {len(figures[0].stock)} blocks", *lines])


def _against(figure: Figure, side: str) -> str:
    """Return what another side took, and how many times what the pack took that is."""
    values = figure.others[side]
    ratios = [a / b if b else float("inf") for a, b in zip(values, figure.pack, strict=True)]
    return f"{show(spread(values)[1], figure.unit)} ({spread(ratios)[1]:.2f}x)"


def document(name: str, options: Options, figures: Sequence[Figure]) -> dict[str, Any]:
    """Return one case's figures, every block included, as JSON can hold them."""
    return {
        "name": name,
        "scale": options.scale,
        "figures": [
            {
                "name": figure.name,
                "unit": figure.unit,
                "goal": figure.goal,
                "stock": figure.stock,
                "pack": figure.pack,
                "others": figure.others,
                "stock_over_pack": dict(
                    zip(("min", "median", "max"), spread(figure.ratios()), strict=True)
                ),
                "pack_minus_stock": dict(
                    zip(("min", "median", "max"), spread(figure.added()), strict=True)
                ),
            }
            for figure in figures
        ],
    }
