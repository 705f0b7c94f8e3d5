"""Stock MLflow's registry store with enforcement in front of every write that policies govern.

Each override decides only whether the enforcer must be asked; what no policy governs takes the
stock path untouched. Enforcement lives here, below every handler, client and app.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import mlflow.version
from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore

from mlflow_plugins_pack.approvals.background import unbacked_tags
from mlflow_plugins_pack.approvals.background.worker import Worker, is_server_process
from mlflow_plugins_pack.approvals.commands.commands import Commands
from mlflow_plugins_pack.approvals.database import schema
from mlflow_plugins_pack.approvals.database.transactions import Transactions
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.enforcement.enforcer import Enforcer
from mlflow_plugins_pack.approvals.enforcement.governance import Governance
from mlflow_plugins_pack.approvals.guards.install import GuardedPolicy
from mlflow_plugins_pack.approvals.ledger import policy_changes
from mlflow_plugins_pack.approvals.policy.source import PolicySource, policy_path
from mlflow_plugins_pack.approvals.store.tags import TagOverrides
from mlflow_plugins_pack.approvals.store.targets import TargetOverrides
from mlflow_plugins_pack.approvals.store.versions import ModelOverrides
from mlflow_plugins_pack.approvals.uri import stock_uri
from mlflow_plugins_pack.errors import ConfigurationError
from mlflow_plugins_pack.uris import without_credentials
from mlflow_plugins_pack.versions import OLDEST_MLFLOW, mlflow_version

if TYPE_CHECKING:
    from collections.abc import Callable


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
        governance: The policy in force.
        enforcer: Enforces it.
        commands: Requests, votes, comments and break-glass.
        worker: The background work.
    """

    def __init__(self, db_uri: str, read_db_uri: str | None, policies: PolicySource) -> None:
        with schema.first_start(db_uri, self._get_or_create_engine):
            super().__init__(db_uri, read_db_uri)
        is_first = schema.upgrade(self.engine)
        self._transactions = Transactions(self.engine)
        guarded_by = GuardedPolicy(
            self.engine, policies, policy_changes.activate, lambda: not self._transactions.is_open
        )
        self._transactions.prepare = guarded_by.refresh
        stock_maker: Callable[..., Any] = self.ManagedSessionMaker
        self.ManagedSessionMaker: Callable[..., Any] = self._transactions.joining(stock_maker)
        self.governance = Governance(policies, self._get_active_workspace)
        self.enforcer = Enforcer(self._transactions, self.governance)
        self.commands = Commands(self.enforcer, self._write)
        self.worker = Worker(
            self._transactions, policies.current, clock.now_ms, self.enforcer.digest_jobs
        )
        if is_first or is_server_process():
            # Before anything is served: clients believe what the tags say.
            unbacked_tags.remove(self._transactions, policies.current())
        if is_server_process():
            self.worker.start()


class ApprovalStore(ApprovalStoreMixin, SqlAlchemyStore):
    """The store of a server without workspaces."""


class WorkspaceApprovalStore(ApprovalStoreMixin, WorkspaceAwareSqlAlchemyStore):
    """The store of a server with workspaces."""

    def __init__(self, db_uri: str, read_db_uri: str | None, policies: PolicySource) -> None:
        super().__init__(db_uri, read_db_uri, policies)
