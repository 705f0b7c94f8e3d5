"""Installs and removes the database guards: opt-in triggers against other database clients.

The server checks every call, but a client with the database's URI can open it with the stock store
or with SQL. With the guards installed, the database itself refuses changes of what the policy
protects unless this store makes the transaction. `triggers` has the conditions.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database import policies, schema
from mlflow_plugins_pack.approvals.database.tables import (
    guard,
    guard_exemptions,
    guard_patterns,
    guard_targets,
)
from mlflow_plugins_pack.approvals.guards import triggers
from mlflow_plugins_pack.approvals.policy.models import Policy
from mlflow_plugins_pack.approvals.policy.source import PolicySource
from mlflow_plugins_pack.errors import ConfigurationError, RegistryBusyError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """The state of the guards in a database.

    Attributes:
        installed_at: when they were installed, in milliseconds since the epoch; None: never.
        policy_sha256: the digest of the policy they enforce.
        missing: triggers that should exist and do not.
        left_over: triggers that exist although the guards were never installed, or were removed.
        open_models: (workspace, name) of models whose guard is turned off for good.
    """

    installed_at: int | None
    policy_sha256: str | None
    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    open_models: tuple[tuple[str, str], ...]

    @property
    def is_installed(self) -> bool:
        """Whether the guards were installed."""
        return self.installed_at is not None

    def problems(self, policy: Policy | None) -> list[str]:
        """Return what is wrong, empty if the guards are whole or were never asked for."""
        again = "run: mlflow-pack approvals guards install"
        found = []
        if self.missing:
            found.append(
                f"the triggers {', '.join(self.missing)} are missing, as after a migration of "
                f"MLflow's tables in SQLite; {again}"
            )
        if self.left_over:
            found.append(
                f"the triggers {', '.join(self.left_over)} exist although the guards are not "
                "installed; "
                "run: mlflow-pack approvals guards remove"
            )
        if self.is_installed and policy is not None and policy.sha256 != self.policy_sha256:
            found.append(
                f"they enforce the policy {self.policy_sha256}, and {policy.sha256} is in force; "
                f"start the server with it, or {again}"
            )
        if self.open_models:
            names = ", ".join(f"'{name}'" for _, name in self.open_models)
            found.append(
                f"mpp_guard_exemption has a committed row for {names}, which turns its guard off; "
                f"{again}"
            )
        return found


def status(connection: Connection) -> Status:
    """Return the state of the guards in a database."""
    row = connection.execute(sa.select(guard)).first()
    there = schema.triggers(connection)
    names = triggers.trigger_names()
    passes = connection.execute(sa.select(guard_exemptions)).all()
    return Status(
        installed_at=row.installed_at if row else None,
        policy_sha256=row.policy_sha256 if row else None,
        missing=tuple(n for n in names if row is not None and n not in there),
        left_over=tuple(n for n in names if row is None and n in there),
        open_models=tuple((p.workspace, p.name) for p in passes),
    )


def install(engine: Engine, policy: Policy, now_ms: int) -> None:
    """Install the guards for a policy, or bring them up to date.

    Raises:
        ConfigurationError: If MLflow's tables are missing or too old, or the account may not
            create triggers, or another policy is in force.
    """
    _check_tables(engine)
    with schema.exclusive(engine) as connection:
        found = policies.in_force(connection)
        if found is not None and found[0] != policy.sha256:
            raise ConfigurationError(
                f"The guards cannot be installed: the policy with sha256 {found[0]} is in force, "
                f"and this file has {policy.sha256}. Nothing was changed. Give the file that is in "
                "force, or run first: mlflow-pack approvals policy activate"
            )
        try:
            _run(connection, triggers.install_statements(engine.dialect.name))
            _write_policy(connection, policy)
            connection.execute(sa.delete(guard_exemptions))
            connection.execute(sa.delete(guard))
            connection.execute(
                sa.insert(guard).values(id=1, policy_sha256=policy.sha256, installed_at=now_ms)
            )
        except sa.exc.DBAPIError as exc:
            raise ConfigurationError(
                f"The guards could not be installed: {exc.orig}. The account needs the right to "
                "create triggers on MLflow's tables; MySQL with a binary log also needs "
                "log_bin_trust_function_creators=1 or the SUPER privilege. Run it again with an "
                "account that may; `mlflow-pack approvals guards status` shows what is there."
            ) from exc


def remove(engine: Engine) -> None:
    """Remove the guards; the server continues to check its own calls."""
    with schema.exclusive(engine) as connection:
        _run(connection, triggers.remove_statements(engine.dialect.name))
        for table in (guard_exemptions, guard_patterns, guard_targets, guard):
            connection.execute(sa.delete(table))


def refresh(engine: Engine, policy: Policy) -> None:
    """Update installed guards to the policy in force, and restore triggers that are missing."""
    with engine.connect() as connection:
        found = status(connection)
    if not found.is_installed or not (found.missing or found.policy_sha256 != policy.sha256):
        return
    if found.missing:
        _logger.warning("Some database guards were missing and are restored: %s", found.missing)
    with schema.exclusive(engine) as connection:
        if found.missing:
            _run(connection, triggers.install_statements(engine.dialect.name))
        _write_policy(connection, policy)
        connection.execute(sa.update(guard).values(policy_sha256=policy.sha256))


def are_installed(session: Session) -> bool:
    """Return whether the guards were installed."""
    return session.execute(_GUARD_ID).first() is not None


_GUARD_ID = sa.select(guard.c.id)


@contextlib.contextmanager
def admitted(
    session: Session, workspace: str, *names: str, installed: bool | None = None
) -> Iterator[None]:
    """Let this transaction, and no other, change what is protected of the models.

    The rows that say so are deleted before the transaction commits.

    Args:
        session: The session of a write transaction.
        workspace: The models' workspace.
        names: The models' names.
        installed: Whether the guards are installed, if the transaction has read that already.
    """
    if not (are_installed(session) if installed is None else installed):
        yield
        return
    unique = sorted(set(names))
    where = [guard_exemptions.c.workspace == workspace, guard_exemptions.c.name.in_(unique)]
    there = set(session.execute(sa.select(guard_exemptions.c.name).where(*where)).scalars())
    mine = [name for name in unique if name not in there]
    for name in mine:
        session.execute(sa.insert(guard_exemptions).values(workspace=workspace, name=name))
    yield
    session.flush()
    if mine:
        taken_back = [guard_exemptions.c.workspace == workspace, guard_exemptions.c.name.in_(mine)]
        session.execute(sa.delete(guard_exemptions).where(*taken_back))


def _check_tables(engine: Engine) -> None:
    inspector = sa.inspect(engine)
    for table in triggers.TABLES:
        columns = (
            {column["name"] for column in inspector.get_columns(table)}
            if inspector.has_table(table)
            else set()
        )
        if "workspace" not in columns:
            raise ConfigurationError(
                f"The guards cannot be installed: MLflow's table '{table}' is missing or older "
                "than this version needs. Nothing was changed. Run `mlflow db upgrade` first."
            )


def _run(connection: Connection, statements: Iterator[str]) -> None:
    # Without parameters, so that no driver looks for placeholders in them.
    for statement in statements:
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def _write_policy(connection: Connection, policy: Policy) -> None:
    patterns, targets = triggers.pattern_rows(policy)
    connection.execute(sa.delete(guard_patterns))
    connection.execute(sa.delete(guard_targets))
    rows = [{"id": number, **vars(pattern)} for number, pattern in enumerate(patterns)]
    if rows:
        connection.execute(sa.insert(guard_patterns), rows)
    pairs = [
        {"id": number, "policy_index": index, "target": target}
        for number, (index, target) in enumerate(targets)
    ]
    if pairs:
        connection.execute(sa.insert(guard_targets), pairs)


class GuardedPolicy:
    """Registers the policy in force in the database, and keeps installed guards at it.

    Args:
        engine: The registry's database.
        policies: Provides the policy in force.
        activate: Puts a policy into force in place of the one with a digest, if that is still in
            force, on a connection that holds the migration lock; returns whether it is.
        is_free: Returns whether this thread is outside any write transaction.
    """

    def __init__(
        self,
        engine: Engine,
        policies: PolicySource,
        activate: Callable[[Connection, Policy, str | None], bool],
        is_free: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._policies = policies
        self._activate = activate
        self._written: str | None = None
        self.is_free = is_free
        policies.attach(self)
        self.refresh()

    def in_force(self) -> tuple[str, str] | None:
        """Return the digest and the text of the policy in force."""
        try:
            with self._engine.connect() as connection:
                return policies.in_force(connection)
        except sa.exc.SQLAlchemyError as exc:
            raise RegistryBusyError(
                "the policy in force cannot be read from the registry's database. Nothing was "
                "changed. Check whether the database runs, and try again."
            ) from exc

    def activate(self, policy: Policy, replaces: str | None) -> bool:
        """Put a policy into force in place of another one."""
        with schema.exclusive(self._engine) as connection:
            return self._activate(connection, policy, replaces)

    def refresh(self) -> None:
        """Update the guards if the policy has changed since the last call.

        Never call it inside a transaction: it opens its own.
        """
        policy = self._policies.current()
        if policy.sha256 != self._written:
            refresh(self._engine, policy)
            self._written = policy.sha256
