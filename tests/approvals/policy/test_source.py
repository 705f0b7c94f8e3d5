"""One SQLite store under policies that change, and a clock that moves."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.entities.model_registry import ModelVersionTag

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.approvals.reports import listings
from tests.approvals.support.bench import HOUR, POLICY, ClockBench, refused
from tests.support import servers
from tests.support.acting import signed_in
from tests.support.paths import ROOT


def test_a_request_expires(bench: ClockBench) -> None:
    version = bench.version()
    bench.say("erin", "request", version)
    bench.now += 2 * HOUR
    refused(errors.NoOpenRequestError, lambda: bench.say("bob", "approve", version))
    assert "was filed" in refused(errors.ApprovalRequiredError, lambda: bench.set_alias(version))


def test_an_approval_runs_out(bench: ClockBench) -> None:
    version = bench.version()
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    bench.now += HOUR - 1
    bench.set_alias(version)
    assert bench.holder() == version
    second = bench.version()
    bench.say("erin", "request", second)
    bench.say("bob", "approve", second)
    bench.now += HOUR
    assert "0 of 1" in refused(errors.ApprovalRequiredError, lambda: bench.set_alias(second))
    assert bench.holder() == version


def test_shorter_times_hold_for_what_waits_already(bench: ClockBench) -> None:
    one, two = bench.version(), bench.version()
    bench.say("erin", "request", one)
    bench.say("erin", "request", two)
    bench.say("bob", "approve", one)
    bench.now += HOUR // 2
    bench.edit("expires_after: 2h, approval_valid_for: 1h", "approval_valid_for: 20m")
    assert "0 of 1" in refused(errors.ApprovalRequiredError, lambda: bench.set_alias(one))
    bench.edit("approval_valid_for: 20m", "expires_after: 20m")
    refused(errors.NoOpenRequestError, lambda: bench.say("bob", "approve", two))
    # Longer ones hold for what is asked from then on.
    bench.say("erin", "request", two)
    bench.edit("expires_after: 20m", "expires_after: 9h")
    bench.now += HOUR
    refused(errors.NoOpenRequestError, lambda: bench.say("bob", "approve", two))
    assert bench.holder() is None


def test_a_stricter_policy_makes_approvals_stale(bench: ClockBench) -> None:
    version = bench.version()
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    bench.edit("[{group: leads, count: 1}]", "[{group: leads}, {group: risk}]")
    text = refused(errors.StaleApprovalError, lambda: bench.set_alias(version))
    assert "the policy now asks for more (leads 1/1, risk 0/1)" in text
    assert bench.holder() is None


def test_who_left_the_group_no_longer_counts(bench: ClockBench) -> None:
    version = bench.version()
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    bench.edit("leads: [bob, carol]", "leads: [carol]")
    refused(errors.StaleApprovalError, lambda: bench.set_alias(version))


def test_a_looser_policy_lets_waiting_requests_through(bench: ClockBench) -> None:
    bench.edit("count: 1", "count: 2")
    version = bench.version()
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    refused(errors.ApprovalRequiredError, lambda: bench.set_alias(version))
    bench.edit("count: 2", "count: 1")
    bench.set_alias(version)
    assert bench.holder() == version


def test_a_broken_edit_keeps_the_old_policy_and_says_so(
    bench: ClockBench, caplog: pytest.LogCaptureFixture
) -> None:
    version = bench.version()
    bench.edit("approvals:", "aprovals:")
    with caplog.at_level(logging.ERROR):
        refused(errors.ApprovalRequiredError, lambda: bench.set_alias(version))
    loud = [r.getMessage() for r in caplog.records if "NOT in force" in r.getMessage()]
    assert len(loud) == 1
    assert "line 9: policies.0.aprovals: unknown key" in loud[0]
    bench.file.unlink()
    refused(errors.ApprovalRequiredError, lambda: bench.set_alias(version))
    bench.file.write_text(POLICY.replace("aliases: [prod], ", ""))
    bench.set_alias(version)
    assert bench.holder() == version


def test_auto_applies_with_the_last_approval(bench: ClockBench) -> None:
    bench.edit("approval_valid_for: 1h", "approval_valid_for: 1h, apply: auto")
    one, two = bench.version(), bench.version()
    bench.say("erin", "request", one)
    assert bench.holder() is None
    bench.say("bob", "approve", one)
    assert bench.holder() == one
    bench.say("bob", "approve", one)  # a double click
    with signed_in("erin"), pytest.raises(errors.ApprovalRequiredError):
        bench.store.delete_registered_model_alias("gov-a", "prod")
    bench.say("carol", "approve", one)
    assert bench.holder() is None
    for version in (one, two):
        bench.say("erin", "request", version, "stage:Production")
        bench.say("bob", "approve", version, "stage:Production")
        assert bench.state(version, "stage:Production") == "APPLIED 1/1 (bob)"
        stage = bench.store.get_model_version("gov-a", version).current_stage
        assert stage == "Production"


def test_auto_refuses_changed_bytes_to_the_approver(bench: ClockBench) -> None:
    bench.edit("approval_valid_for: 1h", "approval_valid_for: 1h, apply: auto")
    version = bench.version()
    bench.say("erin", "request", version)
    source = Path(bench.store.get_model_version_download_uri("gov-a", version))
    (source / "more").write_text("x")
    refused(errors.StaleApprovalError, lambda: bench.say("bob", "approve", version))
    assert bench.holder() is None


def test_a_policy_may_ask_for_checks_only(bench: ClockBench) -> None:
    bench.edit(
        "approvals: [{group: leads, count: 1}]",
        "approvals: []\n    checks: [{tag: tests, equals: ok, max_age: 1h}]",
    )
    version = bench.version()
    assert "'tests' to be 'ok', and it is not set" in refused(
        errors.ChecksFailedError, lambda: bench.set_alias(version)
    )
    with signed_in("erin"):
        tag = ModelVersionTag("tests", "ok")
        bench.store.set_model_version_tag("gov-a", version, tag)
    bench.now += 2 * HOUR
    bench.edit("expires_after: 2h", "expires_after: 9h")
    assert "and it is older" in refused(errors.ChecksFailedError, lambda: bench.set_alias(version))
    with signed_in("erin"):
        bench.store.set_model_version_tag("gov-a", version, tag)
    bench.set_alias(version)
    assert bench.holder() == version


def test_self_approval_can_be_allowed(bench: ClockBench) -> None:
    version = bench.version()
    bench.say("bob", "request", version)
    refused(errors.SelfApprovalError, lambda: bench.say("bob", "approve", version))
    bench.edit("approval_valid_for: 1h", "approval_valid_for: 1h, allow_self_approval: true")
    bench.say("bob", "approve", version)
    bench.set_alias(version)
    assert bench.holder() == version


def test_refusals_are_logged_but_not_flooded(bench: ClockBench) -> None:
    version = bench.version()
    for _ in range(5):
        refused(errors.ApprovalRequiredError, lambda: bench.set_alias(version))
    with bench.store.engine.connect() as connection:
        entries = listings.audit_entries(connection, 100)
    assert [entry["action"] for entry in entries] == ["REQUESTED", "REFUSED"]


def test_kill_nine_in_the_middle_of_an_apply_changes_nothing(bench: ClockBench) -> None:
    version = bench.version()
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    code = f"""
import os
from mlflow_plugins_pack.approvals.ledger import audit_log as audit
from mlflow_plugins_pack.approvals.plugin import build_store
from tests.support import servers
from tests.support.acting import signed_in

real = audit.append

def dying(session, *, action, **values):
    real(session, action=action, **values)
    if action == "APPLIED":  # the alias is written, the request is closed, nothing is committed
        os.kill(os.getpid(), 9)

audit.append = dying
with signed_in("erin"):
    build_store({str(bench.uri)!r}).set_registered_model_alias("gov-a", "prod", {version})
"""
    environment = servers.clean_environment(MLFLOW_PACK_APPROVALS_POLICY=str(bench.file))
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, timeout=200, check=False
    )
    assert done.returncode == -9
    assert bench.holder() is None
    assert bench.state(version) == "APPROVED 1/1 (bob)"
    assert bench.audit_is_intact()
    bench.set_alias(version)
    assert bench.holder() == version
    assert bench.audit_is_intact()
