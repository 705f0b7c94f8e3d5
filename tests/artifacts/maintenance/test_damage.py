"""Every object and every cached record damaged: the small size of `support/damage.py`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.artifacts.support import damage


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_damaged_objects(tmp_path: Path, encrypted):
    with damage.settings(encrypted=encrypted):
        lab = damage.Lab(tmp_path, 1, encrypted=encrypted)
        seen, wrong = damage.check_objects(lab, most_of_a_kind=1)
    assert wrong == []
    assert {how for _, how, _ in seen} >= set(damage.DAMAGES[:4])
    assert not encrypted or ("keys", damage.DAMAGES[4], "right bytes, fsck names it") in seen


def test_lists_of_condemned_packs_in_each_others_place(tmp_path: Path):
    """Files whose recipes have been moved cannot be read then; fsck goes on and names all."""
    with damage.settings(encrypted=True):
        lab = damage.Lab(tmp_path, 2, encrypted=True)
        lists = [key for key in lab.objects() if damage.kind_of(key) == "gc"]
        assert len(lists) > 1
        for seed, key in enumerate(lists):
            seen = lab.case(key, "swapped", random.Random(seed))
            assert seen == "an error names it, fsck names it"


def test_damaged_caches(tmp_path):
    with damage.settings(encrypted=False):
        lab = damage.Lab(tmp_path, 1, encrypted=False)
        seen, wrong = damage.check_caches(lab, most_records=1, flips=3)
    assert wrong == []
    assert {kind for kind, _, _ in seen} >= {"index cache", "kept file", "chunks record"}
