"""All places, with what each needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.support import (
    artifact_places,
    lineage_places,
    review_places,
    server_places,
    sign_in_places,
)
from tests.fuzz.support.running import Place
from tests.support import templates

ROOMS = ("server", "artifacts", "sign-in", "lineage")


@contextlib.contextmanager
def places(room: str, folder: Path) -> Iterator[list[Place]]:
    """Yield the places of a room, ready for input."""
    if room == "server":
        with server_places.target(folder) as target, review_places.places(target) as more:
            yield server_places.places(target) + more
    elif room == "artifacts":
        yield artifact_places.places(folder)
    elif room == "sign-in":
        with sign_in_places.places(folder) as found:
            yield found
    else:
        database = templates.sqlite_with_tables(folder / "runs.db")
        with lineage_places.places(folder, database) as found:
            yield found
