"""Functions that are observed stay what they were: same object, same code, no frame more."""

from __future__ import annotations

import argparse
import asyncio
import dis
import email.message
import gc
import inspect
import itertools
import json
import pickle
import sys
import traceback
import types
import typing
import urllib.request
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from mlflow_plugins_pack.lineage.capture.observing import monitoring
from mlflow_plugins_pack.lineage.capture.observing import observe as observing
from mlflow_plugins_pack.lineage.capture.observing.observe import observe
from mlflow_plugins_pack.lineage.capture.observing.prelude import with_prelude

by_prelude = pytest.mark.skipif(sys.version_info >= (3, 12), reason="code stays as it is")
_FUNCTIONS = 3_000
_IN_MEMORY = (argparse, dis, email.message, inspect, json, typing, urllib.request)


def _instructions(code: types.CodeType, moved: int = 0) -> list[tuple[Any, ...]]:
    found = []
    for one in dis.get_instructions(code):
        value: Any = one.arg
        if one.opcode in dis.hasjrel or one.opcode in dis.hasjabs:
            value = one.argval - moved
        elif one.opcode in dis.hasconst:
            value = repr(one.argval)
        elif one.opcode == dis.EXTENDED_ARG:
            value = None  # it is part of the next one's
        found.append((one.opname, value, getattr(one, "positions", None)))
    return found


def _handlers(code: types.CodeType, after: int, moved: int = 0) -> list[tuple[int, ...]]:
    """Return the exception table behind an offset, as it was before the code moved."""
    if sys.version_info < (3, 11):
        return []
    parse = dis._parse_exception_table  # type: ignore[attr-defined]
    return [
        (e.start - moved, e.end - moved, e.target - moved, e.depth, e.lasti)
        for e in parse(code)
        if e.start - moved >= after
    ]


