"""A lock keeps approved files, and lets `mlflow gc` go on with the other runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException

from mlflow_plugins_pack.cli.main import cli
from tests.support import servers

POLICY = """
version: 1
groups: {leads: [bob]}
policies:
  - {name: p, match: {models: ["m"]}, targets: {aliases: [prod]}, approvals: [{group: leads}]}
"""


def test_gc_goes_on_past_an_approved_version(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    database = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings = {
        "MLFLOW_PACK_APPROVALS_POLICY": str(tmp_path / "policy.yaml"),
        "MLFLOW_AUTH_CONFIG_PATH": str(servers.write_auth_config(tmp_path, "MANAGE")),
    }
    with servers.mlflow_server(
        tmp_path,
        registry=f"approval-{database}",
        artifacts=f"cas-file://{tmp_path / 'artifacts'}",
        app_name="basic-auth",
        **settings,
    ) as server:
        client = MlflowClient(server.url, server.url)
        for name in ("alice", "bob"):
            servers.create_user(server, name, servers.PASSWORD)
        runs = []
        with servers.credentials("alice", servers.PASSWORD):
            for name in ("m", "other"):
                run = client.create_run("0").info
                client.log_text(run.run_id, f"weights of {name}", "model/weights.txt")
                client.log_text(run.run_id, "scratch", "scratch.txt")
                client.create_registered_model(name)
                client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id)
                runs.append(run)
            with pytest.raises(RestException, match="APPROVAL_REQUIRED"):
                client.set_registered_model_alias("m", "prod", "1")
        with servers.credentials("bob", servers.PASSWORD):
            client.set_model_version_tag("m", "1", "approvals.approve", "prod: fine")
        with servers.credentials("alice", servers.PASSWORD):
            client.set_registered_model_alias("m", "prod", "1")
            for run in runs:
                client.delete_run(run.run_id)
        with servers.credentials(*servers.ADMIN):
            done = subprocess.run(
                [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", database],
                env={**os.environ, "MLFLOW_TRACKING_URI": server.url},
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            for run in runs:
                with pytest.raises(MlflowException):
                    client.get_run(run.run_id)
            arguments = ["approvals", "verify", "models:/m@prod", "--tracking-uri", server.url]
            verified = CliRunner().invoke(cli, arguments)
            assert verified.exit_code == 0, verified.output
    assert "except for what is locked there" in server.log.read_text()
