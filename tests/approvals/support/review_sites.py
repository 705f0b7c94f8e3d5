"""A stock server with basic-auth, the review app next to it, and people with different rights."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from mlflow import MlflowClient

from tests.support import servers

POLICY = """
version: 1
groups: {leads: [bob, carol], risk: [dave], ci: [svc-ci], oncall: [erin]}
policies:
  - name: production
    match: {models: ["*"], prompts: ["*"]}
    targets: {aliases: [prod], stages: [Production]}
    approvals: [{group: leads, count: 1}, {group: risk, count: 1}]
    checks: [{tag: tests, equals: passed, writers: ["group:ci"]}]
    demote: {approvals: 1}
    rollback: {approvals: 0, within: 30d}
    break_glass: {group: oncall}
"""
READERS = ("bob", "carol", "dave", "erin", "svc-ci")
"""They have READ on every model and experiment, by a role."""
PEOPLE = ("alice", "mallory", *READERS)
"""alice owns what she makes; mallory has no permission."""


class ReviewSite:
    """The two servers and their addresses.

    Attributes:
        mlflow: The MLflow server.
        url: The review app's address.
        folder: Of all files.
        client: A stock client of the MLflow server.
    """

    def __init__(self, mlflow: servers.MlflowServer, url: str, folder: Path) -> None:
        self.mlflow = mlflow
        self.url = url
        self.folder = folder
        self.client = MlflowClient(mlflow.url, mlflow.url)
        self._testable: set[str] = set()

    def call(self, user: str | None, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request to the review app."""
        auth = None if user is None else password_of(user)
        options.setdefault("allow_redirects", False)
        return requests.request(method, self.url + path, auth=auth, timeout=120, **options)

    def json(self, user: str, method: str, path: str, body: Any = None) -> Any:
        """Send JSON to the review app and return the JSON of its answer, which must be good."""
        answer = self.call(user, method, path, json=body)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return answer.json()

    @contextlib.contextmanager
    def signed_in(self, user: str) -> Iterator[MlflowClient]:
        """Sign stock clients in as a person."""
        with servers.credentials(*password_of(user)):
            yield self.client

    def new_version(self, name: str, *, metrics: dict[str, float] | None = None) -> int:
        """Have alice train and register a version; svc-ci has tested it."""
        with self.signed_in("alice") as client:
            found = client.search_experiments(filter_string=f"name = '{name}'")
            experiment = found[0].experiment_id if found else client.create_experiment(name)
            run = client.create_run(experiment, run_name=f"train {name}").info
            for key, value in (metrics or {"auc": 0.9}).items():
                client.log_metric(run.run_id, key, value)
            client.log_param(run.run_id, "depth", str(len(run.run_id)))
            client.log_text(run.run_id, f"weights of {run.run_id}", "model/weights.txt")
            client.set_terminated(run.run_id)
            if not client.search_registered_models(f"name = '{name}'"):
                client.create_registered_model(name)
            source = f"{run.artifact_uri}/model"
            version = client.create_model_version(name, source, run.run_id)
            client.set_model_version_tag(name, version.version, "team", "fraud")
        return int(version.version)

    def tested(self, name: str, version: int) -> None:
        """Have svc-ci record that the tests passed, which needs EDIT in MLflow."""
        if name not in self._testable:
            self._testable.add(name)
            self.grant("svc-ci", name, "EDIT")
        with self.signed_in("svc-ci") as client:
            client.set_model_version_tag(name, str(version), "tests", "passed")

    def grant(self, user: str, name: str, permission: str, kind: str = "registered_model") -> None:
        """Grant a person a permission on a model, or on what has the name."""
        role_name = f"{user}-{kind}-{name}-{permission}"
        role = self.admin("roles/create", workspace="default", name=role_name)
        what = {"resource_type": kind, "resource_pattern": name}
        self.admin(
            "roles/permissions/add", role_id=role["role"]["id"], permission=permission, **what
        )
        self.admin("roles/assign", username=user, role_id=role["role"]["id"])

    def admin(self, path: str, **body: Any) -> Any:
        """Call MLflow as its admin."""
        url = f"{self.mlflow.url}/api/3.0/mlflow/{path}"
        answer = requests.post(url, json=body, auth=servers.ADMIN, timeout=120)
        assert answer.ok, answer.text
        return answer.json()


def password_of(user: str) -> tuple[str, str]:
    """Return the credentials of a person."""
    return servers.ADMIN if user == servers.ADMIN[0] else (user, servers.PASSWORD)


@contextlib.contextmanager
def review_site(folder: Path) -> Iterator[ReviewSite]:
    """Start a stock MLflow server and the review app next to it."""
    registry = f"approval-sqlite:///{folder / 'mlflow.db'}"
    with served_mlflow(folder, registry) as mlflow, review_app(folder, mlflow, registry) as url:
        yield ReviewSite(mlflow, url, folder)


@contextlib.contextmanager
def whole_site(folder: Path, *, workers: int = 1, **options: Any) -> Iterator[ReviewSite]:
    """Start one server that is both: ``--app-name approvals-basic-auth``."""
    registry = f"approval-sqlite:///{folder / 'mlflow.db'}"
    options.setdefault("app_name", "approvals-basic-auth")
    with served_mlflow(folder, registry, workers=workers, **options) as server:
        yield ReviewSite(server, server.url, folder)


@contextlib.contextmanager
def served_mlflow(
    folder: Path, registry: str, app_name: str = "basic-auth", prefix: str = "", **options: Any
) -> Iterator[servers.MlflowServer]:
    """Start an MLflow server with people whom nothing is allowed but what their roles say."""
    (folder / "policy.yaml").write_text(POLICY)
    settings = {
        "MLFLOW_PACK_APPROVALS_POLICY": str(folder / "policy.yaml"),
        "MLFLOW_AUTH_CONFIG_PATH": str(servers.write_auth_config(folder, "NO_PERMISSIONS")),
    }
    with servers.mlflow_server(
        folder, registry=registry, app_name=app_name, **(settings | options)
    ) as running:
        server = servers.MlflowServer(running.url + prefix, running.log, running.process)
        site = ReviewSite(server, server.url, folder)
        for name in PEOPLE:
            servers.create_user(server, name, servers.PASSWORD)
        servers.make_sign_in_cheap(folder)
        role = site.admin("roles/create", workspace="default", name="reader")["role"]["id"]
        for kind in ("registered_model", "experiment", "prompt"):
            what = {"resource_type": kind, "resource_pattern": "*", "permission": "READ"}
            site.admin("roles/permissions/add", role_id=role, **what)
        for name in READERS:
            site.admin("roles/assign", username=name, role_id=role)
        yield server


@contextlib.contextmanager
def review_app(
    folder: Path,
    mlflow: servers.MlflowServer,
    registry: str,
    *options: str,
    **environment: str,
) -> Iterator[str]:
    """Start ``mlflow-pack review serve`` and return its address."""
    port = servers.free_port()
    command = [sys.executable, "-m", "mlflow_plugins_pack.cli", "review", "serve"]
    command += ["--tracking-uri", mlflow.url, "--registry-store-uri", registry]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    command += ["--port", str(port), *options]
    url = f"http://127.0.0.1:{port}"
    with servers.running(
        command,
        log=folder / f"review-{port}.log",
        ready=lambda: servers.accepts_connections(port),
        environment=servers.clean_environment(
            MLFLOW_PACK_APPROVALS_POLICY=str(folder / "policy.yaml"),
            MLFLOW_DISABLE_TELEMETRY="true",
            **environment,
        ),
        folder=folder,
    ):
        yield url
