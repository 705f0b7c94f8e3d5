"""The page on adding approvals: its servers, added to a stock server and taken away."""

from __future__ import annotations

import shlex
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.cli.main import cli
from tests.site.support.blocks import Block, blocks_of
from tests.site.support.pages import DOCS
from tests.support import servers

PEOPLE = ("alice", "bob")


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    return list(blocks_of((DOCS / "how-to" / "approvals" / "add.md").read_text(encoding="utf-8")))


@contextmanager
def served(command: str, folder: Path) -> Iterator[servers.MlflowServer]:
    """Run a command of the page at a free port."""
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:2] == ["mlflow", "server"], words
    port = servers.free_port()
    log, url = folder / f"server-{port}.log", f"http://127.0.0.1:{port}"
    with servers.running(
        [sys.executable, "-m", *words, "--port", str(port), "--workers", "1"],
        log=log,
        ready=lambda: servers.accepts_connections(port) and servers.answers_http(f"{url}/health"),
        environment=servers.clean_environment(
            MLFLOW_PACK_APPROVALS_POLICY=str(folder / "policy.yaml"),
            MLFLOW_AUTH_CONFIG_PATH=str(servers.write_auth_config(folder)),
            MLFLOW_FLASK_SERVER_SECRET_KEY="only-for-tests",
            MLFLOW_DISABLE_TELEMETRY="true",
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        ),
        folder=folder,
    ) as process:
        yield servers.MlflowServer(url, log, process)


def moved_freely(client: MlflowClient, *versions: str) -> None:
    """Move the protected alias and the protected stage as the stock server lets anyone."""
    for version in versions:
        client.set_registered_model_alias("fraud", "prod", version)
        client.transition_model_version_stage("fraud", version, "Production")
    assert client.get_model_version_by_alias("fraud", "prod").version == versions[-1]
    client.transition_model_version_stage("fraud", versions[-1], "None")
    client.delete_registered_model_alias("fraud", "prod")


def guards(command: str, folder: Path) -> None:
    uri = f"approval-sqlite:///{folder / 'mlflow.db'}"
    result = CliRunner().invoke(cli, ["approvals", "guards", command, "--registry-store-uri", uri])
    assert result.exit_code == 0, result.output


def triggers(folder: Path) -> set[str]:
    """Return the tables of MLflow's own that have a trigger."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        found = database.execute("SELECT tbl_name FROM sqlite_master WHERE type = 'trigger'")
        return {name for (name,) in found if not name.startswith("mpp_")}


@pytest.mark.filterwarnings("ignore:.*transition_model_version_stage:FutureWarning")
def test_added_to_a_stock_server_and_taken_away(
    blocks: list[Block], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_approvals, stock = (
        block.text[block.text.index("mlflow server") :]
        for block in blocks
        if "\nmlflow server" in block.text
    )
    [policy] = [block.text for block in blocks if block.title == "policy.yaml"]
    with served(stock, tmp_path) as server:
        for name in PEOPLE:
            servers.create_user(server, name, servers.PASSWORD)
        servers.make_sign_in_cheap(tmp_path)
        client = MlflowClient(server.url, server.url)
        with servers.credentials("alice", servers.PASSWORD):
            run = client.create_run("0").info
            client.log_text(run.run_id, "weights", "model/weights")
            client.create_registered_model("fraud")
            for _ in range(2):
                client.create_model_version("fraud", f"{run.artifact_uri}/model", run.run_id)
            moved_freely(client, "1", "2")

    (tmp_path / "policy.yaml").write_text(policy)
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(tmp_path / "policy.yaml"))
    with served(with_approvals, tmp_path) as server:
        client = MlflowClient(server.url, server.url)
        with (
            servers.credentials("alice", servers.PASSWORD),
            pytest.raises(MlflowException, match="APPROVAL_REQUIRED"),
        ):
            client.set_registered_model_alias("fraud", "prod", "1")
        with servers.credentials("bob", servers.PASSWORD):
            client.set_model_version_tag("fraud", "1", "approvals.approve", "prod: fine")
        with servers.credentials("alice", servers.PASSWORD):
            client.set_registered_model_alias("fraud", "prod", "1")
    of_stock = triggers(tmp_path)
    guards("install", tmp_path)
    assert triggers(tmp_path) > of_stock

    guards("remove", tmp_path)
    assert triggers(tmp_path) == of_stock
    with served(stock, tmp_path) as server:
        client = MlflowClient(server.url, server.url)
        with servers.credentials("alice", servers.PASSWORD):
            assert client.get_model_version_by_alias("fraud", "prod").version == "1"
            moved_freely(client, "2", "1")
            client.rename_registered_model("fraud", "credit")
            client.delete_model_version("credit", "2")
            client.delete_registered_model("credit")
