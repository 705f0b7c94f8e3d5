"""Which run gets what a child process reported while a run is ending."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlflow_plugins_pack.lineage.attribution.ownership import Ownership
from mlflow_plugins_pack.lineage.attribution.runs import Runs
from mlflow_plugins_pack.lineage.capture import child_spool
from mlflow_plugins_pack.lineage.capture.child_processes import Children
from mlflow_plugins_pack.lineage.capture.event import READ, Event
from mlflow_plugins_pack.lineage.session.options import Options
from mlflow_plugins_pack.lineage.session.records import Records


def test_a_child_run_that_ends_while_reports_are_read_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker reads them, and MLflow takes the child run off the stack at that moment."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv(child_spool.VARIABLE, raising=False)
    runs = Runs()
    runs.sight("parent")
    runs.sight("child", "parent")
    ownership, children = Ownership(runs, 100), Children()
    innermost = ["child"]
    monkeypatch.setattr(ownership, "active_runs", lambda: tuple(innermost))
    children.has_run()
    children.before_child()
    report = Event(1, READ, "/data/x.csv", "audit", (), 1)
    child_spool.Writer(children._own).write(report)
    genuine = children.events

    def events(thread: int) -> Any:
        innermost[:] = ["parent"]
        return genuine(thread)

    monkeypatch.setattr(children, "events", events)
    records = Records(runs, ownership, children, Options(), ("spool",), lambda _: False)
    records.collect(ahead=True)
    assert [event.owners for event in records._events] == [("child",)]
    # From here on the run is ending, and what comes is left to its end.
    child_spool.Writer(children._own).write(report._replace(where="/data/y.csv"))
    records.collect(ahead=True)
    assert len(records._events) == 1
    records.collect("child")
    assert [event.owners for event in records._events] == [("child",), ("child",)]
