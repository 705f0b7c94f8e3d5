"""The page of bypass attempts is complete and names only tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.approvals.support import attack_table
from tests.approvals.support.attack_table import ATTEMPTS, INTERFACES, cell
from tests.approvals.support.attacks import ATTACKS

TESTS = Path(__file__).parent.parent
FOLDERS = (TESTS / "approvals", TESTS / "contracts", TESTS / "fuzz")


def test_the_page_is_what_the_table_says() -> None:
    written = attack_table.DOCUMENT.read_text(encoding="utf-8")
    assert written == attack_table.document(), "run: python -m tests.approvals.support.attack_table"


def test_every_row_is_there() -> None:
    assert sorted(ATTEMPTS) == list(range(1, len(ATTEMPTS) + 1))
    assert {attack.row for attack in ATTACKS} <= set(ATTEMPTS)


@pytest.mark.parametrize("row", ATTEMPTS)
def test_every_interface_has_a_test_or_a_reason(row: int) -> None:
    attempt = ATTEMPTS[row]
    assert set(attempt.tests) <= set(INTERFACES)
    assert set(attempt.reasons) <= {*INTERFACES, "rest"}
    used = set()
    for interface in INTERFACES:
        found, reason = cell(row, interface)
        assert found or reason, f"row {row}, {interface}: neither a test nor a reason"
        used.add(interface if interface in attempt.reasons else "rest")
        assert not (found and interface in attempt.reasons), (
            f"row {row}, {interface}: a test and a reason"
        )
        for test in found:
            file, name = test.split(" ")[0].split("::")
            (path,) = [p for folder in FOLDERS for p in folder.rglob(f"{file}.py")]
            assert re.search(rf"def {name}\(", path.read_text()), f"{test} does not exist"
    assert set(attempt.reasons) <= used, f"row {row}: an unused reason"
