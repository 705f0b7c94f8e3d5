"""No read through any worker of any server is older than an acknowledged write."""

from __future__ import annotations

import math

import pytest

from tests.artifacts.support.coherence import ABSENT, Call, contradictions, measure, two_servers


def write(value: bytes, start: float, end: float) -> Call:
    return Call("write", "f", value, start, end)


def read(value: bytes, start: float, end: float) -> Call:
    return Call("read", "f", value, start, end)


def delete(start: float, end: float) -> Call:
    return Call("delete", "f", ABSENT, start, end)


@pytest.mark.parametrize(
    ("calls", "is_wrong"),
    [
        ([write(b"a", 0, 1), read(b"a", 2, 3)], False),
        ([write(b"a", 0, 1), read(ABSENT, 0.5, 3)], False),
        ([write(b"a", 0, 1), read(ABSENT, 2, 3)], True),
        ([write(b"a", 0, 1), delete(2, 3), read(ABSENT, 4, 5)], False),
        ([write(b"a", 0, 1), delete(2, 3), read(b"a", 4, 5)], True),
        ([write(b"a", 0, 1), write(b"b", 2, 3), read(b"a", 4, 5)], True),
        ([write(b"a", 0, 1), write(b"b", 2, 5), read(b"a", 3, 4)], False),
        ([write(b"a", 0, 9), write(b"b", 0, 9), read(b"b", 2, 3), read(b"a", 4, 5)], False),
        ([write(b"a", 0, 1), write(b"b", 0, 9), read(b"b", 2, 3), read(b"a", 4, 5)], True),
        (
            [
                *(write(b"a", 0, 1), write(b"b", 2, 9)),
                *(read(b"b", 3, 4), read(b"a", 5, 6)),
            ],
            True,
        ),
        ([write(b"a", 0, 1), write(b"b", 2, math.inf), read(b"a", 4, 5)], False),
        ([write(b"a", 0, 1), delete(2, math.inf), read(ABSENT, 4, 5)], False),
        ([read(b"a", 0, 1), write(b"a", 2, 3)], True),
        ([read(b"a", 0, 1)], True),
    ],
)
def test_checker(calls, is_wrong):
    assert bool(list(contradictions(calls))) == is_wrong


def test_two_servers(tmp_path):
    """A short form of `python -m tests.artifacts.support.coherence`."""
    with two_servers(tmp_path, f"cas-file://{tmp_path}/store", workers=2) as found:
        calls = measure(found, 400, 8)
    assert list(contradictions(calls)) == []
    assert sum(call.kind == "read" and call.value != ABSENT for call in calls) > 50
