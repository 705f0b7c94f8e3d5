"""Odd input at every place of the page on input bounds: no failure, no long wait, no memory kept.

The suite tries a few inputs at each place; ``python -m tests.fuzz`` tries a thousand.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.fuzz.support.everywhere import ROOMS, places
from tests.fuzz.support.running import FuzzError, run
from tests.support.paths import ROOT

COUNT = int(os.environ.get("FUZZ_INPUTS", "0"))
"""For each place; 0: as many as it takes in about a third of a second."""
SEED = int(os.environ.get("FUZZ_SEED", "1"))

_read: set[str] = set()


@pytest.mark.filterwarnings("ignore")  # of parsers, about the input
@pytest.mark.parametrize("room", ROOMS)
def test_odd_input_has_no_wrong_effect(
    room: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    failures = []
    with places(room, tmp_path) as found:
        for place in found:
            _read.update(place.reads)
            try:
                run(place, COUNT or max(3, place.speed // 3), SEED)
            except FuzzError as exc:
                failures.append(str(exc))
    assert not failures, "\n".join(failures)


def test_every_place_of_the_page_gets_odd_input() -> None:
    page = (ROOT / "docs" / "explanation" / "input-bounds.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| (`[^|]+`) \|", page, re.MULTILINE)
    listed = {path for row in rows for path in re.findall(r"`([\w/.]+)`", row)}
    text = "".join(
        path.read_text() for path in (ROOT / "tests" / "fuzz" / "support").glob("*_places.py")
    )
    missing = [path for path in listed if path.rstrip("/").rpartition("/")[2] not in text]
    assert len(listed) > 25
    assert not missing
