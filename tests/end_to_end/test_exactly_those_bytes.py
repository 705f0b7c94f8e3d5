"""An approval is for exactly the bytes that the deduplicating store's manifest names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import RestException
from requests.exceptions import HTTPError

from mlflow_plugins_pack.approvals.reports.databases import connected
from mlflow_plugins_pack.approvals.reports.listings import requests_in
from mlflow_plugins_pack.artifacts.plugin import CasArtifactRepository
from tests.support import servers

POLICY = """
version: 1
groups: {leads: [bob]}
policies:
  - name: prod
    match: {models: ["*"]}
    targets: {aliases: [prod]}
    approvals: [{group: leads, count: 1}]
"""


def test_what_is_voted_on_cannot_be_changed_or_the_approval_is_stale(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    database = f"approval-sqlite:///{tmp_path / 'mlflow.db'}"
    with servers.mlflow_server(
        tmp_path,
        registry=database,
        artifacts=f"cas-file://{tmp_path / 'artifacts'}",
        app_name="basic-auth",
        MLFLOW_PACK_APPROVALS_POLICY=str(tmp_path / "policy.yaml"),
    ) as server:
        for name in ("alice", "bob"):
            servers.create_user(server, name, servers.PASSWORD)
        client = MlflowClient(server.url, server.url)
        with servers.credentials("alice", servers.PASSWORD):
            run = client.create_run("0").info
            client.log_text(run.run_id, "the weights that were looked at", "model/weights.txt")
            client.create_registered_model("fraud")
            client.create_model_version("fraud", f"{run.artifact_uri}/model", run.run_id)
            with pytest.raises(RestException, match="APPROVAL_REQUIRED: "):
                client.set_registered_model_alias("fraud", "prod", "1")

        stored = run.artifact_uri.partition("mlflow-artifacts:")[2].lstrip("/")
        repository = CasArtifactRepository(f"cas-file://{tmp_path / 'artifacts'}/{stored}/model")
        with connected(database) as connection:
            (request,) = requests_in(connection)
        assert request["digest"] == repository.content_digest(), json.dumps(request, default=str)

        with servers.credentials("bob", servers.PASSWORD):
            client.set_model_version_tag("fraud", "1", "approvals.approve", "prod: looked at it")
        with servers.credentials("alice", servers.PASSWORD):
            with pytest.raises(HTTPError, match=r"CONTENT_LOCKED: .* \(approved as alias 'prod'"):
                client.log_text(run.run_id, "other weights", "model/weights.txt")
            # Who may write to the storage itself can take the lock off, and change the bytes.
            for path, reasons in repository.locks().items():
                for reason in reasons:
                    repository.unlock(reason, path)
            client.log_text(run.run_id, "other weights", "model/weights.txt")
            with pytest.raises(RestException, match="STALE_APPROVAL: "):
                client.set_registered_model_alias("fraud", "prod", "1")
            assert client.get_registered_model("fraud").aliases == {}
