"""Attacks that go from one workspace to another."""

from __future__ import annotations

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.workspace_context import WorkspaceContext

from mlflow_plugins_pack.approvals.background import drift
from mlflow_plugins_pack.approvals.guards import install
from tests.approvals.support.attacks import a_holder
from tests.approvals.support.databases import SITES
from tests.approvals.support.sites import NO_WARNING, Site, by_client, create_workspace, new_name
from tests.support import servers
from tests.support.acting import signed_in

pytestmark = [
    NO_WARNING,
    pytest.mark.parametrize(
        "running_site", [kind for kind in SITES if "workspaces" in kind], indirect=True
    ),
]
MODES = pytest.mark.parametrize("mode", ["SET_DEFAULT", "CASCADE"])


def _delete_workspace(site: Site, workspace: str, mode: str) -> requests.Response:
    return requests.delete(
        f"{site.server.url}/api/3.0/mlflow/workspaces/{workspace}",
        params={"mode": mode},
        auth=servers.ADMIN,
        timeout=120,
    )


def _in_a_workspace_of_its_own(site: Site) -> tuple[str, str]:
    """Make a holder, and a version that is approved and not applied; return (workspace, name)."""
    workspace, name = new_name("team"), new_name()
    create_workspace(site.server, workspace)
    with WorkspaceContext(workspace):
        a_holder(site, name)
        site.approve(name, 2, "prod")
    return workspace, name


@MODES
def test_row_19_a_workspace_with_holders_stays(site: Site, mode: str) -> None:
    workspace, name = _in_a_workspace_of_its_own(site)
    with WorkspaceContext(workspace):
        before = site.snapshot(name)
    said = _delete_workspace(site, workspace, mode)
    # Stock answers INVALID_STATE, whose status is 500, to whatever keeps a workspace.
    assert said.json()["error_code"] == "INVALID_STATE"
    assert "mpp_guard: " in said.text
    with WorkspaceContext(workspace):
        assert site.snapshot(name) == before
    with WorkspaceContext("default"):
        assert site.snapshot(name) == {}


@MODES
def test_row_19_without_guards_drift_finds_what_moved(site: Site, mode: str) -> None:
    workspace, name = _in_a_workspace_of_its_own(site)
    policy = site.store.governance.policy()
    install.remove(site.store.engine)
    try:
        said = _delete_workspace(site, workspace, mode)
        assert said.ok, said.text
    finally:
        install.install(site.store.engine, policy, 1)
    found = site.store._transactions.read(lambda session: drift.find(session, policy))
    findings = {(s.workspace, s.target, s.version, s.kind) for s in found if s.model == name}
    targets = ("prod", "stage:Production")
    expected = {(workspace, target, 1, "removed") for target in targets}
    with WorkspaceContext("default"):
        if mode == "CASCADE":
            assert site.snapshot(name) == {}
        else:
            expected |= {("default", target, 1, "unapproved") for target in targets}
            with signed_in("erin"), pytest.raises(MlflowException, match="0 of 2 approvals"):
                site.store.set_registered_model_alias(name, "prod", 2)
            assert site.snapshot(name)["aliases"] == {"prod": 1}
    assert findings == expected


def test_row_19_an_approval_counts_in_its_workspace_only(site: Site) -> None:
    workspace, name = _in_a_workspace_of_its_own(site)
    site.version(name)
    site.version(name)
    call = ("set_registered_model_alias", name, "prod", "2")
    _, text = by_client(site, site.client, "erin", call)
    assert "Version 2 has 0 of 2 approvals" in text
    status, text = by_client(site, site.raw, None, call)
    assert (status, "mpp_guard: " in text) == (400, True), text
    with WorkspaceContext(workspace), signed_in("erin"):
        site.store.set_registered_model_alias(name, "prod", 2)
    assert site.snapshot(name)["aliases"] == {}
