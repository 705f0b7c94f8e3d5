"""Fixtures that every test may use: a clean environment, and each real server once a session."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import hypothesis
import pytest

from tests.support import servers
from tests.support.oidc import OidcProvider, oidc_provider

# What lands must not depend on luck; a person's runs look further each time.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")

# Read once, inside `import mlflow`: lineage is tested in processes of its own, and what other
# tests log from this one is compared with stock, file by file.
os.environ["MLFLOW_PACK_LINEAGE_ENABLED"] = "false"


@pytest.fixture(autouse=True)
def _forgetful_mlflow() -> Iterator[None]:
    """Let no test inherit the run, experiment or server that another has set in this process."""
    yield
    fluent = sys.modules.get("mlflow.tracking.fluent")
    if fluent is None:
        return
    while fluent.active_run() is not None:
        fluent.end_run()
    fluent._active_experiment_id = None
    sys.modules["mlflow.tracking._tracking_service.utils"]._tracking_uri = None
    if (registry := sys.modules.get("mlflow.tracking._model_registry.utils")) is not None:
        registry._registry_uri = None


@pytest.fixture(autouse=True)
def _clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Start each test in an empty folder, with nothing that configures MLflow, a cloud or us."""
    for name in list(os.environ):
        if name == "MLFLOW_PACK_REQUIRE":
            continue
        if name.startswith(("MLFLOW_", "_MLFLOW_", "AWS_", "AZURE_")):
            monkeypatch.delenv(name)
    empty = tmp_path_factory.getbasetemp() / "home"
    empty.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(empty))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(empty / ".config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    # MLflow's defaults are relative: ./mlflow.db and ./mlruns would reach the next test.
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[servers.DatabaseServer]:
    """A PostgreSQL server; ``.new_database()`` gives an empty database's URL."""
    with servers.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[servers.DatabaseServer]:
    """A MariaDB server; ``.new_database()`` gives an empty database's URL."""
    with servers.mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[servers.ObjectStore]:
    """An S3 server; ``.new_root()`` gives an empty bucket's URI, ``.environment`` the settings."""
    with servers.moto() as store:
        yield store


@pytest.fixture(scope="session")
def azurite() -> Iterator[servers.ObjectStore]:
    """An Azure Blob server; ``.new_root()`` gives an empty container's URI."""
    with servers.azurite() as store:
        yield store


@pytest.fixture(scope="session")
def shared_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    """One provider for the tests that do not mind each other's grants."""
    with oidc_provider(tmp_path_factory.mktemp("oidc")) as running:
        yield running


@pytest.fixture
def provider(shared_provider: OidcProvider) -> Iterator[OidcProvider]:
    """A real OpenID Connect provider, without a fault at the beginning and the end."""
    shared_provider.fault(None)
    yield shared_provider
    shared_provider.fault(None)
