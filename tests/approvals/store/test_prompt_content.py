"""A prompt's text is what is approved; a model that becomes a prompt would have another content."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.prompt.constants import IS_PROMPT_TAG_KEY, PROMPT_TEXT_TAG_KEY

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.approvals.reports import request_lists
from tests.approvals.support.bench import ClockBench, refused
from tests.support.acting import signed_in

RULE = "    approvals: [{group: leads, count: 1}]\n"
CONSUME = '    consume: {principals: ["svc"], require: approved}\n'


@pytest.fixture
def both(bench: ClockBench) -> ClockBench:
    """Under one policy for prompts and models of the same names."""
    bench.edit('match: {models: ["gov-*"]}', 'match: {models: ["gov-*"], prompts: ["gov-*"]}')
    bench.edit(RULE, RULE + CONSUME)
    return bench


def write_text(bench: ClockBench, version: int, text: str = "evil words") -> None:
    with signed_in("eve"):
        tag = ModelVersionTag(PROMPT_TEXT_TAG_KEY, text)
        bench.store.set_model_version_tag("gov-a", version, tag)


def flag(bench: ClockBench, value: str = "true") -> None:
    with signed_in("eve"):
        tag = RegisteredModelTag(IS_PROMPT_TAG_KEY, value)
        bench.store.set_registered_model_tag("gov-a", tag)


def unflag(bench: ClockBench) -> None:
    with signed_in("eve"):
        bench.store.delete_registered_model_tag("gov-a", IS_PROMPT_TAG_KEY)


STATES: dict[str, Callable[[ClockBench], object]] = {
    "waiting": lambda b: b.say("erin", "request", b.version()),
    "approved": lambda b: [b.say(*who, 1) for who in (("erin", "request"), ("bob", "approve"))],
    "serving": lambda b: b.promote("gov-a", 1),
    "in a stage": lambda b: b.promote("gov-a", 1, "stage:Production"),
    "replaced": lambda b: [b.promote("gov-a", 1), b.promoted("gov-a")],
}


@pytest.mark.parametrize("state", STATES)
def test_what_was_approved_as_a_model_becomes_no_prompt(both: ClockBench, state: str) -> None:
    if state != "waiting":
        both.version()
    STATES[state](both)
    write_text(both, 1)  # an ordinary tag, as long as it is a model
    refused(errors.ReservedTagError, lambda: flag(both))
    assert both.store.get_registered_model("gov-a")._is_prompt() is False


@pytest.mark.parametrize("change", [unflag, lambda b: flag(b, "false")], ids=["deleted", "false"])
def test_what_was_approved_as_a_prompt_becomes_no_model(
    both: ClockBench, change: Callable[[ClockBench], None]
) -> None:
    both.promoted("gov-a", prompt=True)
    refused(errors.ReservedTagError, lambda: change(both))
    assert both.store.get_registered_model("gov-a")._is_prompt() is True


def test_what_nobody_asked_about_may_become_a_prompt(both: ClockBench) -> None:
    version = both.version()
    flag(both)
    unflag(both)
    both.promote("gov-a", version)
    assert both.holder() == version


def test_the_text_of_a_replaced_version_stays(both: ClockBench) -> None:
    """It may be gone back to, and consumers of approved versions load it by its number."""
    one = both.promoted("gov-a", prompt=True)
    both.promoted("gov-a", prompt=True)
    refused(errors.ContentLockedError, lambda: write_text(both, one))
    refused(errors.ContentLockedError, lambda: delete_text(both, one))
    with signed_in("svc"):
        assert both.store.get_model_version("gov-a", one).tags[PROMPT_TEXT_TAG_KEY] == "kind words"


def delete_text(bench: ClockBench, version: int) -> None:
    with signed_in("eve"):
        bench.store.delete_model_version_tag("gov-a", version, PROMPT_TEXT_TAG_KEY)


def test_consumers_get_no_text_that_was_changed_behind_the_registry(both: ClockBench) -> None:
    one = both.promoted("gov-a", prompt=True)
    both.run(
        "UPDATE model_version_tags SET value = 'evil' WHERE key = :key", key=PROMPT_TEXT_TAG_KEY
    )
    with signed_in("svc"):
        for read in (
            lambda: both.store.get_model_version("gov-a", one),
            lambda: both.store.get_model_version_by_alias("gov-a", "prod"),
        ):
            refused(errors.ApprovalRequiredError, read)


OTHER = """
  - name: words
    match: {prompts: ["gov-*"]}
    targets: {aliases: [words]}
    approvals: [{group: risk, count: 1}]
    consume: {principals: ["svc"], require: approved}
"""


@pytest.mark.parametrize("first", ["prod", "words"])
def test_consumers_of_a_prompt_that_is_a_model_get_what_both_policies_approved(
    bench: ClockBench, first: str
) -> None:
    bench.edit(RULE, RULE + CONSUME + OTHER)
    with signed_in("alice"):
        flags = [RegisteredModelTag(IS_PROMPT_TAG_KEY, "true")]
        bench.store.create_registered_model("gov-a", flags)
    version = bench.version()
    voters = {"prod": "bob", "words": "dave"}
    for alias in (first, *(voters.keys() - {first})):
        with signed_in("svc"):
            refused(
                errors.ApprovalRequiredError,
                lambda: bench.store.get_model_version("gov-a", version),
            )
        bench.say("erin", "request", version, alias)
        bench.say(voters[alias], "approve", version, alias)
        with signed_in("erin"):
            bench.store.set_registered_model_alias("gov-a", alias, version)
    with signed_in("svc"):
        assert int(bench.store.get_model_version("gov-a", version).version) == version


SAME_TARGET = """
  - name: words
    match: {prompts: ["*"]}
    targets: {aliases: [prod]}
    approvals: [{group: risk, count: 1}]
"""


def test_a_request_for_a_model_waits_for_the_approvers_of_models(bench: ClockBench) -> None:
    bench.edit(RULE, RULE + SAME_TARGET)
    bench.say("erin", "request", bench.version())

    def waits_for(user: str) -> int:
        policy = bench.store.governance.policy()

        def read(session: Any) -> list[Any]:
            return request_lists.waiting(
                session, policy, workspace="default", user=user, now_ms=bench.now
            )

        return len(bench.store._transactions.read(read))

    assert (waits_for("bob"), waits_for("dave")) == (1, 0)
