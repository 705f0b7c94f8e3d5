"""A plugin of pytest that puts the pack's stores where MLflow's own tests use stock's.

The registry store of SQL databases becomes that of `approval-`, with a policy that governs none of
the tests' models; a tracking store gives its experiments `cas-file` artifact locations where they
would be local folders, and the tests of the local artifact repository get that of `cas-file`.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest

from mlflow_plugins_pack.settings import APPROVALS_POLICY

POLICY = """
version: 1
groups: {leads: [lead]}
policies:
  - name: not in these tests
    match: {models: [not-in-these-tests]}
    targets: {aliases: [prod]}
    approvals: [{group: leads}]
"""


def pytest_configure(config: pytest.Config) -> None:
    """Replace the stores, before the tests are imported."""
    folder = Path(os.environ["MLFLOW_SUITES_FOLDER"])
    (folder / "policy.yaml").write_text(POLICY)
    os.environ[APPROVALS_POLICY.name] = str(folder / "policy.yaml")
    os.environ["MLFLOW_PACK_ARTIFACT_CACHE_DIR"] = str(folder / "cache")
    _replace_artifact_roots()
    _replace_registry_store()
    _replace_local_repository()


def _replace_artifact_roots() -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    stock = SqlAlchemyStore.__init__

    @functools.wraps(stock)
    def init(self: Any, db_uri: str, default_artifact_root: str, *more: Any, **named: Any) -> None:
        stock(self, db_uri, _over_pack(default_artifact_root), *more, **named)

    SqlAlchemyStore.__init__ = init


def _over_pack(uri: str) -> str:
    if "://" not in uri:
        uri = Path(uri.removeprefix("file:")).absolute().as_uri()
    return f"cas-{uri}" if uri.startswith("file:") else uri


def _replace_registry_store() -> None:
    from mlflow.store.model_registry import sqlalchemy_store

    from mlflow_plugins_pack.approvals.policy.source import PolicySource, policy_path
    from mlflow_plugins_pack.approvals.store import store

    class Substitute(store.ApprovalStore):
        def __init__(self, db_uri: str, read_db_uri: str | None = None) -> None:
            super().__init__(db_uri, read_db_uri, PolicySource(policy_path()))

    sqlalchemy_store.SqlAlchemyStore = Substitute  # type: ignore[misc]


def _replace_local_repository() -> None:
    from mlflow.store.artifact import local_artifact_repo

    from mlflow_plugins_pack.artifacts.plugin import CasArtifactRepository

    class Substitute(CasArtifactRepository):
        def __init__(self, artifact_uri: str, *more: Any, **named: Any) -> None:
            super().__init__(_over_pack(artifact_uri), *more, **named)

    local_artifact_repo.LocalArtifactRepository = Substitute  # type: ignore[misc, assignment]
