"""Names near a command's are refused with the right spelling: a typing error is not a vote."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.approvals.domain.near_misses import imitates_projection, meant_command
from mlflow_plugins_pack.approvals.domain.tag_names import COMMANDS, is_reserved_tag
from tests.approvals.support.bench import ClockBench
from tests.support.acting import signed_in


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("approval.approve", "approve"),
        ("approvals.aprove", "approve"),
        ("approvals.approved", "approve"),
        ("aprovals.approve", "approve"),
        ("Approvals_Approve", "approve"),
        ("approvals approve", "approve"),
        ("approval_approve", "approve"),
        ("approvals.rejected", "reject"),
        ("approvals.break-glass", "break_glass"),
        ("approvals.breakglass.demote", "break_glass.demote"),
        ("approvals.lgtm", "approve"),
    ],
)
def test_a_misspelt_vote_is_refused_with_the_right_spelling(
    bench: ClockBench, written: str, meant: str
) -> None:
    version = bench.version()
    bench.say("erin", "request", version)
    with signed_in("bob"):
        tag = ModelVersionTag(written, "prod: fine")
        with pytest.raises(errors.ReservedTagError, match=f"the command 'approvals.{meant}'"):
            bench.store.set_model_version_tag("gov-a", version, tag)
        with pytest.raises(errors.ReservedTagError, match=f"'approvals.{meant}'"):
            bench.store.set_registered_model_tag("gov-a", RegisteredModelTag(written, "prod: fine"))
    assert written not in bench.store.get_model_version("gov-a", version).tags
    assert bench.state(version) == "PENDING 0/1"


@pytest.mark.parametrize(
    "key", ["mlflow_approval.prod", "mlflow-approvals.prod", "MLflow.Approvals"]
)
def test_a_tag_that_imitates_the_state_is_refused(bench: ClockBench, key: str) -> None:
    version = bench.version()
    with signed_in("bob"), pytest.raises(errors.ReservedTagError, match="could be taken for"):
        bench.store.set_model_version_tag("gov-a", version, ModelVersionTag(key, "APPLIED 2/2"))


@pytest.mark.parametrize(
    "key", ["approval.status", "approval_status", "approved", "approval_request_id", "approvals"]
)
def test_other_tools_tags_are_written(bench: ClockBench, key: str) -> None:
    version = bench.version()
    with signed_in("erin"):
        bench.store.set_model_version_tag("gov-a", version, ModelVersionTag(key, "yes"))
    assert bench.store.get_model_version("gov-a", version).tags[key] == "yes"


def test_what_no_policy_governs_is_as_in_stock(bench: ClockBench) -> None:
    version = bench.version("free")
    with signed_in("erin"):
        tag = ModelVersionTag("approval.approve", "yes")
        bench.store.set_model_version_tag("free", version, tag)
    assert bench.store.get_model_version("free", version).tags["approval.approve"] == "yes"


@given(st.text(max_size=300))
def test_any_name_is_judged_quickly_and_no_reserved_one_is_a_misspelling(name: str) -> None:
    begun = time.perf_counter()
    meant, imitates = meant_command(name), imitates_projection(name)
    assert time.perf_counter() - begun < 0.5
    assert not (is_reserved_tag(name) and (meant or imitates))
    assert meant is None or meant.removeprefix("approvals.") in COMMANDS
