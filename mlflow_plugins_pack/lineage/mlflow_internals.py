"""Every use of MLflow's internals; tests/lineage/test_mlflow_internals.py guards each.

What is used, and what happens should a later MLflow lack it:

- ``fluent.run_id_to_system_metrics_monitor``: a module-level dict that `end_run` asks, after each
  run, whether the run has an entry. A subclass that behaves the same and reports the question
  takes its place. Without it, runs on a database URI are written at the end of the process.
- ``fluent._active_run_stack``: the active runs of all threads, a list for each that changes in
  place. Without it, reads of threads that have no run of their own are attributed to no run, and
  each open asks for the active run again.
- ``set_terminated`` and ``update_run_info`` on the call stack: which run is ended, and how.
  Without them, an OpenLineage event says ``OTHER``, and attached runs end with their block.
- ``fluent._last_active_run_id``: the run that this thread is ending. Without it, records are
  written just after a run is marked as finished, not just before.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

_PARENT_TAG = "mlflow.parentRunId"


class ReportingDict(dict):  # type: ignore[type-arg]
    """A dict that reports which keys it is asked for, and is the same as a dict otherwise."""

    def __init__(self, content: dict[str, Any], asked: Callable[[str], None]) -> None:
        super().__init__(content)
        self._asked = asked

    def __contains__(self, key: object) -> bool:
        if key.__class__ is str:
            self._asked(str(key))
        return super().__contains__(key)


_fluent: Any | None = None


def fluent() -> Any | None:
    """Return ``mlflow.tracking.fluent`` once its import is complete, else None."""
    global _fluent  # asked at every open
    if _fluent is None:
        module = sys.modules.get("mlflow.tracking.fluent")
        _fluent = module if module is not None and hasattr(module, "end_run") else None
    return _fluent


def watch_run_ends(ended: Callable[[str], None]) -> bool:
    """Have a function called in the run's thread whenever `end_run` has ended a run.

    Returns:
        Whether it will be called.
    """
    module = fluent()
    monitors = getattr(module, "run_id_to_system_metrics_monitor", None)
    if isinstance(monitors, ReportingDict):
        return True
    if type(monitors) is not dict:
        return False
    module.run_id_to_system_metrics_monitor = ReportingDict(monitors, ended)  # type: ignore[union-attr]
    return True


def active_run() -> Any | None:
    """Return this thread's innermost active run, or None."""
    module = fluent()
    return module.active_run() if module is not None else None


def own_runs() -> list[Any] | None:
    """Return the list that holds this thread's active runs as long as the thread lives."""
    stack = getattr(fluent(), "_active_run_stack", None)
    runs = stack.get() if stack is not None else None
    return runs if isinstance(runs, list) else None


def other_threads_runs() -> list[Any]:
    """Return the innermost active run of every thread that has one."""
    stack = getattr(fluent(), "_active_run_stack", None)
    if stack is None:
        return []
    return [runs[-1] for runs in list(stack.get_all_thread_values().values()) if runs]


def run_id_of(run: Any) -> str:
    """Return a run's id."""
    return str(run.info.run_id)


def parent_of(run: Any) -> str | None:
    """Return the id of the run that a run is nested in."""
    parent = run.data.tags.get(_PARENT_TAG)
    return str(parent) if parent else None


def last_ended_run() -> str | None:
    """Return the id of the run that this thread ended last, or is ending now."""
    variable = getattr(fluent(), "_last_active_run_id", None)
    value = variable.get() if variable is not None else None
    return str(value) if value else None


def tracking_uri() -> str:
    """Return the tracking URI in force; empty before mlflow is imported."""
    module = sys.modules.get("mlflow")
    return str(module.get_tracking_uri()) if module is not None else ""


def run_id_being_ended() -> str | None:
    """Return the id of the run whose end the calling thread is sending, found on the call stack."""
    found = _locals_of("update_run_info", "run_status")
    return str(found.get("run_id")) if found and found.get("end_time") else None


def status_being_set() -> str | None:
    """Return the status, such as ``FAILED``, that the calling thread is ending a run with."""
    found = _locals_of("set_terminated", "status")
    return str(found["status"] or "FINISHED") if found else None


def _locals_of(function: str, variable: str) -> dict[str, Any] | None:
    """Return the variables of the nearest caller of that name that has such a variable."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == function and variable in frame.f_locals:
            return dict(frame.f_locals)
        frame = frame.f_back  # type: ignore[assignment]
    return None


@contextlib.contextmanager
def impatient_requests() -> Iterator[None]:
    """Make stock requests give up early; changes the environment, so only for a process's end."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
