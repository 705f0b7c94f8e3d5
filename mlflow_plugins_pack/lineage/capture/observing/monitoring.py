"""Observes Python functions through `sys.monitoring`, which Python has since 3.12.

Events are switched on for the observed code only, so that everything else runs at full speed. The
interpreter calls us between the caller and the function: neither the function nor its code changes.
"""

from __future__ import annotations

import contextlib
import sys
from types import CodeType
from typing import Any

if sys.version_info >= (3, 12):  # the rest of the module is not executed, nor checked, before
    from collections import defaultdict
    from typing import TYPE_CHECKING

    if TYPE_CHECKING:
        from mlflow_plugins_pack.lineage.capture.observing.observers import AtEnd, AtStart

    # Those without a purpose of their own: 0 to 2 and 5 are for debuggers, coverage, profilers and
    # optimizers. One that is taken belongs to another tool.
    _TOOL_IDS = (4, 3)
    _PENDING_LIMIT = 1_000
    """Most calls that wait for their end; one that raised waits until it is dropped."""
    _observers: defaultdict[int, list[tuple[AtStart, AtEnd | None]]] = defaultdict(list)
    """By the id of the code, which `_observed` keeps alive."""
    _observed: list[CodeType] = []
    _pending: dict[int, list[tuple[AtEnd, Any]]] = {}
    """By the id of the frame, which is alive as long as the call."""
    _tool: int | None = None

    def observe(code: CodeType, at_start: AtStart, at_end: AtEnd | None) -> None:
        """Have functions called at the start and at the end of each call of a code object.

        Args:
            code: Of a function, generator or coroutine.
            at_start: Called with the arguments.
            at_end: Called with what ``at_start`` returned, unless that is None; not if the call
                raised, which is not reported for single functions.

        Raises:
            ValueError: If other tools use all places for tools.
        """
        global _tool
        if _tool is None:
            _tool = _register()
        _observers[id(code)].append((at_start, at_end))
        _observed.append(code)
        events = sys.monitoring.events
        wanted = sys.monitoring.get_local_events(_tool, code) | events.PY_START
        sys.monitoring.set_local_events(_tool, code, wanted | (events.PY_RETURN if at_end else 0))

    def _register() -> int:
        free = [number for number in _TOOL_IDS if sys.monitoring.get_tool(number) is None]
        if not free:
            raise ValueError("other tools use all places for tools of sys.monitoring")
        events = sys.monitoring.events
        sys.monitoring.use_tool_id(free[0], "mlflow-plugins-pack")
        sys.monitoring.register_callback(free[0], events.PY_START, _started)
        sys.monitoring.register_callback(free[0], events.PY_RETURN, _returned)
        return free[0]

    def _started(code: CodeType, _offset: int) -> None:
        try:
            frame = sys._getframe(1)
            arguments = frame.f_locals
            waiting = []
            for at_start, at_end in _observers[id(code)]:
                try:
                    noted = at_start(arguments)
                except Exception:  # noqa: BLE001, S112  # the observed call goes on
                    continue
                if at_end is not None and noted is not None:
                    waiting.append((at_end, noted))
            if waiting:
                if len(_pending) >= _PENDING_LIMIT:
                    _pending.clear()
                _pending[id(frame)] = waiting
            else:
                # That of a call which raised may have had the same id.
                _pending.pop(id(frame), None)
        except Exception:  # noqa: BLE001, S110
            pass

    def _returned(_code: CodeType, _offset: int, _value: object) -> None:
        for at_end, noted in _pending.pop(id(sys._getframe(1)), ()):
            with contextlib.suppress(Exception):  # the observed call goes on
                at_end(noted)
