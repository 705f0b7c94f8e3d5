"""What a test needs besides this process, read from its code, so that no mark is set by hand.

A test needs what its own code, its fixtures and the helpers they call name: `servers.running` is
for server programs, and `subprocess.run` starts another process.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import servers

SERVERS = frozenset({"postgresql", "mariadb", "moto", "azurite", "gcs"})
"""Fixtures, each of a server program; a parameter of this name asks for it, too."""

_WITHOUT_A_SERVER = frozenset({"sqlite", "disk", "file"})
_OURS = ("tests.", "benchmarks.")
_STARTS_A_SERVER = {id(servers.running), id(servers.find_program)}
_STARTS_A_PROCESS = set(map(id, (subprocess.run, subprocess.Popen, os.fork, multiprocessing.Pool)))


def needs_of(item: pytest.Function) -> str | None:
    """Return ``"server"`` for a test that needs a server program, ``"process"``, or None."""
    parameters = getattr(item, "callspec", None)
    values = set(map(_kind_in, parameters.params.values() if parameters else ()))
    if SERVERS & (set(item.fixturenames) | values):
        return "server"
    fixtures = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    found = _needs(item.function)
    for name in item.fixturenames:
        for definition in fixtures.get(name, ()):
            found |= _needs(definition.func)
    if values & _WITHOUT_A_SERVER:
        # `if kind == "moto": request.getfixturevalue("moto")` is decided by the parameter.
        found -= {"server by name"}
    elif "server by name" in found:
        return "server"
    return "server" if "server" in found else "process" if "process" in found else None


def _kind_in(value: object) -> str:
    """Return the program's name in a parameter such as ``mariadb_latin1-workspaces``."""
    return re.split("[-_]", value)[0] if isinstance(value, str) else ""


def _needs(function: Any) -> frozenset[str]:
    function = getattr(function, "__wrapped__", function)
    return _needs_of_function(getattr(function, "__func__", function))


@functools.cache
def _needs_of_function(function: Any) -> frozenset[str]:
    found: set[str] = set()
    seen: set[int] = set()
    waiting = [function]
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if id(current) in _STARTS_A_SERVER:
            found.add("server")
        elif id(current) in _STARTS_A_PROCESS:
            found.add("process")
        else:
            waiting += _named_in(current)
            if _asks_by_name(current):
                found.add("server by name")
    return frozenset(found)


def _named_in(thing: Any) -> Iterator[Any]:
    """Yield what a function or class of the tests or benchmarks names."""
    if not str(getattr(thing, "__module__", "")).startswith(_OURS):
        return
    if isinstance(thing, type):
        yield from (getattr(value, "__func__", value) for value in vars(thing).values())
        return
    thing = getattr(thing, "__wrapped__", thing)
    if not isinstance(thing, types.FunctionType):
        return
    for code in _codes(thing.__code__):
        names = code.co_names
        # What a function imports itself stands among its names, the module's whole name included.
        found = [thing.__globals__.get(name, sys.modules.get(name)) for name in names]
        modules: set[str] = set()
        while found:
            value = found.pop()
            if not isinstance(value, types.ModuleType):
                yield value
            elif value.__name__ not in modules:
                modules.add(value.__name__)
                found += (vars(value)[name] for name in names if name in vars(value))


def _asks_by_name(function: Any) -> bool:
    function = getattr(function, "__wrapped__", function)
    return isinstance(function, types.FunctionType) and any(
        "getfixturevalue" in code.co_names and SERVERS & set(filter(_is_text, code.co_consts))
        for code in _codes(function.__code__)
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)
