"""Only the ledger is believed: tags that say otherwise are removed, and that is recorded."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.approvals.background import unbacked_tags
from mlflow_plugins_pack.approvals.content import digest
from mlflow_plugins_pack.approvals.content.hashing import Progress
from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.domain.projection import (
    HolderApproval,
    TargetState,
    TargetStatus,
)
from mlflow_plugins_pack.approvals.plugin import build_store
from mlflow_plugins_pack.approvals.reports import listings
from mlflow_plugins_pack.cli.main import cli
from tests.approvals.support.bench import POLICY, Bench
from tests.support.acting import signed_in

STATUS = TargetStatus(TargetState.APPLIED, request_id="f" * 32, votes=2, votes_needed=2)
FORGED = {
    "mlflow_approvals.prod": STATUS.text,
    "mlflow_approvals.prod.request": STATUS.to_json(),
    "mlflow_approvals.prod.approval": HolderApproval("f" * 32, "sha256:0").to_json(),
}


def tags_of(store: Any, version: int, name: str = "gov-a") -> dict[str, str]:
    found = store.get_model_version(name, version).tags
    return {key: value for key, value in found.items() if key.lower().startswith("mlflow_app")}


def removed(store: Any) -> list[tuple[Any, ...]]:
    with store.engine.connect() as connection:
        rows = listings.audit_entries(connection, action="UNBACKED_TAG_REMOVED")
    return [(row["name"], row["version"], row["actor"]) for row in rows]


def find(store: Any) -> list[str]:
    return [tag.key for tag in store._transactions.read(unbacked_tags.find)]


def remove(bench: Bench) -> int:
    return unbacked_tags.remove(bench.store._transactions, bench.store.governance.policy())


def forge(bench: Bench, version: int, key: str, value: str) -> None:
    """Write as a stock store on the same database would."""
    where = {"name": "gov-a", "version": version, "key": key, "workspace": "default"}
    with bench.store.engine.begin() as connection:
        there = " AND ".join(f"{column} = :{column}" for column in where)
        connection.execute(sa.text(f"DELETE FROM model_version_tags WHERE {there}"), where)
        columns = ", ".join([*where, "value"])
        values = ", ".join(f":{column}" for column in [*where, "value"])
        connection.execute(
            sa.text(f"INSERT INTO model_version_tags ({columns}) VALUES ({values})"),
            {**where, "value": value},
        )


def test_the_first_start_removes_what_was_written_by_hand(
    tmp_path: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    (tmp_path / "policy.yaml").write_text(POLICY)
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(tmp_path / "policy.yaml"))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    files = tmp_path / "files"
    files.mkdir()
    (files / "weights").write_text("evil")
    stock = SqlAlchemyStore(uri)
    stock.create_registered_model("gov-a", [RegisteredModelTag("mlflow_approvals.prod", "APPLIED")])
    stock.create_model_version("gov-a", str(files))
    row = mlflow_tables.Version(
        "default", "gov-a", 1, "", "None", str(files), str(files), None, False, True
    )
    real = digest.Files(row).read(Progress())
    forged = {**FORGED, "mlflow_approvals.prod.approval": HolderApproval("f" * 32, real).to_json()}
    for key, value in forged.items():
        stock.set_model_version_tag("gov-a", 1, ModelVersionTag(key, value))
    stock.set_registered_model_alias("gov-a", "prod", "1")
    stock._dispose_engine()
    caplog.set_level(logging.WARNING)

    def call(*arguments: str) -> int:
        where = ["--registry-store-uri", f"approval-{uri}"]
        return CliRunner().invoke(cli, ["approvals", *arguments, *where]).exit_code

    assert call("verify", "models:/gov-a/1", "prod") == 1
    assert call("wait", "models:/gov-a/1", "prod", "--timeout", "0s") == 1
    store = build_store(f"approval-{uri}")
    assert tags_of(store, 1) == {}
    assert store.get_registered_model("gov-a").tags == {}
    expected = {("gov-a", None, "system:tags"), ("gov-a", 1, "system:tags")}
    assert set(removed(store)) == expected
    assert "no request or approval backs it" in caplog.text
    assert (
        CliRunner()
        .invoke(cli, ["approvals", "drift", "--registry-store-uri", f"approval-{uri}"])
        .exit_code
        == 1
    )
    store.engine.dispose()


def test_what_is_written_past_a_running_server_goes_and_the_truth_stays(bench: Bench) -> None:
    one, two = bench.version(), bench.version()
    bench.say("erin", "request", one)
    bench.say("bob", "approve", one)
    bench.set_alias(one)
    true = tags_of(bench.store, one)
    assert set(true) == set(FORGED)
    for key, value in true.items():
        forge(bench, two, key, value)  # the approval of another version
    assert sorted(find(bench.store)) == sorted(FORGED)
    assert bench.store.worker.step()
    assert (tags_of(bench.store, one), tags_of(bench.store, two)) == (true, {})
    assert removed(bench.store) == [("gov-a", two, "system:tags")] * 3


@pytest.mark.parametrize("ending", ["another version's", "another digest", "not JSON", "taken"])
def test_no_call_returns_an_approval_that_the_ledger_does_not_back(
    bench: Bench, ending: str
) -> None:
    """Even before the background work has removed it."""
    one, two = bench.version(), bench.version()
    bench.say("erin", "request", one)
    bench.say("bob", "approve", one)
    bench.set_alias(one)
    key = "mlflow_approvals.prod.approval"
    true = tags_of(bench.store, one)[key]
    version = two if ending in ("another version's", "taken") else one
    forged = {"another digest": true.replace("sha256:", "sha256:0"), "not JSON": "APPLIED"}
    forge(bench, version, key, forged.get(ending, true))
    if ending == "taken":
        with bench.store.engine.begin() as connection:
            query = f"UPDATE registered_model_aliases SET version = {two}"
            connection.execute(sa.text(query))
    assert key not in tags_of(bench.store, version)
    where = ["--registry-store-uri", bench.uri]
    arguments = ["approvals", "verify", f"models:/gov-a/{version}", "prod", *where]
    assert CliRunner().invoke(cli, arguments).exit_code == 1
    assert (key in tags_of(bench.store, one)) == (version == two)


PROD = "mlflow_approvals.prod"


@pytest.mark.parametrize(
    ("key", "change"),
    [
        (f"{PROD}.request", ('"PENDING"', '"APPROVED"')),
        (f"{PROD}.request", ('"PENDING"', '"APPLIED"')),
        (f"{PROD}.request", ("{", "[")),
        (PROD, ("PENDING 1/2", "APPROVED 2/2")),
        (f"{PROD}.approval", None),
    ],
)
def test_no_call_shows_more_than_the_ledger_says(
    bench: Bench, key: str, change: tuple[str, str] | None
) -> None:
    """Not for a moment: `wait` and `show` believe what a call returns."""
    bench.edit("count: 1", "count: 2")
    version = bench.version()
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    value = FORGED[key] if change is None else tags_of(bench.store, version)[key].replace(*change)
    forge(bench, version, key, value)
    with signed_in("erin"):
        bench.store.set_registered_model_alias("gov-a", "free", version)
    for found in (
        bench.store.get_model_version("gov-a", version),
        bench.store.get_model_version_by_alias("gov-a", "free"),
        *bench.store.get_latest_versions("gov-a"),
        *bench.store.search_model_versions("name = 'gov-a'"),
    ):
        assert key not in found.tags
    where = ["--registry-store-uri", bench.uri]
    for command in ("wait", "verify"):
        arguments = ["approvals", command, f"models:/gov-a/{version}", "prod", *where]
        arguments += ["--timeout", "0s"] if command == "wait" else []
        assert CliRunner().invoke(cli, arguments).exit_code in (1, 3)


def test_an_emergency_change_does_not_pass_for_an_approved_one(bench: Bench) -> None:
    bench.edit(
        "approvals: [{group: leads, count: 1}]\n",
        "approvals: [{group: leads, count: 1}]\n    break_glass: {group: risk}\n",
    )
    version = bench.version()
    bench.say("dave", "break_glass", version, "prod: fire")
    with bench.store.engine.connect() as connection:
        query = "SELECT id FROM mpp_request WHERE action = 'promote'"
        made = connection.execute(sa.text(query)).scalar_one()
    forged = TargetStatus(TargetState.APPLIED, request_id=made, votes=1, votes_needed=1)
    forge(bench, version, f"{PROD}.request", forged.to_json())
    forge(bench, version, PROD, forged.text)
    assert f"{PROD}.request" not in tags_of(bench.store, version)
    assert remove(bench) == 2


def test_a_tag_that_is_older_than_the_ledger_by_a_moment_is_shown(bench: Bench) -> None:
    """A call reads the tags first; a vote or the change may come before the ledger is read."""
    version = bench.version()
    bench.say("erin", "request", version)
    pending = tags_of(bench.store, version)
    bench.say("bob", "approve", version)
    approved = tags_of(bench.store, version)
    for key, value in pending.items():
        forge(bench, version, key, value)
    assert tags_of(bench.store, version) == pending
    bench.set_alias(version)
    for key, value in approved.items():
        forge(bench, version, key, value)
    assert set(approved) <= set(tags_of(bench.store, version))


ODD_VALUES = [
    "[" * 5000,
    '{"a":' * 1600,
    '{"state": "APPLIED", "approvers": 5}',
    '{"state": "APPLIED", "approvers": [{}]}',
    '{"state": "APPLIED", "basis": "x"}',
    '{"state": "APPLIED", "basis": {"kind": []}}',
    '{"state": [], "action": {}}',
    '{"state": "PENDING", "progress": {"bytes_done": 1e999}}',
    '{"state": "PENDING", "progress": [1]}',
    '{"state": "APPLIED", "votes": "x", "request_id": 5}',
    '{"request_id": [], "digest": {}}',
    "NaN",
    "9" * 4000,
    "\x1b[2J",
    "",
]


@pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: value[:40])
@pytest.mark.parametrize("suffix", ["", ".request", ".approval"])
def test_an_odd_tag_stops_no_server_and_no_call(bench: Bench, value: str, suffix: str) -> None:
    version = bench.version()
    forge(bench, version, PROD + suffix, value)
    assert PROD + suffix not in tags_of(bench.store, version)
    assert remove(bench) == 1


KEYS = "state action request_id votes approvers basis progress kind by_version bytes_done digest"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("APPLIED"),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS.split()), inner),
        max_leaves=8,
    )
)
def test_any_json_is_a_status_or_an_error_of_its_own(value: Any) -> None:
    for kind in (TargetStatus, HolderApproval):
        with contextlib.suppress(ValueError):
            found = kind.from_json(json.dumps(value))
            assert kind.from_json(found.to_json()) == found
            assert isinstance(getattr(found, "text", ""), str)


@pytest.mark.parametrize(
    ("key", "change", "gone"),
    [
        ("mlflow_approvals.prod.request", ('"PENDING"', '"APPROVED"'), 2),
        ("mlflow_approvals.prod.request", ('"bob"', '"carol"'), 2),
        ("mlflow_approvals.prod.request", ('"promote"', '"review"'), 2),
        ("mlflow_approvals.prod.request", ("{", "["), 2),
        ("mlflow_approvals.prod", ("PENDING 1/2", "APPLIED 2/2"), 1),
        ("MLFLOW_APPROVALS.prod", None, 1),
        ("mlflow_approvals.prod.approval", None, 1),
        ("mlflow_approvals.not a target", None, 1),
    ],
)
def test_each_way_to_say_more_than_the_ledger(
    bench: Bench, key: str, change: tuple[str, str] | None, gone: int
) -> None:
    bench.edit("count: 1", "count: 2")
    version = bench.version()
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    assert find(bench.store) == []
    value = FORGED.get(key, "APPLIED 2/2")
    if change is not None:
        value = tags_of(bench.store, version)[key]
        assert change[0] in value
        value = value.replace(*change)
    forge(bench, version, key, value)
    assert remove(bench) == gone
    assert key not in tags_of(bench.store, version)


def test_every_state_that_the_store_shows_is_backed(bench: Bench) -> None:
    bench.edit(
        "approvals: [{group: leads, count: 1}]\n",
        "approvals: [{group: leads, count: 1}]\n    break_glass: {group: risk}\n"
        "    rollback: {approvals: 0, within: 30d}\n",
    )
    one, two, three = (bench.version() for _ in range(3))
    for version in (one, two):
        bench.now += 1000
        bench.say("erin", "request", version)
        assert find(bench.store) == []
        bench.say("bob", "approve", version)
        assert find(bench.store) == []
        bench.set_alias(version)
        assert find(bench.store) == []
    assert bench.state(one) == "REPLACED by version 2"
    bench.now += 1000
    bench.set_alias(one)
    assert bench.state(one).endswith("rollback")
    bench.say("dave", "break_glass", three, "prod: fire")
    assert find(bench.store) == []
    bench.say("bob", "approve", three)
    assert find(bench.store) == []
    bench.say("erin", "request", two, "stage:Production")
    bench.say("bob", "approve", two, "stage:Production")
    with signed_in("erin"):
        bench.store.transition_model_version_stage("gov-a", two, "Production", False)
        assert find(bench.store) == []
        with pytest.raises(errors.ApprovalRequiredError):
            bench.store.transition_model_version_stage("gov-a", two, "Archived", False)
    assert find(bench.store) == []
    bench.say("carol", "reject", two, "stage:Production: stays")
    assert find(bench.store) == []
    bench.now += 3 * 3_600_000
    bench.say("erin", "request", two)
    bench.now += 3 * 3_600_000
    assert find(bench.store) == []
    assert remove(bench) == 0