@by_prelude
def test_code_is_the_same_but_for_the_prelude() -> None:
    """Functions of the standard library and of what the tests have loaded, all of their tables."""
    functions = [o for o in gc.get_objects() if isinstance(o, types.FunctionType)]
    checked = refused = 0
    for function in functions[:: max(1, len(functions) // _FUNCTIONS)]:
        code = function.__code__
        try:
            changed = with_prelude(code, print)
        except ValueError:
            refused += 1
            continue
        moved = len(changed.co_code) - len(code.co_code)
        before = _instructions(code)
        names = [one[0] for one in before]
        at = next((i + 1 for i, name in enumerate(names) if name in ("RESUME", "GEN_START")), 0)
        after = _instructions(changed, moved)
        added = len(after) - len(before)
        assert [one[1] for one in after[at : at + added] if one[0] == "LOAD_CONST"] == [repr(print)]
        assert after[at + added :] == before[at:], function
        assert _handlers(code, 2 * at) == _handlers(changed, 2 * at, moved)
        lines = [[one[2] for one in c.co_lines() if one[2]] for c in (code, changed)]
        assert [line for line, _ in itertools.groupby(lines[0])] == [
            line for line, _ in itertools.groupby(lines[1])
        ]
        checked += 1
    assert checked >= 1_000
    assert refused <= checked / 20


def branching(number: int, limit: int = 5, *rest: int, **named: int) -> Any:
    """Return what loops, handlers, closures and comprehensions make of the arguments."""
    try:
        for index in range(3):
            if index == number:
                raise ValueError(index)
            while limit < 7:
                limit += 1
    except ValueError as exc:
        return limit, rest, named, str(exc), [j + number for j in range(2)], (lambda: number)()
    return sys._getframe(1).f_code.co_name


def failing(key: str) -> None:
    """Raise."""
    raise KeyError(key)


def warning() -> None:
    """Warn at the caller's place."""
    warnings.warn("old", stacklevel=2)


def generator(count: int) -> Iterator[int]:
    """Yield."""
    yield count
    yield from range(count)


async def coroutine(value: int) -> int:
    """Wait, then return."""
    await asyncio.sleep(0)
    return value


async def asynchronous_generator(count: int) -> AsyncIterator[int]:
    """Yield, waiting between."""
    for number in range(count):
        await asyncio.sleep(0)
        yield number


class Reader:
    """Has each kind of method."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def made(cls, path: str) -> Reader:
        """Return one."""
        return cls(path)

    @staticmethod
    def named(path: str) -> str:
        """Return the argument."""
        return path


async def _all(numbers: AsyncIterator[int]) -> list[int]:
    return [number async for number in numbers]


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Observe nothing any more after the test."""
    functions = [inspect.getattr_static(owner, name) for owner, name in _OBSERVED]
    functions = [getattr(function, "__func__", function) for function in functions]
    if sys.version_info < (3, 12):
        for function in functions:
            monkeypatch.setattr(function, "__code__", function.__code__)
    yield
    if sys.version_info >= (3, 12):
        for function in functions:
            if monitoring._observers.pop(id(function.__code__), None):
                sys.monitoring.set_local_events(monitoring._tool, function.__code__, 0)


_OBSERVED: list[tuple[Any, str]] = [
    *(
        (sys.modules[__name__], name)
        for name in (
            "branching",
            "failing",
            "warning",
            "generator",
            "coroutine",
            "asynchronous_generator",
        )
    ),
    *((Reader, name) for name in ("__init__", "made", "named")),
]


@pytest.fixture
def seen(restored: None) -> list[Any]:
    """Observe everything above; return what is seen: name, arguments and the end's caller."""
    found: list[Any] = []
    for owner, name in _OBSERVED:

        def at_start(arguments: Any, name: str = name) -> str:
            found.append((name, dict(arguments)))
            return name

        def at_end(noted: Any) -> None:
            found.append((f"{noted} ended", None))

        assert observe(owner, name, at_start, at_end)
    return found


def test_calls_do_what_they_did_and_are_seen(seen: list[Any]) -> None:
    assert branching(1, d=4) == (7, (), {"d": 4}, "1", [1, 2], 1)
    assert branching(9) == "test_calls_do_what_they_did_and_are_seen"
    assert seen[0] == ("branching", {"number": 1, "limit": 5, "rest": (), "named": {"d": 4}})
    assert seen[1] == ("branching ended", None)
    assert len(seen) == 4
    seen.clear()
    assert Reader.made("a").path == "a"
    assert Reader.named("b") == "b"
    assert [name for name, _ in seen] == [
        *("made", "__init__", "__init__ ended", "made ended", "named", "named ended"),
    ]


def test_generators_and_coroutines_end_when_they_are_exhausted(seen: list[Any]) -> None:
    assert list(generator(2)) == [2, 0, 1]
    assert asyncio.run(coroutine(3)) == 3
    assert asyncio.run(_all(asynchronous_generator(2))) == [0, 1]
    assert [name for name, _ in seen] == [
        *("generator", "generator ended", "coroutine", "coroutine ended"),
        *("asynchronous_generator", "asynchronous_generator ended"),
    ]


def test_tracebacks_and_warnings_are_those_of_the_function(seen: list[Any]) -> None:
    with pytest.raises(KeyError) as raised:
        failing("x")
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert [frame.name for frame in frames] == [
        "test_tracebacks_and_warnings_are_those_of_the_function",
        "failing",
    ]
    assert frames[1].line == "raise KeyError(key)"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warning()
    line = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, line)]
    assert ("warning", {}) in seen


def test_identity_is_kept(seen: list[Any]) -> None:
    assert pickle.loads(pickle.dumps(branching)) is branching
    assert str(inspect.signature(branching)) == (
        "(number: 'int', limit: 'int' = 5, *rest: 'int', **named: 'int') -> 'Any'"
    )
    assert inspect.getsource(failing).startswith("def failing(")
    assert isinstance(Reader("a"), Reader)
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)


def test_an_observer_that_fails_disturbs_nothing(restored: None) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("ours")

    assert observe(sys.modules[__name__], "branching", broken, broken)
    assert branching(9) == "test_an_observer_that_fails_disturbs_nothing"


def test_what_cannot_be_observed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("unobserved", "unobserved_types"):
        monkeypatch.setattr(observing, name, set())
    assert not observe(types, "missing", dict)
    assert not observe(json, "JSONDecoder", dict)
    assert not observe(str, "__len__", dict, native=("self",))
    assert (observing.unobserved, observing.unobserved_types) == (
        {"builtins.__len__"},
        {"json.JSONDecoder"},
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no places for tools")
def test_other_tools_that_use_all_places_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "unobserved", set())
    monkeypatch.setattr(monitoring, "_tool", None)
    monkeypatch.setattr(monitoring, "_TOOL_IDS", ())
    assert not observe(sys.modules[__name__], "branching", dict)
    assert {name.partition(".")[2] for name in observing.unobserved} == {"branching"}
