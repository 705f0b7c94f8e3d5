"""Conditions in CEL, the Common Expression Language (https://cel.dev): no loops, no side effects.

CEL comes with the extra ``cel``; without it a policy that has expressions is invalid, never lax.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

VARIABLES = ("metrics", "params", "tags", "version", "holder")

MISSING = (
    "expressions need the extra 'cel', which is not installed: "
    "pip install 'mlflow-plugins-pack[cel]'"
)


@lru_cache(maxsize=256)
def _program(text: str) -> Any:
    """Compile an expression.

    Raises:
        ValueError: If it does not compile, or the extra is missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import celpy
    except ImportError as exc:
        raise ValueError(MISSING) from exc
    environment = celpy.Environment()
    try:
        return environment.program(environment.compile(text))
    except RecursionError as exc:
        raise ValueError(f"{text!r} is nested too deeply") from exc
    except celpy.CELParseError as exc:
        where = f" at column {exc.column}" if getattr(exc, "column", None) else ""
        raise ValueError(f"{text!r} is not a CEL expression{where}") from exc


def check_expression(text: str) -> str:
    """Return the expression if it compiles and names only variables that exist.

    Raises:
        ValueError: If it does not.
    """
    _program(text)
    # Evaluated once over nothing: a name that does not exist is told apart from a missing member.
    failure = evaluate(text, dict.fromkeys(VARIABLES))
    if isinstance(failure, str) and failure.startswith("undeclared reference to"):
        name = failure.split("'")[1]
        raise ValueError(f"there is no {name!r}; an expression has {', '.join(VARIABLES)}")
    return text


def evaluate(text: str, values: Mapping[str, Any]) -> bool | str:
    """Evaluate an expression.

    Args:
        text: CEL.
        values: The variables: numbers, texts, mappings of these, None.

    Returns:
        True or False, or why it has no value.
    """
    program = _program(text)
    import celpy

    try:
        context = {name: celpy.json_to_cel(value) for name, value in values.items()}
        result = program.evaluate(context)
    except celpy.CELEvalError as exc:
        return _reason(exc)
    except RecursionError:
        return "it is nested too deeply"
    if isinstance(result, (bool, celpy.celtypes.BoolType)):
        return bool(result)
    return f"it gives {result}, not true or false"


def _reason(exc: Exception) -> str:
    text = str(exc.args[0]) if exc.args else str(exc)
    if text.startswith("undeclared reference"):
        return text.split(" (in ")[0]
    if text.startswith("no such member"):
        return f"there is no {text.rsplit(':', 1)[-1].strip()}"
    if "does not support field selection" in text:
        return "a member of nothing was asked for; write: holder == null || ..."
    if text.startswith("found no matching overload"):
        return "it compares or combines values of different types (metrics are like 3.0, not 3)"
    return text[:200]
