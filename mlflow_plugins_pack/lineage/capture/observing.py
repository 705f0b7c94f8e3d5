"""Observes calls of a library's Python functions without putting anything around them.

The function's code gets a prelude that calls an observer and goes on. No frame of ours is on the
stack while the function runs, the function object stays the one that others hold and pickle by
name, and warnings point where they did. The observer reads the arguments from the frame, by name.

A look at the end of a call hangs on an object in the frame's `f_locals`, which lives as long as the
frame does.

What cannot be observed so are functions that are not written in Python; `unobserved` names the
libraries that have such readers. Python 3.10, whose jumps are absolute, observes nothing.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any

Arguments = Mapping[str, Any]
AtStart = Callable[[Arguments], Any]
AtEnd = Callable[[Arguments, Any], None]

unobserved: set[str] = set()
"""Functions, as ``library.function``, that a table names and that cannot be observed."""
_UNTIL_RETURN = "__mlflow_pack_lineage__"


def observe(owner: Any, name: str, at_start: AtStart | None, at_end: AtEnd | None = None) -> bool:
    """Have functions called with the arguments of each call of a function.

    Args:
        owner: The module or class that has the function.
        name: Its name there. One that is missing is left alone: libraries change.
        at_start: Called with the arguments before the function's own code.
        at_end: Called in the same thread when the function has returned, with the arguments that it
            was given and what ``at_start`` returned. Where the function raised, it is called when
            the exception's traceback is gone.

    Returns:
        Whether the function is observed.
    """
    found = inspect.getattr_static(owner, name, None)
    if found is None:
        return False
    if isinstance(found, (staticmethod, classmethod)):
        found = found.__func__
    function = inspect.unwrap(found)
    if not isinstance(function, FunctionType) or sys.version_info < (3, 11):
        module = getattr(owner, "__module__", None) or owner.__name__
        unobserved.add(f"{module.partition('.')[0]}.{name}")
        return False
    function.__code__ = with_prelude(function.__code__, _observer(at_start, at_end))
    return True


def _observer(at_start: AtStart | None, at_end: AtEnd | None) -> Callable[[], None]:
    def observer() -> None:
        try:
            arguments = sys._getframe(1).f_locals
            noted = at_start(arguments) if at_start is not None else None
            if at_end is not None:
                arguments[_UNTIL_RETURN] = _Ending(at_end, dict(arguments), noted)
        except Exception:  # noqa: BLE001, S110  # the observed call goes on
            pass

    return observer


class _Ending:
    """Calls a function when the frame that holds it is gone."""

    __slots__ = ("_arguments", "_at_end", "_noted")

    def __init__(self, at_end: AtEnd, arguments: Arguments, noted: Any) -> None:
        self._at_end = at_end
        self._arguments = arguments
        self._noted = noted

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._at_end(self._arguments, self._noted)


# --- code -----------------------------------------------------------------------------------------


def with_prelude(code: CodeType, prelude: Callable[[], None]) -> CodeType:
    """Return a function's code that calls another function first, and is the same from there on.

    Jumps are relative since Python 3.11, so only the tables that map offsets to lines and to
    exception handlers have to follow. Formats: ``Objects/locations.md`` and
    ``Objects/exception_handling_notes.txt`` of CPython.

    Args:
        code: Of a function, generator or coroutine.
        prelude: Called without arguments; must not raise.
    """
    opcodes, prefix = _opcodes(), 0
    content = code.co_code
    while content[prefix] != opcodes["RESUME"]:
        prefix += 2
    prefix += 2
    call = _call_of_constant(len(code.co_consts))
    at, count = prefix // 2, len(call) // 2
    changed: dict[str, Any] = {
        "co_code": content[:prefix] + call + content[prefix:],
        "co_consts": (*code.co_consts, prelude),
        "co_stacksize": max(code.co_stacksize, 3),
        "co_linetable": _shifted_lines(code.co_linetable, at, count),
        # Not known to the types of Python 3.10.
        "co_exceptiontable": _shifted_handlers(getattr(code, "co_exceptiontable"), at, count),  # noqa: B009
    }
    return code.replace(**changed)


@functools.cache
def _opcodes() -> dict[str, int]:
    import opcode

    return opcode.opmap


def _call_of_constant(index: int) -> bytes:
    """Return the instructions that call a constant without arguments and drop the result."""
    opcodes = _opcodes()
    load = bytearray()
    for shift in (24, 16, 8):
        if index >> shift:
            load += bytes((opcodes["EXTENDED_ARG"], index >> shift & 255))
    load += bytes((opcodes["LOAD_CONST"], index & 255))
    if sys.version_info >= (3, 13):
        before, after = b"", bytes((opcodes["PUSH_NULL"], 0))
    else:
        before, after = bytes((opcodes["PUSH_NULL"], 0)), b""
    call = bytearray()
    for name in ("PRECALL", "CALL"):
        if name in opcodes:
            call += bytes((opcodes[name], 0)) + bytes(2 * _cache_entries(name))
    return before + bytes(load) + after + bytes(call) + bytes((opcodes["POP_TOP"], 0))


def _cache_entries(name: str) -> int:
    import opcode

    entries = opcode._inline_cache_entries  # type: ignore[attr-defined]
    if isinstance(entries, dict):  # since Python 3.13
        return int(entries.get(name, 0))
    return int(entries[_opcodes()[name]])


def _shifted_lines(table: bytes, at: int, count: int) -> bytes:
    """Return a line table with so many code units more, which belong to the line before them."""
    position, units = 0, 0
    while units < at and position < len(table):
        units += (table[position] & 7) + 1
        position += 1
        while position < len(table) and not table[position] & 0x80:
            position += 1
    entries = bytearray()
    while count:
        length = min(count, 8)
        # Code 15, which has no location: such instructions are never shown as a line.
        entries.append(0x80 | 15 << 3 | length - 1)
        count -= length
    return table[:position] + bytes(entries) + table[position:]


def _shifted_handlers(table: bytes, at: int, count: int) -> bytes:
    """Return an exception table for code in which so many code units were inserted."""
    values, position = [], 0
    while position < len(table):
        value = table[position] & 63
        while table[position] & 64:
            position += 1
            value = value << 6 | table[position] & 63
        position += 1
        values.append(value)
    shifted = bytearray()
    for index in range(0, len(values), 4):
        start, length, target, depth = values[index : index + 4]
        start, end = start, start + length
        start, end, target = (v + count if v >= at else v for v in (start, end, target))
        for first, value in enumerate((start, end - start, target, depth)):
            shifted += _varint(value, 128 if first == 0 else 0)
    return bytes(shifted)


def _varint(value: int, mark: int) -> bytes:
    groups = [value & 63]
    while value := value >> 6:
        groups.append(value & 63)
    groups.reverse()
    encoded = bytearray(group | 64 for group in groups[:-1])
    encoded.append(groups[-1])
    encoded[0] |= mark
    return bytes(encoded)
