"""Stock MLflow's registry store with enforcement in front of every write that policies govern.

Each override decides only whether the enforcer must be asked; what no policy governs takes the
stock path untouched. Enforcement lives here, below every handler, client and app.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import mlflow.version
from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore

from mlflow_plugins_pack.approvals.background.worker import Worker, is_server_process
from mlflow_plugins_pack.approvals.commands.voting import Commands
from mlflow_plugins_pack.approvals.database import schema
from mlflow_plugins_pack.approvals.database.transactions import Transactions
from mlflow_plugins_pack.approvals.domain.clock import now_ms
from mlflow_plugins_pack.approvals.enforcement.enforcer import Enforcer
from mlflow_plugins_pack.approvals.guards.install import GuardedPolicy
from mlflow_plugins_pack.approvals.policy.source import PolicySource, policy_path
from mlflow_plugins_pack.approvals.store.tags import TagOverrides
from mlflow_plugins_pack.approvals.store.targets import TargetOverrides
from mlflow_plugins_pack.approvals.store.versions import ModelOverrides
from mlflow_plugins_pack.errors import ConfigurationError, UnsupportedUriError
from mlflow_plugins_pack.uris import REGISTRY_WORD, scheme_of, to_stock, without_credentials
from mlflow_plugins_pack.versions import OLDEST_MLFLOW, mlflow_version

if TYPE_CHECKING:
    from collections.abc import Callable

SERVED_DATABASES = ("sqlite", "postgresql", "mysql")


def stock_uri(store_uri: str) -> str:
    """Return the database URI behind an ``approval-`` URI.

    Raises:
        UnsupportedUriError: If it is not a database that this store works with.
    """
    inner = to_stock(REGISTRY_WORD, store_uri)
    dialect = scheme_of(inner).partition("+")[0]
    if dialect in SERVED_DATABASES:
        return inner
    known = f"MLflow knows {dialect}, but this store does not serve it"
    why = {
        "file": "a file store has no transactions, so nothing could be enforced in it",
        "http": "a server enforces approvals itself; give clients its plain address",
        "https": "a server enforces approvals itself; give clients its plain address",
    }.get(dialect, known if dialect in DATABASE_ENGINES else "it is not a database MLflow knows")
    raise UnsupportedUriError(
        f"The registry URI {without_credentials(store_uri)!r} cannot be opened: {why}. Nothing was "
        f"opened. Use approval- in front of a {', '.join(SERVED_DATABASES)} URI, such as "
        "approval-sqlite:///mlflow.db."
    )


def open_store(store_uri: str) -> ApprovalStoreMixin:
    """Open the store for an ``approval-`` URI; see `mlflow_plugins_pack.approvals.plugin`."""
    from mlflow.server.constants import READ_REPLICA_BACKEND_STORE_URI_ENV_VAR

    database = stock_uri(store_uri)
    if mlflow_version() < OLDEST_MLFLOW:
        # Its own checks differ, and so would what they let through.
        raise ConfigurationError(
            f"The registry URI {without_credentials(store_uri)!r} cannot be opened: approvals are "
            f"not enforced in full on MLflow {mlflow.version.VERSION}. Nothing was opened. Install "
            f"MLflow {'.'.join(map(str, OLDEST_MLFLOW))} or later."
        )
    policies = PolicySource(policy_path())
    replica = os.environ.get(READ_REPLICA_BACKEND_STORE_URI_ENV_VAR)
    kind = WorkspaceApprovalStore if MLFLOW_ENABLE_WORKSPACES.get() else ApprovalStore
    return kind(database, replica, policies)


class ApprovalStoreMixin(TargetOverrides, ModelOverrides, TagOverrides):
    """Overrides of a stock SQL registry store; mixed in before it.

    Attributes:
        enforcer: Enforces the policy.
        commands: Takes requests, votes and comments.
    """

    def __init__(self, db_uri: str, read_db_uri: str | None, policies: PolicySource) -> None:
        with schema.first_start(db_uri, self._get_or_create_engine):
            super().__init__(db_uri, read_db_uri)
        schema.upgrade(self.engine)
        guarded_by = GuardedPolicy(self.engine, policies)
        self._transactions = Transactions(self.engine, prepare=guarded_by.refresh)
        stock_maker: Callable[..., Any] = self.ManagedSessionMaker
        self.ManagedSessionMaker: Callable[..., Any] = self._transactions.joining(stock_maker)
        self.enforcer = Enforcer(self._transactions, policies, self._get_active_workspace)
        self.commands = Commands(self.enforcer, self._write)
        self.worker = Worker(self._transactions, policies.current, now_ms, self.enforcer.readings)
        if is_server_process():
            self.worker.start()


class ApprovalStore(ApprovalStoreMixin, SqlAlchemyStore):
    """The store of a server without workspaces."""


class WorkspaceApprovalStore(ApprovalStoreMixin, WorkspaceAwareSqlAlchemyStore):
    """The store of a server with workspaces."""

    def __init__(self, db_uri: str, read_db_uri: str | None, policies: PolicySource) -> None:
        super().__init__(db_uri, read_db_uri, policies)
