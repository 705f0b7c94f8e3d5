"""The number of statements that a protected change may take: at most twice stock's time.

Counted, not timed: time depends on the machine. docs/explanation/approvals.md lists the statements.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow.entities.model_registry import ModelVersionTag

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.approvals.content import evidence
from mlflow_plugins_pack.approvals.database import tables
from mlflow_plugins_pack.approvals.enforcement import enforcer
from mlflow_plugins_pack.approvals.ledger import audit_log
from mlflow_plugins_pack.approvals.plugin import build_store
from tests.support.acting import signed_in

POLICY = """
version: 1
groups: {leads: [bob, carol]}
policies:
  - name: prod
    match: {models: ["gov-*"]}
    targets: {aliases: [prod], stages: [Production]}
    approvals: [{group: leads}]
"""
DATABASES = ["sqlite", "postgresql", "mariadb"]


class Traffic:
    """What was said to a database."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.checkouts = 0

    def about(self, table: str) -> int:
        """Return how many statements read or write a table."""
        return sum(table in statement for statement in self.statements)


@contextlib.contextmanager
def listening(engine: sa.Engine) -> Iterator[Traffic]:
    traffic = Traffic()

    def said(conn: Any, cursor: Any, statement: str, *rest: Any) -> None:
        # Which policy is in force is asked by the clock, whatever is being done.
        if "mpp_active_policy" not in statement:
            traffic.statements.append(" ".join(statement.split()))

    def taken(*args: Any) -> None:
        traffic.checkouts += 1

    sa.event.listen(engine, "before_cursor_execute", said)
    sa.event.listen(engine.pool, "checkout", taken)
    try:
        yield traffic
    finally:
        sa.event.remove(engine, "before_cursor_execute", said)
        sa.event.remove(engine.pool, "checkout", taken)


@pytest.fixture(scope="module", params=DATABASES)
def store(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_database: Callable[[str, Path], str],
) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("budget")
    (folder / "policy.yaml").write_text(POLICY)
    url = mlflow_database(request.param, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(folder / "policy.yaml"))
        made = build_store(f"approval-{url}")
    with signed_in("alice"):
        for name in ("gov-a", "gov-b", "gov-c", "free"):
            made.create_registered_model(name)
            for number in ("1", "2"):
                files = folder / f"{name}-{number}"
                files.mkdir()
                (files / "weights").write_text(number)
                made.create_model_version(name, str(files))
    yield made
    made.engine.dispose()


def say(store: Any, user: str, command: str, name: str, version: int) -> None:
    with signed_in(user):
        tag = ModelVersionTag(f"approvals.{command}", "prod: fine")
        store.set_model_version_tag(name, version, tag)


# For the move of an alias that has a holder, the dearest; three are stock MLflow's own. PostgreSQL
# and MariaDB make the seven writes of the record in one statement.
MOVE = {"sqlite": 13, "postgresql": 7, "mysql": 7}


def test_a_protected_alias_moves_in_few_statements(store: Any) -> None:
    for version in (1, 2):
        for user, command in (("erin", "request"), ("bob", "approve")):
            say(store, user, command, "gov-a", version)
        with signed_in("erin"), listening(store.engine) as traffic:
            store.set_registered_model_alias("gov-a", "prod", version)
    told = "\n".join(traffic.statements)
    assert len(traffic.statements) <= MOVE[store.engine.dialect.name], told
    # A look before anything is locked, and the transaction.
    assert traffic.checkouts == 2, told
    # The votes are read once, under the lock, and with them all else that is decided on.
    assert traffic.about("mpp_decision") == 1, told
    assert sum(s.startswith("SELECT") for s in traffic.statements) <= 5, told


def test_the_run_is_read_for_a_request_and_not_again(
    store: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read = []
    monkeypatch.setattr(evidence, "_run", read.append)
    (tmp_path / "weights").write_text("1")
    with signed_in("alice"):
        store.create_registered_model("gov-d")
        store.create_model_version("gov-d", str(tmp_path), "a" * 32)
    with signed_in("erin"), pytest.raises(errors.ApprovalRequiredError):
        store.set_registered_model_alias("gov-d", "prod", 1)
    assert read == ["a" * 32]
    say(store, "bob", "approve", "gov-d", 1)
    with signed_in("erin"):
        store.set_registered_model_alias("gov-d", "prod", 1)
    assert read == ["a" * 32]


@pytest.mark.parametrize("ahead", [-1, 1])
def test_a_log_with_another_head_undoes_and_repeats(
    store: Any, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """The log's head is read without a lock; what was read may be old by the time it is used."""
    version = 1 if ahead < 0 else 2
    for user, command in (("erin", "request"), ("bob", "approve")):
        say(store, user, command, "gov-c", version)
    expected = []

    def expect_another_head(session: Any, seq: int, head_hash: str) -> None:
        expected.append(seq)
        audit_log.expect(session, seq + ahead, "0" * 64)

    with monkeypatch.context() as patch, signed_in("erin"), listening(store.engine) as traffic:
        patch.setattr(enforcer, "audit_log", SimpleNamespace(expect=expect_another_head))
        store.set_registered_model_alias("gov-c", "prod", version)
    assert len(expected) == 1
    assert sum("FOR UPDATE" in s and "mpp_audit_head" in s for s in traffic.statements) == (
        0 if store.engine.dialect.name == "sqlite" else 1
    )
    with store.engine.connect() as connection:
        assert audit_log.verify(connection).is_intact
        (number,) = connection.execute(
            sa.select(sa.func.count())
            .select_from(tables.audit)
            .where(tables.audit.c.name == "gov-c", tables.audit.c.action == "APPLIED")
        ).one()
    assert number == version  # one for each
    assert store.get_model_version_by_alias("gov-c", "prod").version == version


def test_asking_and_voting_take_few_statements(store: Any) -> None:
    # A vote reads the request before, to compare its files; that is not under the lock.
    for user, command, most in (("erin", "request", 9), ("bob", "approve", 12)):
        with listening(store.engine) as traffic:
            say(store, user, command, "gov-b", 1)
        assert len(traffic.statements) <= most, "\n".join(traffic.statements)


@pytest.mark.parametrize(("name", "alias"), [("free", "prod"), ("gov-a", "other")])
def test_an_unprotected_alias_takes_what_stock_takes(store: Any, name: str, alias: str) -> None:
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    told = []
    for move in (store.set_registered_model_alias, stock_move(store, SqlAlchemyStore)):
        with signed_in("erin"), listening(store.engine) as traffic:
            move(name, alias, 1)
        told.append(traffic.statements)
    # The second finds the alias where it is to be, and has nothing to write.
    assert len(told[0]) == len(told[1]) + 1, told


def stock_move(store: Any, stock: Any) -> Any:
    return lambda *arguments: stock.set_registered_model_alias(store, *arguments)
