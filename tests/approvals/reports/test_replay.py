"""What a policy would have said of changes that were made, as far as a log can tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlflow_plugins_pack.approvals.domain.basis import Basis, BasisKind
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.policy.models import Policy
from mlflow_plugins_pack.approvals.policy.parse import parse_policy
from mlflow_plugins_pack.approvals.reports.replay import (
    AppliedChange,
    AppliedVote,
    KnownClaims,
    SeenTag,
    replay,
)

HOUR = 3_600_000
START = 1_800_000_000_000


def policy(*lines: str, groups: str = "{leads: [bob, carol]}", defaults: str = "{}") -> Policy:
    text = f"""
version: 1
identity: {{sources: [oidc]}}
groups: {groups}
defaults: {defaults}
policies:
  - name: prod
    match: {{models: ["gov-*"]}}
    targets: {{aliases: [prod]}}
    approvals: [{{group: leads, count: 1}}]
"""
    return parse_policy(text + "".join(f"    {line}\n" for line in lines), "test")


def act(version: int = 1, *, at: int = 0, **values: Any) -> AppliedChange:
    """A promotion that bob approved at once."""
    ts = START + at
    made = AppliedChange(
        workspace="default",
        name="gov-a",
        version=version,
        uid=f"uid-{version}",
        target=Target("alias", "prod"),
        action="promote",
        ts=ts,
        actor="erin",
        requester="erin",
        requested_at=ts,
        creator="alice",
        run_user=None,
        votes=(AppliedVote("bob", ts),),
        digest=f"sha256:{version}",
        basis=Basis(),
        tags={},
        held=frozenset(),
        policy=None,
    )
    return replace(made, **values)


def told(found: Policy, *acts: AppliedChange, known_claims: Any = None) -> list[tuple[str, str]]:
    return [(v.outcome, "; ".join(v.reasons)) for v in replay(found, acts, known_claims)]


ALLOWED = ("allowed", "")
NOBODY = ("refused", "0 of 1 approvals (leads 0/1)")


def test_going_back_counts_as_that_for_as_long_as_this_policy_says() -> None:
    back = act(1, at=5 * HOUR, votes=(), basis=Basis())
    acts = (act(1), act(2, at=HOUR), back)
    assert told(policy(), *acts) == [ALLOWED, ALLOWED, NOBODY]
    # It had ceased to be the holder four hours before.
    assert told(policy("rollback: {approvals: 0, within: 4h}"), *acts) == [ALLOWED] * 3
    assert told(policy("rollback: {approvals: 0, within: 3h}"), *acts)[2] == NOBODY
    assert told(policy("rollback: {approvals: 1, within: 4h}"), *acts)[2] == (
        "refused",
        "0 of 1 approvals (leads 0/1)",
    )
    # A recorded rollback is not one under a policy without rollbacks, nor with other bytes.
    called = (*acts[:2], replace(back, basis=Basis(BasisKind.ROLLBACK)))
    assert told(policy(), *called)[2] == NOBODY
    changed = (*acts[:2], replace(back, digest="sha256:other"))
    assert told(policy("rollback: {approvals: 0, within: 4h}"), *changed)[2] == NOBODY
    again = (*acts[:2], replace(back, uid="made again"))
    assert told(policy("rollback: {approvals: 0, within: 4h}"), *again)[2] == NOBODY
    # Taken away and set again.
    away = act(1, at=HOUR, action="demote")
    acts = (act(1), away, replace(back, ts=START + 2 * HOUR, requested_at=START + 2 * HOUR))
    assert told(policy("rollback: {approvals: 0, within: 1h}"), *acts) == [ALLOWED] * 3


@pytest.mark.parametrize(
    ("defaults", "expected"),
    [
        ("{}", ALLOWED),
        ("{expires_after: 3h, approval_valid_for: 5h}", ALLOWED),
        (
            "{expires_after: 2h}",
            ("refused", "the request waited longer than 2h"),
        ),
        (
            "{approval_valid_for: 4h}",
            ("refused", "the approval was older than 4h"),
        ),
    ],
)
def test_requests_and_approvals_that_would_have_run_out(defaults: str, expected: Any) -> None:
    votes = (AppliedVote("bob", START + 2 * HOUR), AppliedVote("carol", START + 3 * HOUR))
    late = act(at=6 * HOUR, requested_at=START, votes=votes)
    assert told(policy(defaults=defaults), late) == [expected]


def test_the_vote_that_decides_is_the_one_this_policy_needs() -> None:
    votes = (AppliedVote("bob", START), AppliedVote("carol", START + 3 * HOUR))
    late = act(at=3 * HOUR, requested_at=START, votes=votes)
    two = policy(defaults="{expires_after: 2h}")
    assert told(two, late) == [ALLOWED]
    rules = two.file.policies[0].approvals[0].model_copy(update={"count": 2})
    rule = two.file.policies[0].model_copy(update={"approvals": [rules]})
    two = replace(two, file=two.file.model_copy(update={"policies": [rule]}))
    assert told(two, late)[0] == ("refused", "the request waited longer than 2h")


def test_who_was_in_a_group_by_role_or_claim() -> None:
    by_role = policy(groups='{leads: ["role:lead", carol]}')
    assert told(by_role, act()) == [("unknown", "who had role:lead")]
    assert told(by_role, act(votes=(AppliedVote("carol", START),))) == [ALLOWED]
    assert told(by_role, act(votes=())) == [NOBODY]

    by_claim = policy(groups='{leads: ["claim:lead"]}')
    assert told(by_claim, act()) == [("unknown", "who had claim:lead")]
    for claims, since, expected in (
        ({"lead"}, START, ALLOWED),
        ({"other"}, START, NOBODY),
        # They were other claims then.
        ({"lead"}, START + 1, ("unknown", "who had claim:lead")),
        ({"other"}, START + 1, ("unknown", "who had claim:lead")),
    ):
        known_claims = {"bob": KnownClaims(frozenset(claims), since)}
        assert told(by_claim, act(), known_claims=known_claims) == [expected]
    writers = policy(
        'checks: [{tag: tests, equals: ok, writers: ["group:ci"]}]',
        groups='{leads: [bob], ci: ["role:ci"]}',
    )
    tested = act(tags={"tests": SeenTag("ok", "svc", START)})
    assert told(writers, tested) == [("unknown", "who had role:ci")]


def test_a_break_glass_is_a_rollback_target_only_after_its_review() -> None:
    back = act(1, at=2 * HOUR, votes=())
    broken = act(1, basis=Basis(BasisKind.BREAK_GLASS), votes=(), actor="zoe")
    acts = (broken, act(2, at=HOUR), back)
    found = policy("rollback: {approvals: 0, within: 4h}", "break_glass: {group: leads}")
    assert told(found, *acts)[2] == NOBODY
    assert told(found, replace(broken, is_reviewed=True), *acts[1:])[2] == ALLOWED


def test_what_was_taken_over_from_a_copy() -> None:
    basis = Basis(BasisKind.INHERITED, "gov-lab", 7)
    source = act(7, name="gov-lab", digest="sha256:1")
    copy = act(1, at=HOUR, votes=(), basis=basis)
    trusting = policy('inherit_from: ["gov-lab"]')
    assert told(trusting, source, copy) == [ALLOWED, ALLOWED]
    doubt = ("unknown", "whether models:/gov-lab/7 was approved")
    assert told(trusting, copy) == [doubt]
    assert told(trusting, replace(source, digest="sha256:2"), copy)[1] == doubt
    taken_away = act(7, name="gov-lab", at=1, action="demote")
    assert told(trusting, source, taken_away, copy)[2] == doubt
    assert told(policy(), source, copy)[1] == NOBODY


def test_a_prompts_policy_is_not_asked_about_a_model() -> None:
    text = policy().text.replace("models:", "prompts:")
    prompts = parse_policy(text, "test")
    assert told(prompts, act(is_prompt=False)) == [("unprotected", "")]
    assert told(prompts, act(is_prompt=True)) == [ALLOWED]
