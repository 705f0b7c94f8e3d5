"""Observes calls of a library's functions without changing what the program can see of them.

No frame of ours is on the call stack while the function runs, and warnings and tracebacks point
where they did. Three mechanisms do that:

- Python 3.12 and later report calls of a function by themselves (`monitoring`).
- Before, the code of a Python function gets a prelude that calls an observer (`prelude`).
- A function that is not written in Python is called by a function whose frame the interpreter
  shows to no one (`native_calls`). This is the only one that takes the place of another object;
  `immutable_types` puts it into types that assignment cannot change.

What can be observed in none of these ways is named in `unobserved` and `unobserved_types`.
"""

from __future__ import annotations

import inspect
import sys
from types import FunctionType
from typing import Any

from mlflow_plugins_pack.lineage.capture.observing.observers import AtEnd, AtStart

unobserved: set[str] = set()
"""Functions, as ``library.function``, that a table names and that cannot be observed."""
unobserved_types: set[str] = set()
"""The same for types that are not written in Python, which nothing can take the place of."""


def observe(
    owner: Any,
    name: str,
    at_start: AtStart,
    at_end: AtEnd | None = None,
    *,
    native: tuple[str, ...] = (),
) -> bool:
    """Have functions called with the arguments of each call of a function.

    Args:
        owner: The module or class that has the function.
        name: Its name there. One that is missing is left alone: libraries change.
        at_start: Called with the arguments before the function's own code.
        at_end: Called in the same thread when the function has returned, with what ``at_start``
            returned, unless that is None. Where the function raised, it may not be called.
        native: The first parameters of a function that is not written in Python. Where it is, it
            is left alone.

    Returns:
        Whether the function is observed.
    """
    found = inspect.getattr_static(owner, name, None)
    if found is None:
        return False
    function = found.__func__ if isinstance(found, (staticmethod, classmethod)) else found
    function = inspect.unwrap(function)
    if isinstance(function, type):
        unobserved_types.add(label(owner, name))
        return False
    try:
        if isinstance(function, FunctionType):
            if native:
                return False
            _observe_python(function, at_start, at_end)
        else:
            call = _observing_native(function, native, at_start, at_end)
            _put(owner, name, staticmethod(call) if isinstance(found, staticmethod) else call)
    except (ValueError, AttributeError, TypeError):  # has no room for us
        unobserved.add(label(owner, name))
        return False
    return True


def label(owner: Any, name: str) -> str:
    """Return a function's name for people, such as ``duckdb.execute``."""
    module = getattr(owner, "__module__", None) or owner.__name__
    return f"{module.partition('.')[0].removeprefix('_')}.{name}"


def _observe_python(function: FunctionType, at_start: AtStart, at_end: AtEnd | None) -> None:
    if sys.version_info >= (3, 12):
        from mlflow_plugins_pack.lineage.capture.observing import monitoring

        monitoring.observe(function.__code__, at_start, at_end)
    else:
        from mlflow_plugins_pack.lineage.capture.observing import prelude

        function.__code__ = prelude.with_prelude(
            function.__code__, prelude.observer(at_start, at_end)
        )


def _put(owner: Any, name: str, value: Any) -> None:
    try:
        setattr(owner, name, value)
    except TypeError:
        from mlflow_plugins_pack.lineage.capture.observing import immutable_types

        immutable_types.replace_method(owner, name, value)


def _observing_native(
    function: Any, parameters: tuple[str, ...], at_start: AtStart, at_end: AtEnd | None
) -> Any:
    from mlflow_plugins_pack.lineage.capture.observing import native_calls

    if not parameters or not callable(function):
        raise TypeError("it is neither a function of Python nor the native one that is expected")
    return native_calls.observing(function, parameters, at_start, at_end)
