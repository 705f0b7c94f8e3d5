"""A lock keeps approved files from every call of the server, and lets `mlflow gc` go on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import requests
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


class LockedSite:
    """A server on a store with locks; version 1 of ``m`` is approved, that of ``other`` is not.

    Attributes:
        server: the server.
        client: a stock client of it.
        database: the URI of its database.
        runs: the run of each model.
    """

    def __init__(self, server: servers.MlflowServer, database: str) -> None:
        self.server = server
        self.client = MlflowClient(server.url, server.url)
        self.database = database
        self.runs = {}
        for name in ("alice", "bob"):
            servers.create_user(server, name, servers.PASSWORD)
        with servers.credentials("alice", servers.PASSWORD):
            for name in ("m", "other"):
                run = self.client.create_run("0").info
                self.client.log_text(run.run_id, f"weights of {name}", "model/weights.txt")
                self.client.log_text(run.run_id, "scratch", "scratch.txt")
                self.client.create_registered_model(name)
                source = f"{run.artifact_uri}/model"
                self.client.create_model_version(name, source, run.run_id)
                self.runs[name] = run
            with pytest.raises(RestException, match="APPROVAL_REQUIRED"):
                self.client.set_registered_model_alias("m", "prod", "1")
        with servers.credentials("bob", servers.PASSWORD):
            self.client.set_model_version_tag("m", "1", "approvals.approve", "prod: fine")
        with servers.credentials("alice", servers.PASSWORD):
            self.client.set_registered_model_alias("m", "prod", "1")

    def verify(self) -> None:
        """Check that consumers get the bytes that were approved."""
        arguments = ["approvals", "verify", "models:/m@prod", "--tracking-uri", self.server.url]
        with servers.credentials(*servers.ADMIN):
            verified = CliRunner().invoke(cli, arguments)
        assert verified.exit_code == 0, verified.output


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LockedSite]:
    folder = tmp_path_factory.mktemp("locked")
    (folder / "policy.yaml").write_text(POLICY)
    database = f"sqlite:///{folder / 'mlflow.db'}"
    settings = {
        "MLFLOW_PACK_APPROVALS_POLICY": str(folder / "policy.yaml"),
        "MLFLOW_AUTH_CONFIG_PATH": str(servers.write_auth_config(folder, "MANAGE")),
    }
    with servers.mlflow_server(
        folder,
        registry=f"approval-{database}",
        artifacts=f"cas-file://{folder / 'artifacts'}",
        app_name="basic-auth",
        **settings,
    ) as server:
        servers.make_sign_in_cheap(folder)
        yield LockedSite(server, database)


FILES = "2.0/mlflow-artifacts"
PART = {"part_number": 1, "etag": "0", "url": "http://localhost/"}
WRITES = [
    ("PUT", FILES + "/artifacts/{files}/{file}", None),
    ("DELETE", FILES + "/artifacts/{files}/{file}", None),
    ("DELETE", FILES + "/artifacts/{files}", None),
    ("POST", FILES + "/mpu/create/{files}", {"path": "{files}/{file}", "num_parts": 1}),
    (
        "POST",
        FILES + "/mpu/complete/{files}",
        {"path": "{files}/{file}", "upload_id": "0", "parts": [PART]},
    ),
    ("POST", FILES + "/mpu/abort/{files}", {"path": "{files}/{file}", "upload_id": "0"}),
    ("POST", "2.0/mlflow/artifacts/presigned-upload-url", {"run_id": "{run}", "path": "{inside}"}),
    ("POST", "2.0/mlflow/upload-artifact?run_uuid={run}&path={inside}", None),
]
OLD = ("weights.txt", "%77eights.txt", "./weights.txt")
NEW = ("new.txt", "code/weights.txt", "weights.txt/")
"""Names under the folder of the version: of its file, however they are written, and of others."""


@pytest.mark.parametrize("interface", ["api", "ajax-api"])
@pytest.mark.parametrize(("verb", "path", "body"), WRITES, ids=[f"{w[0]} {w[1]}" for w in WRITES])
def test_no_call_of_the_server_writes_approved_files(
    locked: LockedSite, interface: str, verb: str, path: str, body: dict[str, object] | None
) -> None:
    """As a user with MANAGE, and by any spelling of a path."""
    run = locked.runs["m"]
    files = f"{run.artifact_uri.removeprefix('mlflow-artifacts:/')}/model"
    for file in OLD if verb == "DELETE" else OLD + NEW:
        words = {"files": files, "file": file, "run": run.run_id, "inside": f"model/{file}"}
        filled = body and {
            key: value.format(**words) if isinstance(value, str) else value
            for key, value in body.items()
        }
        answer = requests.request(
            verb,
            f"{locked.server.url}/{interface}/{path.format(**words)}",
            json=filled,
            data=None if body else b"evil",
            auth=("alice", servers.PASSWORD),
            timeout=60,
        )
        # MLflow itself fails with 500 on a path that ends in a slash.
        assert answer.status_code >= 400, (file, answer.text)
    locked.verify()


def test_gc_goes_on_past_an_approved_version(locked: LockedSite) -> None:
    with servers.credentials("alice", servers.PASSWORD):
        for run in locked.runs.values():
            locked.client.delete_run(run.run_id)
    with servers.credentials(*servers.ADMIN):
        done = subprocess.run(
            [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", locked.database],
            env={**os.environ, "MLFLOW_TRACKING_URI": locked.server.url},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        for run in locked.runs.values():
            with pytest.raises(MlflowException):
                locked.client.get_run(run.run_id)
    locked.verify()
    assert "except for what is locked there" in locked.server.log.read_text()
