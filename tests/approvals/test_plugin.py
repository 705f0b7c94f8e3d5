"""Stock MLflow finds the plugin; URIs that it refuses to open."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.server.constants import READ_REPLICA_BACKEND_STORE_URI_ENV_VAR
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from mlflow_plugins_pack.approvals.database.mlflow_tables import version_number
from mlflow_plugins_pack.approvals.domain.tag_names import PROMPT_SOURCES
from mlflow_plugins_pack.approvals.plugin import build_store
from mlflow_plugins_pack.approvals.store.store import ApprovalStoreMixin
from mlflow_plugins_pack.errors import (
    ConfigurationError,
    PolicyInvalidError,
    UnsupportedUriError,
)
from tests.support import servers
from tests.support.acting import signed_in

pytestmark = pytest.mark.compat


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env=servers.clean_environment(**environment),
    )


def test_importing_the_plugin_imports_no_store() -> None:
    code = (
        "import sys, mlflow_plugins_pack.approvals.plugin\n"
        "heavy = {'sqlalchemy', 'mlflow', 'pydantic', 'yaml', 'alembic', 'flask'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = run_python(code)
    assert done.stdout.strip() == "[]", done.stderr


def test_every_spelling_reaches_the_plugin(tmp_path: Path) -> None:
    names = {
        point.name
        for point in entry_points(group="mlflow.model_registry_store")
        if point.value == "mlflow_plugins_pack.approvals.plugin:build_store"
    }
    expected = """sqlite sqlite+pysqlite postgresql postgresql+psycopg postgresql+psycopg2
        postgresql+pg8000 mysql mysql+pymysql mysql+mysqldb mysql+mysqlconnector
        mysql+mariadbconnector mssql mssql+pyodbc mssql+pymssql file http https"""
    assert names == {f"approval-{word}" for word in expected.split()}
    code = (
        "import mlflow\n"
        "from mlflow.tracking._model_registry.utils import _get_store_registry as r\n"
        f"for name in {sorted(names)}:\n"
        "    assert r().get_store_builder(name + '://x').__module__.startswith('mlflow_plugins')"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("approval-mssql+pyodbc://u:secret@h/db", "does not serve it"),
        ("approval-file:///mlruns", "a file store has no transactions"),
        ("approval-http://server", "give clients its plain address"),
        ("approval-oracle://h/db", "not a database MLflow knows"),
        ("sqlite:///x.db", "must start with 'approval-'"),
        ("sqlite+approval:///x.db", "must start with 'approval-'"),
    ],
)
def test_what_cannot_be_opened_says_why(uri: str, why: str) -> None:
    with pytest.raises(UnsupportedUriError, match="Nothing was opened") as caught:
        build_store(uri)
    assert why in caught.value.message
    assert "secret" not in caught.value.message


def test_an_mlflow_that_lets_more_through_gets_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow.version.VERSION", "3.13.0")
    with pytest.raises(ConfigurationError, match=r"not enforced in full on MLflow 3\.13\.0"):
        build_store(f"approval-sqlite:///{tmp_path / 'new.db'}")
    assert list(tmp_path.iterdir()) == []


def test_no_policy_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"approval-sqlite:///{tmp_path / 'x.db'}"
    with pytest.raises(PolicyInvalidError, match="MLFLOW_PACK_APPROVALS_POLICY is not set"):
        build_store(uri)
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(tmp_path / "none.yaml"))
    with pytest.raises(PolicyInvalidError, match="cannot be read"):
        build_store(uri)
    (tmp_path / "none.yaml").write_text("version: 1\nkey: 1\npolicies: []")
    with pytest.raises(PolicyInvalidError, match="line 2: key: unknown key"):
        build_store(uri)
    assert not (tmp_path / "x.db").exists()


def test_decisions_are_read_from_the_primary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path
) -> None:
    """A replica lags: here it still has an approval that was taken back, which is not shown."""
    primary, replica = tmp_path / "primary.db", tmp_path / "replica.db"
    shutil.copy(empty_database, primary)
    (tmp_path / "policy.yaml").write_text(
        "version: 1\ngroups: {leads: [bob]}\npolicies:\n  - name: prod\n"
        "    match: {models: ['*']}\n    targets: {aliases: [prod]}\n"
        "    approvals: [{group: leads}]\n"
    )
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(tmp_path / "policy.yaml"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("weights")
    store = build_store(f"approval-sqlite:///{primary}")
    with signed_in("alice"):
        store.create_registered_model("m")
        store.create_model_version("m", str(tmp_path / "model"))
    for user, command in (("erin", "request"), ("bob", "approve")):
        with signed_in(user):
            store.set_model_version_tag("m", 1, ModelVersionTag(f"approvals.{command}", "prod"))
    shutil.copy(primary, replica)
    with signed_in("bob"):
        store.set_model_version_tag("m", 1, ModelVersionTag("approvals.reject", "prod: no"))
    monkeypatch.setenv(READ_REPLICA_BACKEND_STORE_URI_ENV_VAR, f"sqlite:///{replica}")
    reading = build_store(f"approval-sqlite:///{primary}")
    assert "mlflow_approvals.prod" not in reading.get_model_version("m", 1).tags
    with signed_in("erin"), pytest.raises(MlflowException, match="APPROVAL_REQUIRED"):
        reading.set_registered_model_alias("m", "prod", 1)
    for one in (store, reading):
        one.engine.dispose()


def test_a_server_refuses_to_start_without_a_policy(tmp_path: Path) -> None:
    database = tmp_path / "m.db"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(servers.free_port())]
    command += ["--backend-store-uri", f"sqlite:///{database}"]
    command += ["--registry-store-uri", f"approval-sqlite:///{database}"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env=servers.clean_environment(MLFLOW_DISABLE_TELEMETRY="true"),
    )
    assert done.returncode == 1
    assert "POLICY_INVALID: MLFLOW_PACK_APPROVALS_POLICY is not set" in done.stderr


def test_every_code_and_command_is_documented() -> None:
    from mlflow_plugins_pack import errors
    from mlflow_plugins_pack.approvals.domain.tag_names import COMMANDS

    reference = Path(__file__).parents[2] / "docs" / "reference"
    text = (reference / "errors.md").read_text() + (reference / "tags.md").read_text()
    codes = {kind.code for kind in errors.ApprovalError.__subclasses__()}
    assert len(codes) >= 18
    assert [code for code in sorted(codes) if f"`{code}`" not in text] == []
    assert [command for command in COMMANDS if f"`approvals.{command}`" not in text] == []


def test_the_sources_of_prompts_are_those_that_mlflow_writes() -> None:
    """MLflow names them all since 3.17; another one would make a prompt count as a model."""
    from mlflow.prompt import constants

    assert getattr(constants, "_PROMPT_SOURCE_PLACEHOLDERS", PROMPT_SOURCES) == PROMPT_SOURCES


def test_a_version_is_a_number_however_it_is_written() -> None:
    assert [version_number(written) for written in (7, "7", "007")] == [7, 7, 7]
    with pytest.raises(MlflowException):
        version_number("seven")


def test_what_is_used_of_the_server_is_there() -> None:
    """By name, since without one of them a protected call would fail or, worse, be let through."""
    from mlflow.server import handlers
    from mlflow.store.db import utils
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    for module, names in (
        (
            handlers,
            (
                "_is_servable_proxied_run_artifact_root",
                "_get_proxied_run_artifact_destination_path",
                "_get_workspace_scoped_repo_path_if_enabled",
                "_get_artifact_repo_mlflow_artifacts",
                "_get_tracking_store",
            ),
        ),
        (utils, ("_all_tables_exist", "_safe_initialize_tables")),
        (SqlAlchemyStore, ("_get_or_create_engine", "_get_active_workspace")),
    ):
        assert [name for name in names if not callable(getattr(module, name, None))] == []


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in inspect.getmembers(ApprovalStoreMixin, inspect.isfunction)
        if value.__module__.startswith("mlflow_plugins_pack.")
        and hasattr(SqlAlchemyStore, name)
        and not name.startswith("__")
    ],
)
def test_every_override_takes_what_stock_takes(name: str) -> None:
    """A method that MLflow renamed would leave what it does unprotected."""
    ours = inspect.signature(getattr(ApprovalStoreMixin, name)).parameters
    theirs = inspect.signature(getattr(SqlAlchemyStore, name)).parameters
    assert list(ours) == list(theirs)
    assert [p.default for p in ours.values()] == [p.default for p in theirs.values()]


def test_no_override_is_of_a_method_that_is_gone() -> None:
    public = {
        name
        for name, value in inspect.getmembers(ApprovalStoreMixin, inspect.isfunction)
        if value.__module__.startswith("mlflow_plugins_pack.") and not name.startswith("_")
    }
    assert public - set(dir(SqlAlchemyStore)) == set()
