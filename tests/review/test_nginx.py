"""MLflow and the review app behind one nginx: one that signs users in, one with TLS."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from mlflow import MlflowClient
from mlflow.utils.workspace_context import WorkspaceContext

from tests.approvals.support.review_sites import review_app
from tests.approvals.support.sites import create_workspace
from tests.auth.support.certificates import Authority
from tests.review.support.nginx import nginx
from tests.review.support.people import People
from tests.support import servers

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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
SECRET = "only-for-tests-2"
SIGN_IN = f"""
    auth_basic "MLflow"; auth_basic_user_file users;
    proxy_set_header XRemoteUser $remote_user;
    proxy_set_header XProxySecret {SECRET};
    proxy_set_header Authorization "";
"""


@contextlib.contextmanager
def behind_nginx(folder: Path) -> Iterator[tuple[str, str]]:
    """Start all three; return the addresses of nginx and of the review app behind it."""
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
        nginx(folder, port, mlflow.url, f"http://127.0.0.1:{review}", SIGN_IN) as url,
    ):
        yield url, f"http://127.0.0.1:{review}"


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


WORKSPACES = """
version: 1
groups: {leads: [bob], risk: [dave]}
policies:
  - name: p
    match: {models: ["*"]}
    targets: {aliases: [prod]}
    approvals: [{group: leads}, {group: risk}]
"""


@contextlib.contextmanager
def with_tls_and_workspaces(folder: Path) -> Iterator[tuple[str, servers.MlflowServer]]:
    """Start all three; two workspaces have the same people, bar mallory."""
    (folder / "policy.yaml").write_text(WORKSPACES)
    registry = f"approval-sqlite:///{folder / 'mlflow.db'}"
    port = servers.free_port()
    url = f"https://127.0.0.1:{port}"
    settings = {
        "MLFLOW_PACK_APPROVALS_POLICY": str(folder / "policy.yaml"),
        "MLFLOW_AUTH_CONFIG_PATH": str(servers.write_auth_config(folder, "NO_PERMISSIONS")),
        "MLFLOW_PACK_REVIEW_URL": url,
    }
    options = ["--enable-workspaces"]
    with servers.mlflow_server(
        folder, registry=registry, app_name="basic-auth", options=options, **settings
    ) as mlflow:
        for name in ("alice", "bob", "dave", "mallory"):
            servers.create_user(mlflow, name, servers.PASSWORD)
        servers.make_sign_in_cheap(folder)
        for name in ("team", "other"):
            create_workspace(mlflow, name, ("alice", "bob", "dave"))
        with (
            review_app(
                folder, mlflow, registry, "--mlflow-url", url, MLFLOW_ENABLE_WORKSPACES="true"
            ) as review,
            nginx(
                folder,
                port,
                mlflow.url,
                review,
                "proxy_set_header X-Forwarded-Proto $scheme;",
                Authority(folder).issue("nginx"),
            ),
        ):
            yield url, mlflow


def test_in_a_browser_with_tls_and_workspaces(chromium: Browser, tmp_path: Path) -> None:
    with with_tls_and_workspaces(tmp_path) as (url, mlflow):
        name = "fraud"
        client = MlflowClient(mlflow.url, mlflow.url)
        for workspace in ("team", "other"):
            with servers.credentials("alice", servers.PASSWORD), WorkspaceContext(workspace):
                client.create_registered_model(name)
                run = client.create_run(client.create_experiment("mine")).info
                client.log_text(run.run_id, f"weights of {workspace}", "model/weights.txt")
                client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id)
        people = People(chromium, url, ignore_https_errors=True)
        page = people.visit("alice", f"/approvals/models/model?name={name}&workspace=team")
        page.get_by_label("Version", exact=True).select_option("1")
        page.get_by_label("Target", exact=True).select_option("prod")
        with page.expect_navigation():
            page.get_by_role("button", name="Ask for approval").click()
        assert "The request is filed." in page.get_by_role("status").inner_text()
        path = page.url.removeprefix(url).replace("&done=request", "").replace("done=request&", "")
        assert "workspace=team" in path
        cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
        assert cookies["mpp_csrf"]["secure"]

        # Each workspace has its own requests, for those who are in it.
        inbox = people.visit("bob", "/approvals/?workspace=team")
        assert inbox.get_by_role("link", name=f"{name} version 1").count() == 1
        inbox = people.visit("bob", "/approvals/?workspace=other")
        assert inbox.get_by_role("link", name=f"{name} version 1").count() == 0
        for user, elsewhere in (("bob", path.replace("=team", "=other")), ("mallory", path)):
            refused = people.visit(user, elsewhere)
            assert "does not exist, or you may not read it" in refused.content(), user
        for target in (
            f"/approvals/models/model?name={name}",
            f"/approvals/lineage?target={run.run_id}",
        ):
            refused = people.visit("mallory", f"{target}&workspace=other")
            assert "weights" not in refused.content()
            assert run.run_id not in refused.locator("main table").all_inner_texts()

        for user in ("bob", "dave"):
            people.press(user, path, "Approve", "Your approval is recorded.", "fine")
        people.press("alice", path, "Apply", "The change is made.")
        with servers.credentials("alice", servers.PASSWORD):
            with WorkspaceContext("team"):
                assert client.get_model_version_by_alias(name, "prod").version == "1"
            with WorkspaceContext("other"):
                assert client.get_registered_model(name).aliases == {}
        link = people.visit("bob", path).get_by_role("link", name=f"{name} version 1").first
        assert link.get_attribute("href") == (f"{url}/#/models/{name}/versions/1?workspace=team")
