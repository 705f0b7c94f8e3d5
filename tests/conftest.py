"""Fixtures that every test may use: a clean environment, and each real server once a run."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support import servers, templates
from tests.support.needs import needs_of
from tests.support.oidc import OidcProvider, oidc_provider
from tests.support.shared_servers import address_of, stop_all

# What lands must not depend on luck; a person's runs look further each time.
hypothesis.settings.register_profile("ci", derandomize=True)
hypothesis.settings.register_profile("nightly", max_examples=1000, deadline=None)
if profile := os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else None):
    hypothesis.settings.load_profile(profile)

# Read once, inside `import mlflow`: lineage is tested in processes of its own, and what other
# tests log from this one is compared with stock, file by file.
os.environ["MLFLOW_PACK_LINEAGE_ENABLED"] = "false"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test by what it needs besides this process, see tests/support/needs.py."""
    if not os.environ.get("NIGHTLY"):
        later = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=later)
        items[:] = [item for item in items if item not in later]
    seconds: Counter[str] = Counter()
    for item in items:
        needs = needs_of(item) if isinstance(item, pytest.Function) else None
        if needs:
            item.add_marker(needs)
        seconds[_scope_of(item.nodeid)] += _ROUGH_SECONDS[needs]
    if hasattr(config, "workerinput"):
        # The longest first, so that no worker is left with one while the others are done.
        items.sort(key=lambda item: -seconds[_scope_of(item.nodeid)])


_ROUGH_SECONDS = {None: 0.05, "server": 1.0, "process": 4.0}
"""What a test takes, by what it needs."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Assign all tests of a module, or those of one database in it, to one worker."""
    from xdist.scheduler import LoadScopeScheduling

    class ByModuleAndDatabase(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _scope_of(nodeid)

    config.option.loadscopereorder = False  # the order of the workers' collection is better
    return ByModuleAndDatabase(config, log)


def _scope_of(nodeid: str) -> str:
    module, _, test = nodeid.partition("::")
    return module + "".join(_DATABASE.findall(test)[:1])


# In a test's id: the first parameter that names a database, and whether workspaces are on.
_DATABASE = re.compile(r"(?<=[\[-])(?:sqlite|postgresql|mariadb)(?:_\w+)?(?:-workspaces)?(?=[\]-])")


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
        if name.startswith(servers.CONFIGURES):
            monkeypatch.delenv(name)
    empty = tmp_path_factory.getbasetemp() / "home"
    empty.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(empty))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(empty / ".config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    # MLflow's defaults are relative: ./mlflow.db and ./mlruns would reach the next test.
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Forget the workspace of a request that a test before had a server answer in this process.

    Not a fixture: those of a whole module come before the fixtures of a test.
    """
    if (context := sys.modules.get("mlflow.utils.workspace_context")) is not None:
        getattr(context, "clear_server_request_workspace", lambda: None)()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None]:
    """Find what leaves a workspace in this process's environment, where every client reads it."""
    yield
    workspace = os.environ.pop("MLFLOW_WORKSPACE", None)
    assert workspace is None, f"the test leaves the workspace {workspace!r} in the environment"


@pytest.fixture(autouse=True)
def _nothing_deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what a store writes in the background: it would meet another test."""
    monkeypatch.setattr("mlflow_plugins_pack.artifacts.deferred.later", lambda key, call: None)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of this run share."""
    return _run_folder(tmp_path_factory)


@pytest.fixture(scope="session", autouse=True)
def _templates(run_folder: Path) -> None:
    """Let helpers find the databases that this run has migrated."""
    os.environ[templates.RUN_FOLDER] = str(run_folder)


@pytest.fixture(scope="session")
def mlflow_database(request: pytest.FixtureRequest) -> Callable[[str, Path], str]:
    """Call it with a database and a folder: it has MLflow's tables.

    The database is sqlite, postgresql, mariadb, or mariadb and a default character set, as in
    mariadb_latin1.
    """

    def new(kind: str, folder: Path) -> str:
        if kind == "sqlite":
            return templates.sqlite_with_tables(folder / "mlflow.db")
        name, _, charset = kind.partition("_")
        server: servers.DatabaseServer = request.getfixturevalue(name)
        return server.new_mlflow_database(charset)

    return new


def _run_folder(factory: pytest.TempPathFactory) -> Path:
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return shared / "shared"


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the servers that the run has started, once all its workers are done."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        factory: pytest.TempPathFactory = config._tmp_path_factory  # type: ignore[attr-defined]
        stop_all(_run_folder(factory))


@pytest.fixture(scope="session")
def postgresql(run_folder: Path) -> servers.DatabaseServer:
    """The run's PostgreSQL server; ``.new_database()`` gives an empty database's URL."""
    return servers.DatabaseServer(**address_of("postgresql", run_folder))


@pytest.fixture(scope="session")
def mariadb(run_folder: Path) -> servers.DatabaseServer:
    """The run's MariaDB server; ``.new_database()`` gives an empty database's URL."""
    return servers.DatabaseServer(**address_of("mariadb", run_folder))


@pytest.fixture(scope="session")
def moto(run_folder: Path) -> servers.ObjectStore:
    """The run's S3 server; ``.new_root()`` gives an empty bucket's URI."""
    return servers.ObjectStore(**address_of("moto", run_folder))


@pytest.fixture(scope="session")
def azurite(run_folder: Path) -> servers.ObjectStore:
    """The run's Azure Blob server; ``.new_root()`` gives an empty container's URI."""
    return servers.ObjectStore(**address_of("azurite", run_folder))


@pytest.fixture(scope="session")
def gcs(run_folder: Path) -> servers.ObjectStore:
    """The run's Google Cloud Storage server; ``.new_root()`` gives an empty bucket's URI."""
    return servers.ObjectStore(**address_of("gcs", run_folder))


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
