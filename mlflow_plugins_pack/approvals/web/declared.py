"""Puts into words what a version's files declare: its signature and its environment; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*(?P<rest>.*)")
_PARTS = (("inputs", "input"), ("outputs", "output"), ("params", "parameter"))
_MAX_COLUMNS = 500


def signature(model_file: Mapping[str, Any]) -> dict[str, str]:
    """Return the types of a model's inputs, outputs and parameters, by what they are called.

    Args:
        model_file: The values of its ``MLmodel`` file.
    """
    declared = model_file.get("signature")
    found: dict[str, str] = {}
    if not isinstance(declared, dict):
        return found
    for part, word in _PARTS:
        for number, column in enumerate(_columns(declared.get(part))):
            found[f"{word} {column.get('name') or number}"] = _type(column)
    return found


def _columns(text: Any) -> list[dict[str, Any]]:
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError):
        return []
    listed = found if isinstance(found, list) else []
    return [column for column in listed[:_MAX_COLUMNS] if isinstance(column, dict)]


def _type(column: Mapping[str, Any]) -> str:
    text = str(column.get("type", "unknown"))
    tensor = column.get("tensor-spec")
    if isinstance(tensor, dict):
        text = f"tensor of {tensor.get('dtype')}, shape {tensor.get('shape')}"
    elif text in ("object", "array", "map"):
        inner = column.get("properties") or column.get("items") or column.get("values")
        # YAML has dates, also as keys, and JSON has not.
        written = json.dumps(inner, default=str, skipkeys=True)
        text = f"{text} {written[:200]}" if inner else text
    if "default" in column:
        text += f", default {column['default']}"
    return text if column.get("required", True) else f"{text}, optional"


def environment(model_file: Mapping[str, Any], requirements: str | None) -> dict[str, str]:
    """Return the versions of Python, MLflow and packages that a model declares.

    Args:
        model_file: The values of its ``MLmodel`` file.
        requirements: The text of its ``requirements.txt``.
    """
    flavors = model_file.get("flavors")
    function = flavors.get("python_function") if isinstance(flavors, dict) else None
    python = function.get("python_version") if isinstance(function, dict) else None
    declared = (
        ("Python", python),
        ("Logged by MLflow", model_file.get("mlflow_version")),
    )
    found = {name: str(value) for name, value in declared if value}
    for line in (requirements or "").splitlines()[:_MAX_COLUMNS]:
        match = _REQUIREMENT.fullmatch(line.partition("#")[0].strip())
        if match is not None:
            version = match["rest"].removeprefix("==").strip()
            found[match["name"].lower()] = version or "any version"
    return found
