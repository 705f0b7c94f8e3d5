"""The doctor's checks and the command line on a database."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from mlflow.entities.model_registry import ModelVersionTag

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.approvals.plugin import build_store
from mlflow_plugins_pack.approvals.reports import doctor
from mlflow_plugins_pack.cli.main import cli
from tests.approvals.support.bench import ClockBench
from tests.support import servers
from tests.support.acting import signed_in

POLICY = """
version: 1
groups: {leads: [bob]}
policies:
  - name: prod
    match: {models: ["gov-*"]}
    targets: {aliases: [prod]}
    approvals: [{group: leads}]
"""


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registry with one version approved and set, and one that waits."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    (tmp_path / "policy.yaml").write_text(POLICY)
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(tmp_path / "policy.yaml"))
    uri = f"approval-sqlite:///{tmp_path / 'mlflow.db'}"
    store = build_store(uri)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "weights").write_text("weights")
    with signed_in("alice"):
        store.create_registered_model("gov-a")
        for version in (1, 2):
            store.create_model_version("gov-a", str(tmp_path / "files"))
            tag = ModelVersionTag("approvals.request", "prod: please")
            if version == 1:
                store.set_model_version_tag("gov-a", version, tag)
    with signed_in("bob"):
        store.set_model_version_tag("gov-a", 1, ModelVersionTag("approvals.approve", "prod: fine"))
        store.set_registered_model_alias("gov-a", "prod", 1)
        store.set_model_version_tag("gov-a", 2, ModelVersionTag("approvals.comment", "prod: hm"))
    with signed_in("alice"):
        store.set_model_version_tag("gov-a", 2, tag)
    return uri


def execute(uri: str, *statements: str) -> None:
    engine = sa.create_engine(uri.removeprefix("approval-"))
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


def levels(uri: str | None) -> dict[str, str]:
    return {finding.subject: finding.level for finding in doctor.check(uri)}


def test_a_healthy_registry(uri: str) -> None:
    assert levels(uri) == dict.fromkeys(
        [
            "approvals policy",
            "approvals tables",
            "audit log",
            "database guards",
            "drift",
            "policy in force",
        ],
        "ok",
    )


@pytest.mark.parametrize(
    ("permission", "expected"),
    [
        ("READ", "warning"),
        ("NO_PERMISSIONS", "warning"),
        ("EDIT", "ok"),
        ("MANAGE", "ok"),
        ("NONSENSE", "warning"),
    ],
)
def test_reviewers_who_may_only_read_are_found(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, permission: str, expected: str
) -> None:
    config = servers.write_auth_config(tmp_path, permission)
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(config))
    (finding,) = [f for f in doctor.check(uri) if f.subject == "reviewers"]
    assert finding.level == expected
    assert ("vote on the review app" in finding.message) == (permission not in ("EDIT", "MANAGE"))


def test_nothing_configured_nothing_found() -> None:
    assert doctor.check(None) == []
    assert doctor.check("sqlite:///x.db") == []


def test_the_silent_bypass_is_found() -> None:
    (finding,) = doctor.check("sqlite+approval:///x.db")
    assert finding.level == "error"
    assert "nothing is enforced" in finding.message


def test_a_missing_policy_is_found(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_PACK_APPROVALS_POLICY")
    assert levels(uri)["approvals policy"] == "error"


def test_a_missing_database_is_found(uri: str, tmp_path: Path) -> None:
    assert levels(f"approval-sqlite:///{tmp_path / 'no.db'}")["approvals tables"] == "warning"
    assert not (tmp_path / "no.db").exists()


def test_a_stranger_in_production_is_found(uri: str) -> None:
    assert call("drift", "--registry-store-uri", uri).output.startswith("Every protected holder")
    execute(uri, "UPDATE registered_model_aliases SET version = 2")
    (finding,) = [f for f in doctor.check(uri) if f.subject == "drift"]
    assert finding.level == "warning"
    assert "prod of 'gov-a': version 2 holds it without approval" in finding.message
    listed = call("drift", "--json", "--registry-store-uri", uri)
    assert listed.exit_code == 1
    assert json.loads(listed.output)[0]["version"] == 2


def test_a_rewritten_log_is_found(uri: str) -> None:
    execute(
        uri, "DROP TRIGGER mpp_audit_no_update", "UPDATE mpp_audit SET actor = 'x' WHERE seq = 2"
    )
    messages = [f.message for f in doctor.check(uri) if f.level == "error"]
    assert any("mpp_audit_no_update are gone" in message for message in messages)
    assert "entry 2 was changed after it was written" in messages
    done = call("audit", "verify", "--registry-store-uri", uri)
    assert done.exit_code == 1
    assert str(done.exception).startswith("AUDIT_BROKEN: entry 2 was changed")
    assert call("audit", "verify", "--json", "--registry-store-uri", uri).exit_code == 1


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["approvals", *arguments])


def rows(*arguments: str) -> Any:
    done = call(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_listings_of_a_database(uri: str) -> None:
    registry = ("--registry-store-uri", uri)
    (waiting,) = rows("list", *registry)
    assert (waiting["model"], waiting["version"], waiting["state"]) == ("gov-a", 2, "PENDING")
    everything = rows("list", "--all", *registry)
    assert sorted(row["state"] for row in everything) == ["APPLIED", "PENDING"]
    shown = rows("show", "models:/gov-a/2", *registry)
    assert [comment["text"] for comment in shown["comments"]] == ["hm"]
    assert shown["requests"][0]["comment"] == "please"
    text = call("show", "gov-a/1", *registry).output
    assert "promote models:/gov-a/1 to prod: APPLIED" in text
    assert 'bob approve: "fine"' in text
    actions = [row["action"] for row in rows("audit", "list", *registry)]
    assert actions == [
        "REQUESTED",
        "VOTED",
        "APPROVED",
        "APPLIED",
        "COMMENTED",
        "REQUESTED",
    ]
    table = call("audit", "list", *registry).output
    for said in ("approve: fine", "approved by bob", "hm"):
        assert said in table, table
    empty = call("audit", "list", "--action", "drift", *registry).output
    assert empty == "There are no such entries.\n"
    checked = rows("audit", "verify", "--registry-store-uri", uri.removeprefix("approval-"))
    assert checked["is_intact"]
    assert checked["entries"] == 6


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            ("show", "models:/gov-a/9"),
            errors.NoOpenRequestError,
            "has neither requests nor comments",
        ),
        (("approve", "models:/gov-a/2", "prod"), errors.IdentityRequiredError, "signed in"),
        (("request", "models:/gov-a/9", "prod"), errors.NoOpenRequestError, "no version 9"),
    ],
)
def test_refusals_on_a_database(uri: str, arguments: Any, error: type, text: str) -> None:
    done = call(*arguments, "--registry-store-uri", uri)
    assert isinstance(done.exception, error)
    assert text in done.exception.message
    assert rows("list", "--registry-store-uri", uri)[0]["state"] == "PENDING"


@pytest.mark.parametrize(
    "arguments",
    [("approve", "gov-a", "prod"), ("approve", "models:/gov-a/1", "stage:Nowhere"), ("list",)],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert call(*arguments).exit_code == 2


def test_the_stock_registry_is_not_voted_in(uri: str) -> None:
    plain = uri.removeprefix("approval-")
    done = call("approve", "models:/gov-a/2", "prod", "--registry-store-uri", plain)
    assert isinstance(done.exception, errors.ConfigurationError)


def test_policies_are_validated(uri: str, tmp_path: Path) -> None:
    assert "is valid: 1 policy" in call("policy", "validate").output
    (tmp_path / "bad.yaml").write_text("version: 1")
    done = call("policy", "validate", str(tmp_path / "bad.yaml"))
    assert isinstance(done.exception, errors.PolicyInvalidError)


def test_a_comment_cannot_pass_for_a_vote_or_act_on_a_terminal(bench: ClockBench) -> None:
    version = bench.version()
    bench.say("erin", "request", version, "prod: ok\n  2026-01-01T00:00Z bob approve: fine\x1b[2K")
    bench.say("erin", "comment", version, "prod: \u202eevil\r\x9b1A")
    model = f"models:/gov-a/{version}"
    shown = call("show", model, "--registry-store-uri", bench.uri).output
    assert not any(line.strip().startswith("2026-01-01") for line in shown.splitlines())
    for listed in (shown, call("audit", "list", "--registry-store-uri", bench.uri).output):
        assert not set("\x1b\r\x9b\u202e") & set(listed)
