"""The page of ways and doors is complete, and names only tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.approvals.support import attack_table
from tests.approvals.support.attack_table import DOORS, WAYS, cell
from tests.approvals.support.attacks import ATTACKS

FOLDERS = (Path(__file__).parent, Path(__file__).parent.parent / "contracts")


def test_the_page_is_what_the_table_says() -> None:
    written = attack_table.DOCUMENT.read_text(encoding="utf-8")
    assert written == attack_table.document(), "run: python -m tests.approvals.support.attack_table"


def test_every_row_is_there() -> None:
    assert sorted(WAYS) == list(range(1, 34))
    assert {attack.row for attack in ATTACKS} <= set(WAYS)


@pytest.mark.parametrize("row", WAYS)
def test_every_door_has_a_test_or_a_reason(row: int) -> None:
    way = WAYS[row]
    assert set(way.tests) <= set(DOORS)
    assert set(way.reasons) <= {*DOORS, "rest"}
    used = set()
    for door in DOORS:
        found, reason = cell(row, door)
        assert found or reason, f"row {row}, {door}: neither a test nor a reason"
        used.add(door if door in way.reasons else "rest")
        assert not (found and door in way.reasons), f"row {row}, {door}: a test and a reason"
        for test in found:
            file, name = test.split(" ")[0].split("::")
            (path,) = [p for folder in FOLDERS for p in folder.rglob(f"{file}.py")]
            assert re.search(rf"def {name}\(", path.read_text()), f"{test} is not there"
    assert set(way.reasons) <= used, f"row {row}: a reason for nothing"
