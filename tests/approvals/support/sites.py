"""A stock server with approvals and guards, its users, and every interface to its registry."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore
from mlflow.utils.workspace_context import WorkspaceContext

from mlflow_plugins_pack.approvals.guards import install
from mlflow_plugins_pack.approvals.plugin import build_store
from mlflow_plugins_pack.approvals.reports import listings
from tests.support import servers
from tests.support.acting import signed_in

POLICY = """
version: 1
groups: {leads: [bob, carol], risk: [dave], ci: [svc-ci]}
policies:
  - name: prod
    match: {models: ["gov-*"], prompts: ["say-*"]}
    targets: {aliases: [prod], stages: [Staging, Production]}
    approvals: [{group: leads, count: 1}, {group: risk, count: 1}]
    checks: [{tag: tests, equals: passed, writers: ["group:ci"]}]
    sources_under: ["/**"]
  - name: own
    match: {models: ["own-*"]}
    targets: {aliases: [prod]}
    approvals: [{group: leads}, {group: risk}]
  - name: race
    match: {models: ["race-*"]}
    targets: {aliases: [prod], stages: [Production]}
    approvals: [{group: leads}, {group: risk}]
    demote: {approvals: 0}
    sources_under: ["/**"]
"""
PEOPLE = ("alice", "bob", "carol", "dave", "erin", "svc-ci", "zoe")
WORKSPACE = "team-b"
WORKERS, CLIENTS, ROUNDS = map(int, os.environ.get("RACE_SIZE", "2x8x8").split("x"))
"""Of a race: worker processes, clients for each, calls by each."""

# Stages are deprecated in stock MLflow, and still there to be protected.
NO_WARNING = pytest.mark.filterwarnings(
    "ignore:.*(transition_model_version_stage|get_latest_versions).*is deprecated:FutureWarning"
)

_numbers = itertools.count(1)


def new_name(prefix: str = "gov") -> str:
    """Return a name that no test has used."""
    return f"{prefix}-{next(_numbers)}"


class Site:
    """A stock server on one database, and the database itself.

    Attributes:
        workspace: Where everything happens, on a server with workspaces; else None.
        store: Ours, opened directly: what job processes do.
        stock: Stock's, opened directly.
        client: A stock client of the server.
        direct: A stock client with an ``approval-`` registry URI.
        raw: A stock client with the database's own URI.
    """

    def __init__(
        self, server: servers.MlflowServer, database: str, folder: Path, workspace: str | None
    ) -> None:
        self.server = server
        self.folder = folder
        self.database = database
        self.workspace = workspace
        self.uri = f"approval-{database}"
        self.policy = folder / "policy.yaml"
        self.client = MlflowClient(server.url, server.url)
        self.direct = MlflowClient(server.url, self.uri)
        self.raw = MlflowClient(server.url, database)
        with self.entered():
            self.store = build_store(self.uri)
            install.install(self.store.engine, self.store.governance.policy(), 1)
            kind = SqlAlchemyStore if workspace is None else WorkspaceAwareSqlAlchemyStore
            self.stock = kind(database)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Be configured as the server is, and in its workspace."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(self.policy))
            if self.workspace is None:
                yield
            else:
                patch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
                with WorkspaceContext(self.workspace):
                    yield

    def as_user(self, name: str) -> Any:
        return servers.credentials(*_password(name))

    def ajax(self, user: str, verb: str, path: str, body: dict[str, Any]) -> requests.Response:
        """Call as MLflow's own pages do."""
        return requests.request(
            verb,
            f"{self.server.url}/ajax-api/2.0/mlflow/{path}",
            json=body,
            headers={"X-MLFLOW-WORKSPACE": self.workspace} if self.workspace else {},
            auth=_password(user),
            timeout=120,
        )

    def close(self) -> None:
        self.store.engine.dispose()
        self.stock.engine.dispose()

    # --- preparing ----------------------------------------------------------------------------

    def version(self, name: str, run_id: str | None = None) -> None:
        """Register a version with files of its own."""
        source = self.folder / f"files-{next(_numbers)}"
        source.mkdir()
        (source / "weights").write_text(f"weights of {source}")
        with signed_in("alice"):
            with contextlib.suppress(MlflowException):
                self.store.create_registered_model(name)
            self.store.create_model_version(name, str(source), run_id)

    def prompt(self, name: str, text: str) -> None:
        with signed_in("alice"):
            if self.store.get_prompt(name) is None:
                self.store.create_prompt(name)
            self.store.create_prompt_version(name, text)

    def say(self, user: str, command: str, name: str, version: int, value: str) -> None:
        self.tag(user, name, version, f"approvals.{command}", value)

    def tag(self, user: str, name: str, version: int, key: str, value: str) -> None:
        with signed_in(user):
            self.store.set_model_version_tag(name, version, ModelVersionTag(key, value))

    def approve(self, name: str, version: int, target: str) -> None:
        self.say("alice", "request", name, version, f"{target}: please")
        self.tag("svc-ci", name, version, "tests", "passed")
        for user in ("bob", "dave"):
            self.say(user, "approve", name, version, f"{target}: fine")

    def put_in_production(self, name: str, version: int) -> None:
        self.approve(name, version, "prod")
        with signed_in("alice"):
            self.store.set_registered_model_alias(name, "prod", version)

    def put_in_stage(self, name: str, version: int, stage: str) -> None:
        self.approve(name, version, f"stage:{stage}")
        with signed_in("alice"):
            self.store.transition_model_version_stage(name, version, stage, False)

    # --- looking ------------------------------------------------------------------------------

    def snapshot(self, name: str) -> dict[str, Any]:
        """Return all that a consumer of the model could notice, read by the stock store."""
        try:
            model = self.stock.get_registered_model(name)
        except MlflowException:
            return {}
        prefix = "mlflow_approvals."
        return {
            "aliases": dict(model.aliases),
            "tags": dict(model.tags),
            "versions": {
                int(v.version): (
                    v.current_stage,
                    v.source,
                    {k: t for k, t in v.tags.items() if not k.startswith(prefix)},
                )
                for flag in ("", " AND tags.`mlflow.prompt.is_prompt` = 'true'")
                for v in self.stock.search_model_versions(f"name = '{name}'{flag}")
            },
        }

    def audited(self, name: str) -> list[dict[str, Any]]:
        with self.store.engine.connect() as connection:
            rows = listings.audit_entries(connection, 100_000)
        return [row for row in rows if row["name"] == name]


