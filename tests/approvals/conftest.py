"""Fixtures of the approvals tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.approvals.support.sites import Site
    from tests.support.servers import DatabaseServer

DATABASES = ("sqlite", "postgresql", "mariadb")
SITES = [f"{kind}{mode}" for kind in DATABASES for mode in ("", "-workspaces")]
MYSQL_8_MODE = (
    "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
)


def new_like_mysql(server: DatabaseServer) -> str:
    """Create a database in MariaDB as MySQL 8 does it by default; return its URL."""
    url = server.new_database("CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_ai_ci")
    return f"{url}?charset=utf8mb4&sql_mode={MYSQL_8_MODE}"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with MLflow's tables, which take a second to make."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    SqlAlchemyStore(f"sqlite:///{path}")._dispose_engine()
    return path


@pytest.fixture(scope="session", params=SITES)
def running_site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A server on each database, with workspaces and without, for all tests that can share it."""
    from tests.approvals.support import sites

    kind, _, mode = request.param.partition("-")
    folder = tmp_path_factory.mktemp(request.param)
    if kind == "sqlite":
        database = f"sqlite:///{folder / 'mlflow.db'}"
    else:
        database = request.getfixturevalue(kind).new_database()
    with sites.site_on(database, folder, with_workspaces=bool(mode)) as site:
        yield site


@pytest.fixture
def site(running_site: Site) -> Iterator[Site]:
    """The same, with this process configured as the server is, and in its workspace."""
    with running_site.entered():
        yield running_site
