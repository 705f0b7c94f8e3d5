"""Data that runs of the benchmarks read and wrote, as records list it."""

from __future__ import annotations

import hashlib
from typing import Any


def entry(folder: str, number: int) -> Any:
    """Return a file of a folder; its number decides its place, size and content."""
    from mlflow_plugins_pack.lineage.document.graph import FULL, Entry

    return Entry(
        f"file:///data/{folder}/part-{number % 90}/rows-{number:07}.parquet",
        digest=f"sha256:{hashlib.sha256(str(number).encode()).hexdigest()}",
        size=number,
        modified=1_700_000_000,
        coverage=FULL,
    )
