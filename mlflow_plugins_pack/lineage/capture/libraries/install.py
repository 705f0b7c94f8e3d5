"""Carries out the table: has a module that was just imported observed."""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mlflow_plugins_pack.lineage.capture.event import EITHER, READ
from mlflow_plugins_pack.lineage.capture.libraries.table import TABLE, Call, Install
from mlflow_plugins_pack.lineage.capture.observing.observe import observe
from mlflow_plugins_pack.lineage.capture.observing.observers import Arguments
from mlflow_plugins_pack.lineage.capture.recording import record, record_written


def modules(layers: tuple[str, ...]) -> list[str]:
    """Return the modules that the layers that are on wait for."""
    return [name for layer in layers for name in TABLE.get(layer, {})]


def imported(module: ModuleType) -> None:
    """Observe what the table names in a module.

    Raises:
        Exception: If a new version of the library is made otherwise.
    """
    rows = next(table[module.__name__] for table in TABLE.values() if module.__name__ in table)
    if isinstance(rows, Install):
        _function(rows.function)(module)
        return
    for row in rows:
        _observe(module, row)


def _observe(module: ModuleType, row: Call) -> None:
    *path, name = row.function.split(".")
    owner: Any = module
    for part in path:
        owner = getattr(owner, part, None)
    if owner is None:
        return
    at_start = _function(row.at_start) if row.at_start else dict
    at_end = _function(row.at_end) if row.at_end else None
    if row.kind in (READ, EITHER):
        at_start = functools.partial(_reads, row)
    elif row.kind:
        at_start, at_end = functools.partial(_writes, row), _wrote
    observe(owner, name, at_start, at_end, native=row.native)


def _function(name: str) -> Callable[..., Any]:
    """Return a function of a module of this package, or of the one above, by ``module.name``."""
    module, _, attribute = name.partition(".")
    package = __name__.rpartition(".")[0]
    if module == "child_processes":
        package = package.rpartition(".")[0]
    function: Callable[..., Any] = getattr(
        importlib.import_module(f"{package}.{module}"), attribute
    )
    return function


def _given(arguments: Arguments, names: str) -> Any:
    """Return the argument that is given under one of several names."""
    found = (arguments[name] for name in names.split("|") if name in arguments)
    return next((value for value in found if value is not None), None)


def _reads(row: Call, arguments: Arguments) -> None:
    source, filesystem = _given(arguments, row.parameter), _given(arguments, row.filesystem)
    record(row.kind, source, filesystem, suffixes=row.suffixes)


def _writes(row: Call, arguments: Arguments) -> tuple[Any, float, Any]:
    target, filesystem = _given(arguments, row.parameter), _given(arguments, row.filesystem)
    return target, time.time(), filesystem


def _wrote(noted: tuple[Any, float, Any]) -> None:
    record_written(*noted)
