"""A reviewer with READ only cannot vote, by MLflow's own check; the command says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.cli.main import cli
from tests.support import servers

POLICY = """
version: 1
groups: {leads: [bob]}
policies:
  - {name: p, match: {models: ["m"]}, targets: {aliases: [prod]}, approvals: [{group: leads}]}
"""


def test_read_is_not_enough_to_vote_and_the_refusal_says_so(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    settings = {
        "MLFLOW_PACK_APPROVALS_POLICY": str(tmp_path / "policy.yaml"),
        "MLFLOW_AUTH_CONFIG_PATH": str(servers.write_auth_config(tmp_path, "READ")),
    }
    with servers.mlflow_server(
        tmp_path,
        registry=f"approval-sqlite:///{tmp_path / 'mlflow.db'}",
        app_name="basic-auth",
        **settings,
    ) as server:
        client = MlflowClient(server.url, server.url)
        for name in ("alice", "bob"):
            servers.create_user(server, name, servers.PASSWORD)
        with servers.credentials("alice", servers.PASSWORD):
            client.create_registered_model("m")
            run = client.create_run(client.create_experiment("mine")).info
            client.log_text(run.run_id, "weights", "model/weights.txt")
            client.create_model_version("m", f"{run.artifact_uri}/model", run.run_id)

        def call(command: str) -> tuple[int, str]:
            done = CliRunner().invoke(
                cli, ["approvals", command, "models:/m/1", "prod", "--tracking-uri", server.url]
            )
            return done.exit_code, done.output + str(done.exception or "")

        with servers.credentials("bob", servers.PASSWORD):
            with pytest.raises(MlflowException, match="Permission denied"):
                client.set_model_version_tag("m", "1", "approvals.approve", "prod: fine")
            for command in ("approve", "reject", "comment"):
                code, said = call(command)
                assert (code, "needs the permission EDIT on 'm'" in said) == (1, True), said
        with servers.credentials("alice", servers.PASSWORD):
            assert call("request")[0] == 0
            code, said = call("approve")  # the approvals' own refusal is left as it is
            assert (code, "needs the permission" in said) == (1, False), said
            assert "'alice' has no vote" in said
