"""Kills itself at each step of a promotion: ``python -m tests.approvals.support.crashing URL``.

For each step of the call, which is a statement, a commit or the return of one, a child is forked
that makes the call and is killed (SIGKILL) there. The parent looks at what is left: all of it or
nothing. Prints one JSON list: [step, what it was, "before" or "after"].
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from mlflow.entities.model_registry import ModelVersionTag

from mlflow_plugins_pack.approvals.background import drift
from mlflow_plugins_pack.approvals.database import tables
from mlflow_plugins_pack.approvals.ledger import audit_log
from mlflow_plugins_pack.approvals.plugin import build_store
from tests.support.acting import signed_in

BEFORE = {"alias": None, "state": "APPROVED", "grants": 0, "applied": 0}
AFTER = {"alias": 1, "state": "APPLIED", "grants": 1, "applied": 1}


def prepare(store: Any, name: str, folder: Path) -> None:
    """Have version 1 of a new model approved for prod."""
    (folder / name).mkdir()
    (folder / name / "weights").write_text(name)
    with signed_in("alice"):
        store.create_registered_model(name)
        store.create_model_version(name, str(folder / name))
    for user, command in (("erin", "request"), ("bob", "approve")):
        with signed_in(user):
            tag = ModelVersionTag(f"approvals.{command}", "prod: fine")
            store.set_model_version_tag(name, 1, tag)


def promote(store: Any, name: str) -> None:
    with signed_in("erin"):
        store.set_registered_model_alias(name, "prod", 1)


def left(store: Any, name: str) -> dict[str, Any]:
    """Return what a reader finds of a promotion."""
    with store.engine.connect() as connection:
        query = "SELECT version FROM registered_model_aliases WHERE name = :name"
        grants, log, asked = tables.grants, tables.audit, tables.requests
        count = sa.func.count()
        return {
            "alias": connection.execute(sa.text(query), {"name": name}).scalar(),
            "state": connection.execute(
                sa.select(asked.c.state).where(asked.c.name == name)
            ).scalar(),
            "grants": connection.execute(
                sa.select(count).select_from(grants).where(grants.c.name == name)
            ).scalar(),
            "applied": connection.execute(
                sa.select(count)
                .select_from(log)
                .where(log.c.name == name, log.c.action == "APPLIED")
            ).scalar(),
        }


WRITES = ("INSERT", "UPDATE", "WITH", "BEGIN NOT ATOMIC")


def kill_at(store: Any, step: int, report: int) -> None:
    """Let this process die at a step of what it does next, telling first what the step is.

    Steps are the writes of this thread and what follows them. Reads before the first write, which
    depend on what was read a moment ago, and the store's background work are not counted: the same
    number has to be the same step in each process.
    """
    seen, promoting = 0, threading.get_ident()

    def reached(what: str) -> None:
        nonlocal seen
        is_read = what.startswith(("SELECT", "PRAGMA", "SHOW"))
        if threading.get_ident() != promoting or is_read:
            return
        if not seen and not what.startswith(WRITES):
            return
        seen += 1
        if seen == step:
            os.write(report, what.encode()[:4096])
            os.kill(os.getpid(), signal.SIGKILL)

    @sa.event.listens_for(store.engine, "before_cursor_execute")
    def _before(conn: Any, cursor: Any, statement: str, *arguments: Any) -> None:
        reached(" ".join(statement.split()))

    @sa.event.listens_for(store.engine, "commit")
    def _commit(conn: Any) -> None:
        reached("before a commit")

    @sa.event.listens_for(store.engine, "checkin")  # codespell:ignore checkin
    def _checkin(dbapi_connection: Any, record: Any) -> None:
        reached("after a commit or a rollback")


def die_at(store: Any, name: str, step: int) -> tuple[int, str]:
    """Promote in a child that dies at a step; return its status and what the step was."""
    reading, writing = os.pipe()
    store.engine.dispose()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            kill_at(store, step, writing)
            promote(store, name)
        except BaseException:
            os._exit(3)
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        return status, pipe.read().decode()


def main(url: str) -> None:
    folder = Path(tempfile.mkdtemp())
    store = build_store(f"approval-{url}")
    found: list[list[Any]] = []
    for step in range(1, 500):
        name = f"gov-{step}"
        prepare(store, name, folder)
        status, what = die_at(store, name, step)
        if not os.WIFSIGNALED(status):
            assert status == 0, f"the call failed by itself: {status}"
            assert left(store, name) == AFTER
            break
        state = left(store, name)
        assert state in (BEFORE, AFTER), f"between, at step {step} ({what}): {state}"
        found.append([step, what, "before" if state == BEFORE else "after"])
        promote(store, name)  # the next server continues from there
        assert left(store, name) == AFTER
    with store.engine.connect() as connection:
        assert audit_log.verify(connection).is_intact
    policy = store.governance.policy()
    assert store._transactions.read(lambda s: drift.find(s, policy)) == []
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
