"""Each act needs the narrowest right, and what anyone can write takes no vote away."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.cli.main import cli
from tests.approvals.support.bench import ClockBench, refused
from tests.approvals.support.runs import run_of, version_of
from tests.support.acting import signed_in


def test_an_approved_request_is_not_its_requesters_to_cancel(bench: ClockBench) -> None:
    version = bench.version()
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    text = refused(errors.NotAnApproverError, lambda: bench.say("erin", "cancel", version))
    assert "only before another user has voted" in text
    assert bench.state(version) == "APPROVED 1/1 (bob)"
    bench.set_alias(version)
    assert bench.holder() == version


def test_nor_one_that_others_have_voted_on(bench: ClockBench) -> None:
    bench.edit("count: 1", "count: 2")
    version = bench.version()
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    refused(errors.NotAnApproverError, lambda: bench.say("erin", "cancel", version))
    assert bench.state(version) == "PENDING 1/2 (bob)"
    bench.say("bob", "withdraw", version)
    bench.say("erin", "cancel", version)  # no vote is lost by that
    assert bench.state(version) == "CANCELLED: by erin: ok"


def test_nor_a_request_to_demote(bench: ClockBench) -> None:
    version = bench.version()
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    bench.set_alias(version)
    with signed_in("erin"), pytest.raises(errors.ApprovalRequiredError):
        bench.store.delete_registered_model_alias("gov-a", "prod")
    bench.say("carol", "approve", version)
    refused(errors.NotAnApproverError, lambda: bench.say("erin", "cancel", version))
    refused(errors.NotAnApproverError, lambda: bench.say("dave", "cancel", version))


def test_a_tag_that_anyone_may_write_takes_no_vote_away(
    bench: ClockBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, run_id = run_of(bench, monkeypatch, mlflow_user="trainer")
    version = version_of(bench, run_id)
    client.set_tag(run_id, "mlflow.user", "bob")
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    assert bench.state(version) == "APPROVED 1/1 (bob)"


def test_nor_does_overwriting_it_win_a_vote_back(
    bench: ClockBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, run_id = run_of(bench, monkeypatch, mlflow_user="bob")
    version = version_of(bench, run_id)
    client.set_tag(run_id, "mlflow.user", "trainer")
    bench.say("erin", "request", version)
    text = refused(errors.SelfApprovalError, lambda: bench.say("bob", "approve", version))
    assert f"in whose name run {run_id} of this version was created" in text
    assert "prevent_run_user_approval: false" in text


def test_who_is_excluded_is_shown_and_a_policy_may_say_otherwise(
    bench: ClockBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run_id = run_of(bench, monkeypatch, mlflow_user="bob")
    version = version_of(bench, run_id)
    bench.say("erin", "request", version)
    model = f"models:/gov-a/{version}"
    done = CliRunner().invoke(cli, ["approvals", "show", model, "--registry-store-uri", bench.uri])
    assert "its run was created in the name of bob" in done.output
    bench.edit("approval_valid_for: 1h", "approval_valid_for: 1h, prevent_run_user_approval: false")
    bench.say("bob", "approve", version)
    assert bench.state(version) == "APPROVED 1/1 (bob)"


@pytest.mark.parametrize("name", ["system:digest", "System:tags", "ｓystem:drift"])
def test_no_user_acts_under_the_name_of_a_server(bench: ClockBench, name: str) -> None:
    """An identity provider gives out names; in the audit log such a name is a server's own."""
    version = bench.version()
    with pytest.raises(errors.IdentityRequiredError):
        bench.say(name, "request", version)
    bench.say("erin", "request", version)