def _password(user: str) -> tuple[str, str]:
    return servers.ADMIN if user == servers.ADMIN[0] else (user, servers.PASSWORD)


@contextlib.contextmanager
def site_on(database: str, folder: Path, *, with_workspaces: bool) -> Iterator[Site]:
    """Start a server whose tracking store and registry are one database.

    Everybody signed in may do anything, as far as MLflow's own permissions go.
    """
    (folder / "policy.yaml").write_text(POLICY)
    settings = {
        "MLFLOW_PACK_APPROVALS_POLICY": str(folder / "policy.yaml"),
        "MLFLOW_AUTH_CONFIG_PATH": str(servers.write_auth_config(folder, "MANAGE")),
    }
    with servers.mlflow_server(
        folder,
        backend=database,
        registry=f"approval-{database}",
        app_name="basic-auth",
        workers=1 if with_workspaces else WORKERS,
        options=["--enable-workspaces"] if with_workspaces else [],
        **settings,
    ) as server:
        for name in PEOPLE:
            servers.create_user(server, name, servers.PASSWORD)
        servers.make_sign_in_cheap(folder)
        if with_workspaces:
            create_workspace(server, WORKSPACE, PEOPLE)
        site = Site(server, database, folder, WORKSPACE if with_workspaces else None)
        yield site
        site.close()


def create_workspace(server: servers.MlflowServer, name: str, people: Sequence[str] = ()) -> None:
    """Create a workspace that people may do anything in."""

    def call(path: str, **body: Any) -> Any:
        url = f"{server.url}/api/3.0/mlflow/{path}"
        answer = requests.post(url, json=body, auth=servers.ADMIN, timeout=120)
        assert answer.ok, answer.text
        return answer.json()

    call("workspaces", name=name)
    if people:
        role = call("roles/create", workspace=name, name="everybody")["role"]["id"]
        what = {"resource_type": "workspace", "resource_pattern": "*", "permission": "MANAGE"}
        call("roles/permissions/add", role_id=role, **what)
    for user in people:
        call("roles/assign", username=user, role_id=role)


def by_client(site: Site, client: MlflowClient, user: str | None, call: Any) -> tuple[int, str]:
    """Make a call that must be refused; return the status and what reached the caller."""
    method, *arguments = call
    with site.as_user(user or "unsigned"), pytest.raises(MlflowException) as caught:
        getattr(client, method)(*arguments)
    return caught.value.get_http_status_code(), caught.value.message
