"""Observes functions that are not written in Python, by calling them from a frame that is hidden.

Native functions look at the Python frame that calls them: DuckDB finds data frames in it, warnings
and tracebacks name it. A frame is not shown by `sys._getframe`, `inspect`, tracebacks or warnings
as long as it has not executed the instruction RESUME (``_PyFrame_IsIncomplete`` of CPython since
3.11; frames are in this state while they create their cells). So the observing function executes
it as its last act, after the native one has returned. Tracers and profilers see a call that begins
and ends there.

The observing function takes the place of the native one: the type differs, and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import opcode
import sys
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from mlflow_plugins_pack.lineage.capture.observing.observers import AtEnd, AtStart

_COPIED = ("__module__", "__name__", "__qualname__", "__doc__", "__text_signature__")
_Begins = Callable[[tuple[Any, ...], dict[str, Any]], Any]


def observing(
    native: Callable[..., Any],
    positional: tuple[str, ...],
    at_start: AtStart,
    at_end: AtEnd | None,
) -> Callable[..., Any]:
    """Return a function that calls a native one and has it observed.

    Args:
        native: The function.
        positional: Names of its first parameters.
        at_start: Called with the arguments.
        at_end: Called with what ``at_start`` returned, unless that is None.

    Raises:
        ValueError: If this interpreter hides no frames.
    """
    if not hides_frames():
        raise ValueError("this interpreter hides no frames")

    def begins(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            return at_start({**dict(zip(positional, args, strict=False)), **kwargs})
        except Exception:  # noqa: BLE001  # the observed call goes on
            return None

    def ends(noted: Any) -> None:
        if at_end is not None and noted is not None:
            with contextlib.suppress(Exception):
                at_end(noted)

    function: Callable[..., Any] = _hidden(begins, native, ends)
    for attribute in _COPIED:
        with contextlib.suppress(AttributeError, TypeError):
            setattr(function, attribute, getattr(native, attribute))
    return function


def _hidden(begins: _Begins, native: Callable[..., Any], ends: Callable[[Any], None]) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        noted, failure = begins(args, kwargs), None
        while True:
            if failure is not None:
                raise failure
            try:
                result = native(*args, **kwargs)
                ends(noted)
            except BaseException as exc:  # noqa: BLE001  # raised above, where the frame is hidden
                failure = exc
            args  # noqa: B018  # becomes the instruction RESUME
            if failure is None:
                return result

    call.__code__ = _resumed_at_the_end(call.__code__)
    return call


@functools.cache
def _resumed_at_the_end(code: CodeType) -> CodeType:
    """Return the code with its instruction RESUME in the place of the expression ``args``.

    Raises:
        ValueError: If the compiler made other instructions of it.
    """
    opcodes, content = opcode.opmap, bytearray(code.co_code)
    if "RESUME" not in opcodes:
        raise ValueError("before Python 3.11, all frames are shown")
    start = _only([i for i in range(0, len(content), 2) if content[i] == opcodes["RESUME"]])
    load = bytes((opcodes["LOAD_FAST"], code.co_varnames.index("args"), opcodes["POP_TOP"]))
    end = _only([i for i in range(0, len(content), 2) if content[i : i + 3] == load])
    content[start : start + 2] = bytes((opcodes["NOP"], 0))
    content[end : end + 4] = bytes((opcodes["NOP"], 0, opcodes["RESUME"], 0))
    return code.replace(co_code=bytes(content))


def _only(found: list[int]) -> int:
    if len(found) != 1:
        raise ValueError("the compiler made other instructions")
    return found[0]


@functools.cache
def hides_frames() -> bool:
    """Return whether a hidden frame is hidden in this interpreter, tried once."""

    def caller(_fails: bool) -> FunctionType | CodeType:
        if _fails:
            raise LookupError
        return sys._getframe(1).f_code

    try:
        hidden = _hidden(lambda *_: None, caller, lambda _: None)
        if hidden(False) is not sys._getframe(0).f_code:
            return False
        try:
            hidden(True)
        except LookupError as exc:
            trace = exc.__traceback__
            return bool(
                trace and trace.tb_next and trace.tb_next.tb_frame.f_code is caller.__code__
            )
    except Exception:  # noqa: BLE001  # an interpreter that is made otherwise
        return False
    return False
