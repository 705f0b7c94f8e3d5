"""The contract over each database, with workspaces and without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore
from mlflow.utils.workspace_context import WorkspaceContext

from mlflow_plugins_pack.approvals.plugin import build_store
from tests.approvals.support.databases import new_like_mysql
from tests.contracts.registry_store import POLICY, RegistryStoreContract

DATABASES = (pytest.param("sqlite", marks=pytest.mark.compat), "postgresql", "mariadb")


@pytest.fixture(scope="session", params=DATABASES)
def database(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_database: Callable[[str, Path], str],
) -> tuple[str, Any]:
    """A database URL and the stores on it, made once: MLflow's own tables take seconds."""
    url = mlflow_database(request.param, tmp_path_factory.mktemp("registry"))
    return url, {}


@pytest.fixture(scope="module")
def like_mysql(mariadb: Any) -> tuple[str, Any]:
    return new_like_mysql(mariadb), {}


@pytest.fixture
def policy_file(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path_factory.getbasetemp() / "contract-policy.yaml"
    path.write_text(POLICY)
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(path))


class TestWithoutWorkspaces(RegistryStoreContract):
    # There is nowhere to move to.
    test_no_approval_survives_a_change_of_workspace = None  # type: ignore[assignment]

    @pytest.fixture
    def store(self, database: tuple[str, Any], policy_file: None) -> Any:
        url, stores = database
        if "plain" not in stores:
            stores["plain"] = build_store(f"approval-{url}"), SqlAlchemyStore(url)
        return stores["plain"][0]

    @pytest.fixture
    def oracle(self, store: Any, database: tuple[str, Any]) -> Any:
        return database[1]["plain"][1]


class TestWithWorkspaces(RegistryStoreContract):
    @pytest.fixture
    def store(
        self, database: tuple[str, Any], policy_file: None, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Any]:
        url, stores = database
        monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
        if "aware" not in stores:
            stores["aware"] = build_store(f"approval-{url}"), WorkspaceAwareSqlAlchemyStore(url)
        assert stores["aware"][0].supports_workspaces
        with WorkspaceContext("team-a"):
            yield stores["aware"][0]

    @pytest.fixture
    def oracle(self, store: Any, database: tuple[str, Any]) -> Any:
        return database[1]["aware"][1]


class TestAsMySqlIsSetUp(RegistryStoreContract):
    """MariaDB with what MySQL 8 has by default: letters, their order, and strictness."""

    test_no_approval_survives_a_change_of_workspace = None  # type: ignore[assignment]

    @pytest.fixture
    def store(self, like_mysql: tuple[str, Any], policy_file: None) -> Any:
        url, stores = like_mysql
        if "plain" not in stores:
            stores["plain"] = build_store(f"approval-{url}"), SqlAlchemyStore(url)
        return stores["plain"][0]

    @pytest.fixture
    def oracle(self, store: Any, like_mysql: tuple[str, Any]) -> Any:
        return like_mysql[1]["plain"][1]


class TestTheOtherPostgresqlDriver:
    """Each driver reports lost races in its own way."""

    @pytest.fixture
    def contract(
        self, postgresql: Any, policy_file: None, tmp_path: Any
    ) -> Iterator[RegistryStoreContract]:
        url = postgresql.new_mlflow_database().replace("+psycopg", "+psycopg2")
        suite = RegistryStoreContract()
        suite.store, suite.folder = build_store(f"approval-{url}"), tmp_path
        yield suite
        suite.store.engine.dispose()

    def test_racing_votes_and_calls_apply_once(self, contract: RegistryStoreContract) -> None:
        contract.test_racing_votes_and_calls_apply_once()

    def test_the_audit_table_is_append_only(self, contract: RegistryStoreContract) -> None:
        contract.test_the_audit_table_is_append_only("DELETE FROM mpp_audit")
