"""Two servers with two policy files on one database: the weaker file decides nothing."""

from __future__ import annotations

import logging
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from mlflow_plugins_pack.approvals.guards import install
from mlflow_plugins_pack.approvals.plugin import build_store
from mlflow_plugins_pack.approvals.policy import source as policy_source
from mlflow_plugins_pack.cli.main import cli
from mlflow_plugins_pack.errors import ApprovalRequiredError
from tests.support.acting import signed_in

STRICT = """
version: 1
groups: {leads: [bob]}
policies:
  - name: prod
    match: {models: ["gov-*"]}
    targets: {aliases: [prod]}
    approvals: [{group: leads}]
"""
WEAK = STRICT.replace("aliases: [prod]", "aliases: [other]")


class Database:
    """One database and the servers that open it, each with a policy file of its own."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, patch
        self.uri = f"approval-sqlite:///{folder / 'x.db'}"
        self.stores: list[Any] = []
        patch.setattr(policy_source, "_LOOK_AGAIN_SECONDS", 0)

    def server(self, name: str, policy: str) -> Any:
        file = self.folder / f"{name}.yaml"
        file.write_text(policy)
        self._patch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(file))
        self.stores.append(build_store(self.uri))
        return self.stores[-1]

    def call(self, *arguments: str) -> Result:
        options = ("--registry-store-uri", self.uri)
        return CliRunner().invoke(cli, ["approvals", *arguments, *options])


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = Database(tmp_path, monkeypatch)
    yield found
    for store in found.stores:
        store.engine.dispose()


def new_version(store: Any, folder: Path, name: str = "gov-a") -> None:
    (folder / "files").mkdir(exist_ok=True)
    (folder / "files" / "weights").write_text("w")
    with signed_in("alice"):
        store.create_registered_model(name)
        store.create_model_version(name, str(folder / "files"))


def activations(store: Any) -> list[tuple[str, str]]:
    """Return who put a policy into force and which one, oldest first."""
    with store.engine.connect() as connection:
        query = "SELECT actor, after FROM mpp_audit WHERE action = 'POLICY_ACTIVATED' ORDER BY seq"
        return [(row.actor, row.after) for row in connection.execute(sa.text(query))]


def test_a_second_server_with_a_weaker_file_decides_by_the_first_policy(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = database.server("first", STRICT)
    install.install(first.engine, first.governance.policy(), 1)
    with caplog.at_level(logging.ERROR):
        second = database.server("second", WEAK)
    assert "policy activate" in caplog.text
    new_version(second, tmp_path)
    for store in (first, second):
        with signed_in("alice"), pytest.raises(ApprovalRequiredError):
            store.set_registered_model_alias("gov-a", "prod", 1)
    with first.engine.connect() as connection:
        # Its start did not replace the patterns of the guards either.
        assert install.status(connection).problems(first.governance.policy()) == []
        targets = connection.execute(sa.text("SELECT target FROM mpp_guard_target")).scalars()
        assert targets.all() == ["alias:prod"]


def test_a_restart_with_another_file_changes_nothing_until_it_is_activated(
    database: Database, tmp_path: Path
) -> None:
    database.server("first", STRICT)
    second = database.server("second", WEAK)
    new_version(second, tmp_path)
    with signed_in("alice"), pytest.raises(ApprovalRequiredError):
        second.set_registered_model_alias("gov-a", "prod", 1)
    done = database.call("policy", "activate", str(tmp_path / "second.yaml"))
    assert done.exit_code == 0, done.output
    for store in database.stores:  # the first server too: all decide by one policy
        with signed_in("alice"):
            store.set_registered_model_alias("gov-a", "prod", 1)
    assert "in force already" in database.call("policy", "activate").output
    assert [actor for actor, _ in activations(second)] == [f"system:{getuser()}"]
    assert second.governance.policy().sha256 in activations(second)[-1][1]
    assert database.call("audit", "verify").exit_code == 0


def test_an_edit_of_the_file_in_force_comes_into_force_everywhere(
    database: Database, tmp_path: Path
) -> None:
    first, second = database.server("first", WEAK), database.server("second", WEAK)
    new_version(second, tmp_path)
    (tmp_path / "first.yaml").write_text(STRICT)
    assert first.governance.may_govern("gov-a")
    with signed_in("alice"), pytest.raises(ApprovalRequiredError):
        second.set_registered_model_alias("gov-a", "prod", 1)
    # The other server's own edit, of a file that is not in force any more, waits.
    (tmp_path / "second.yaml").write_text(WEAK + "# edited\n")
    with signed_in("alice"), pytest.raises(ApprovalRequiredError):
        second.set_registered_model_alias("gov-a", "prod", 1)
    assert first.governance.policy().sha256 == second.governance.policy().sha256
    # What a server puts into force by itself is in the audit log, too.
    assert [actor for actor, _ in activations(first)] == ["system:policy"]
    assert first.governance.policy().sha256 in activations(first)[-1][1]
    assert database.call("audit", "verify").exit_code == 0


def test_doctor_names_a_file_that_is_not_in_force(database: Database, tmp_path: Path) -> None:
    database.server("first", STRICT)
    database.server("second", WEAK)
    said = CliRunner().invoke(cli, ["doctor", "--registry-store-uri", database.uri])
    assert said.exit_code == 1
    assert "policy in force" in said.output
    assert "mlflow-pack approvals policy activate" in said.output.replace("\n", " ")
    refused = database.call("guards", "install")
    assert refused.exit_code == 1
    assert "is in force" in str(refused.exception)


def test_an_unset_webhook_secret_is_found_before_an_event_waits_for_it(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = """
events:
  webhooks:
    - {url: "https://one.example.com", secret: {env: HOOK_SECRET}}
    - {url: "https://two.example.com", secret: {file: /no/such/file}}
"""
    database.server("first", STRICT + hooks)
    file = str(tmp_path / "first.yaml")
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    validated = CliRunner().invoke(cli, ["approvals", "policy", "validate", file])
    checked = CliRunner().invoke(cli, ["doctor", "--registry-store-uri", database.uri])
    for said in (validated.output, checked.output):
        assert "https://one.example.com: the secret cannot be read: the variable HOOK" in said
        assert "https://two.example.com: the secret cannot be read: " in said
    assert (validated.exit_code, checked.exit_code) == (0, 1)
    monkeypatch.setenv("HOOK_SECRET", "x")
    assert "one.example" not in CliRunner().invoke(cli, ["doctor"]).output
