"""Gives Python functions a prelude that calls an observer; for Python 3.10 and 3.11.

The function object stays the one that others hold and pickle by name, its frame is the only one on
the stack, and its lines are where they were. The observer reads the arguments from the frame.

A look at the end of a call hangs on an object in the frame's `f_locals`, which lives as long as the
frame does. Formats: ``Objects/locations.md``, ``Objects/exception_handling_notes.txt`` and
``Objects/lnotab_notes.txt`` of CPython.
"""

from __future__ import annotations

import contextlib
import dis
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

from mlflow_plugins_pack.lineage.capture.observing.observers import AtEnd, AtStart

_UNTIL_RETURN = "__mlflow_pack_lineage__"
_OPCODES = dis.opmap
_BEGINS = "GEN_START" if sys.version_info < (3, 11) else "RESUME"
"""The instruction that stays before the prelude; only generators have it in Python 3.10."""


def observer(at_start: AtStart, at_end: AtEnd | None) -> Callable[[], None]:
    """Return the function to call as a prelude; see `observing.observe`."""

    def observe() -> None:
        try:
            arguments = sys._getframe(1).f_locals
            noted = at_start(arguments)
            if at_end is not None and noted is not None:
                arguments[_UNTIL_RETURN] = _Ending(at_end, noted)
        except Exception:  # noqa: BLE001, S110  # the observed call goes on
            pass

    return observe


class _Ending:
    """Calls a function when the frame that holds it is gone."""

    __slots__ = ("_at_end", "_noted")

    def __init__(self, at_end: AtEnd, noted: Any) -> None:
        self._at_end = at_end
        self._noted = noted

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._at_end(self._noted)


def with_prelude(code: CodeType, prelude: Callable[[], None]) -> CodeType:
    """Return a function's code that calls another function first, and is the same from there on.

    Args:
        code: Of a function, generator or coroutine.
        prelude: Called without arguments; must not raise.

    Raises:
        ValueError: If a jump has no room for its new target (Python 3.10).
    """
    content, start = code.co_code, 0
    begins = content[::2].find(bytes((_OPCODES[_BEGINS],)))
    if begins >= 0:
        start = 2 * begins + 2
    call = _call_of_constant(len(code.co_consts))
    at, count = start // 2, len(call) // 2
    changed: dict[str, Any] = {
        "co_consts": (*code.co_consts, prelude),
        "co_stacksize": max(code.co_stacksize, 3),
    }
    if sys.version_info >= (3, 11):
        changed["co_linetable"] = _shifted_locations(code.co_linetable, at, count)
        changed["co_exceptiontable"] = _shifted_handlers(code.co_exceptiontable, at, count)
    else:
        content = _shifted_jumps(content, at, count)
        changed["co_linetable"] = _shifted_lines(code.co_linetable, start, len(call))
    return code.replace(co_code=content[:start] + call + content[start:], **changed)


def _call_of_constant(index: int) -> bytes:
    """Return the instructions that call a constant without arguments and drop the result."""
    load = bytearray()
    for shift in (24, 16, 8):
        if index >> shift:
            load += bytes((_OPCODES["EXTENDED_ARG"], index >> shift & 255))
    load += bytes((_OPCODES["LOAD_CONST"], index & 255))
    pop = bytes((_OPCODES["POP_TOP"], 0))
    if sys.version_info < (3, 11):
        return bytes(load) + bytes((_OPCODES["CALL_FUNCTION"], 0)) + pop
    from opcode import _inline_cache_entries  # type: ignore[attr-defined]

    call = bytearray((_OPCODES["PUSH_NULL"], 0)) + load
    for name in ("PRECALL", "CALL"):
        call += bytes((_OPCODES[name], 0)) + bytes(2 * _inline_cache_entries[_OPCODES[name]])
    return bytes(call) + pop


def _shifted_jumps(content: bytes, at: int, count: int) -> bytes:
    """Return Python 3.10's code in which absolute jumps lead to where their targets move.

    Other jumps are relative, and so are all since Python 3.11.
    """
    shifted, extended = bytearray(content), 0
    for place in range(0, len(content), 2):
        value = extended << 8 | content[place + 1]
        extended = value if content[place] == dis.EXTENDED_ARG else 0
        if content[place] not in dis.hasjabs or value < at:
            continue
        value, position = value + count, place
        while True:
            shifted[position + 1] = value & 255
            value >>= 8
            position -= 2
            if position < 0 or content[position] != dis.EXTENDED_ARG:
                break
        if value:
            raise ValueError("a jump has no room for its new target")
    return bytes(shifted)


def _shifted_lines(table: bytes, start: int, length: int) -> bytes:
    """Return Python 3.10's line table with some bytes more, which belong to no line."""
    position, covered = 0, 0
    while covered + table[position] <= start and position + 2 < len(table) and start:
        covered += table[position]
        position += 2
    entries = bytearray()
    if before := start - covered:
        entries += bytes((before, table[position + 1]))
    while length:
        entries += bytes((min(length, 254), 128))
        length -= entries[-2]
    if before:
        line = table[position + 1]
        entries += bytes((table[position] - before, line if line == 128 else 0))
        position += 2
    return table[: position - 2 * bool(before)] + bytes(entries) + table[position:]


def _shifted_locations(table: bytes, at: int, count: int) -> bytes:
    """Return a table of locations with so many code units more, which have none."""
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
