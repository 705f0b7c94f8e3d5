"""MLflow and the review app behind one nginx that signs users in and names them in a header."""

from __future__ import annotations

import contextlib
import getpass
import sys
from collections.abc import Iterator
from pathlib import Path

import requests
from mlflow import MlflowClient

from tests.support import servers

API = "/approvals/api/v1"
POLICY = """
version: 1
identity:
  sources: [trusted_header]
  trusted_header:
    {peers: [127.0.0.1/32], secret_header: XProxySecret, secret_env: PROXY_SECRET,
     user_header: XRemoteUser}
groups: {leads: [bob]}
policies:
  - {name: p, match: {models: ["*"]}, targets: {aliases: [prod]}, approvals: [{group: leads}]}
"""
CONFIGURATION = """
user {user}; pid {folder}/pid; error_log {folder}/error.log; daemon off; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; default_type text/plain;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    auth_basic "MLflow"; auth_basic_user_file {folder}/users;
    proxy_set_header Host $http_host;
    proxy_set_header XRemoteUser $remote_user;
    proxy_set_header XProxySecret {secret};
    proxy_set_header Authorization "";
    location / {{ proxy_pass {mlflow}; }}
    location /approvals/ {{ proxy_pass {review}; }}
  }}
}}
"""
SECRET = "only-for-tests-2"


@contextlib.contextmanager
def behind_nginx(folder: Path) -> Iterator[tuple[str, str]]:
    """Start all three; return the addresses of nginx and of the review app behind it."""
    program = servers.find_program("nginx", "nginx")
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "users").write_text("".join(f"{name}:{{PLAIN}}pw\n" for name in ("alice", "bob")))
    settings = {
        "MLFLOW_PACK_APPROVALS_POLICY": str(folder / "policy.yaml"),
        "PROXY_SECRET": SECRET,
    }
    database = f"sqlite:///{folder / 'mlflow.db'}"
    port, review = servers.free_port(), servers.free_port()
    command = [sys.executable, "-m", "mlflow_plugins_pack.cli", "review", "serve"]
    command += ["--registry-store-uri", f"approval-{database}", "--port", str(review)]
    command += ["--mlflow-url", f"http://127.0.0.1:{port}"]
    with (
        servers.mlflow_server(folder, registry=f"approval-{database}", **settings) as mlflow,
        servers.running(
            [*command, "--tracking-uri", mlflow.url],
            log=folder / "review.log",
            ready=lambda: servers.accepts_connections(review),
            environment=servers.clean_environment(**settings),
            folder=folder,
        ),
    ):
        (folder / "nginx.conf").write_text(
            CONFIGURATION.format(
                folder=folder,
                user=getpass.getuser(),  # else its workers may not read the file of users
                port=port,
                secret=SECRET,
                mlflow=mlflow.url,
                review=f"http://127.0.0.1:{review}",
            )
        )
        with servers.running(
            [program, "-p", str(folder), "-c", str(folder / "nginx.conf")],
            log=folder / "nginx.log",
            ready=lambda: servers.accepts_connections(port),
        ):
            yield f"http://127.0.0.1:{port}", f"http://127.0.0.1:{review}"


def test_the_proxys_user_votes_and_a_forged_one_does_not(tmp_path: Path) -> None:
    with behind_nginx(tmp_path) as (url, behind):
        client = MlflowClient(url, url)
        with servers.credentials("alice", "pw"):
            client.create_registered_model("m")
            run = client.create_run(client.create_experiment("mine")).info
            client.log_text(run.run_id, "weights", "model/weights.txt")
            client.create_model_version("m", f"{run.artifact_uri}/model", run.run_id)

        def call(user: str | None, method: str, path: str, **options: object) -> requests.Response:
            auth = None if user is None else (user, "pw")
            return requests.request(method, url + path, auth=auth, timeout=60, **options)  # type: ignore[arg-type]

        body = {"model": "m", "version": 1, "target": "prod"}
        at = f"{API}/requests/{call('alice', 'POST', f'{API}/requests', json=body).json()['id']}"
        assert "Signed in as <strong>bob</strong>" in call("bob", "GET", "/approvals/").text

        # Through nginx a user's own header is replaced; past it the secret is missing.
        forged = {"XRemoteUser": "bob", "XProxySecret": "guessed"}
        refused = call("alice", "POST", f"{at}/approve", json={}, headers=forged)
        assert (refused.status_code, refused.json()["pack_code"]) == (403, "NOT_AN_APPROVER")
        assert call(None, "GET", "/approvals/", headers=forged).status_code == 401
        for headers in (forged, {"XRemoteUser": "bob"}, {}, {"X-Remote-User": "bob"}):
            for method, path in (("GET", "/approvals/"), ("GET", at), ("POST", f"{at}/approve")):
                answer = requests.request(
                    method, behind + path, json={}, headers=headers, timeout=60
                )
                assert answer.status_code == 401, (headers, path)
        assert call("bob", "GET", at).json()["votes"] == []

        assert call("bob", "POST", f"{at}/approve", json={}).json()["state"] == "APPROVED"
        assert call("alice", "PUT", f"{at}/applied", json={}).json()["state"] == "APPLIED"
        with servers.credentials("bob", "pw"):
            assert client.get_model_version_by_alias("m", "prod").version == "1"
