"""Two servers: a development server on a store of the pack, and a stock one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import servers


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.MlflowServer]:
    """The server that versions come from; it hands artifacts on, from a store of the pack."""
    folder = tmp_path_factory.mktemp("dev")
    with servers.mlflow_server(folder, artifacts=f"cas-file://{folder}/store") as server:
        yield server


@pytest.fixture(scope="module")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.MlflowServer]:
    """The server that they go to: a stock one."""
    with servers.mlflow_server(tmp_path_factory.mktemp("prod")) as server:
        yield server
