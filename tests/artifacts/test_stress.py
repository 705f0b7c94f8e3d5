"""The small size of `support/stress.py`: several processes that overwrite files of one run."""

from __future__ import annotations

import os

import pytest

from tests.artifacts.support import stress

LARGE = bool(os.environ.get("NIGHTLY"))


def test_writers_on_a_disk(tmp_path, capsys):
    writers, calls = (8, 2000) if LARGE else (2, 12)
    assert stress.stress([f"cas-file://{tmp_path}/store"], writers, calls) == 0
    assert " 0 refused" in capsys.readouterr().out


@pytest.mark.nightly
def test_writers_on_an_s3_that_fails(monkeypatch):
    with stress.failing_s3(3 * 4 * 100) as (root, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert stress.stress([root], 4, 100, **environment) == 0
