"""A policy tried on what has happened: what would it have refused? Pure.

The log knows every approved change, who had voted, and each check tag that a policy asked for then.
What it does not know, such as a run's metrics of that day, is reported as not knowable, never as
passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlflow_plugins_pack.approvals import freeze, judgement
from mlflow_plugins_pack.approvals.checks import Facts, Subject, TagCheck
from mlflow_plugins_pack.approvals.names import Target
from mlflow_plugins_pack.approvals.policy import Policy, PolicyRule
from mlflow_plugins_pack.approvals.workflow import tally


@dataclass(frozen=True)
class SeenTag:
    """A check tag as it was written."""

    value: str | None
    writer: str | None
    ts: int


@dataclass(frozen=True)
class PastAct:
    """An approved change that was made.

    Attributes:
        workspace: Of the model.
        name: Of the model.
        version: Its version.
        target: What it became, or ceased to be.
        action: ``promote`` or ``demote``.
        ts: When, in milliseconds since the epoch.
        actor: By whom.
        requester: Who had asked.
        creator: Who had registered the version, if that is known.
        run_user: Whom its run named.
        approvals: Who had approved.
        basis: ``rollback`` and the like; None for votes.
        tags: Check tags as last written before, as far as the log knows.
    """

    workspace: str
    name: str
    version: int
    target: Target
    action: str
    ts: int
    actor: str | None
    requester: str
    creator: str | None
    run_user: str | None
    approvals: tuple[str, ...]
    basis: str | None
    tags: Mapping[str, SeenTag]


@dataclass(frozen=True)
class Verdict:
    """What the policy would have said.

    Attributes:
        act: About what.
        outcome: ``allowed``, ``refused``, ``unprotected``, or ``unknown``.
        policy: The policy that decides.
        reasons: Why it is refused, or what cannot be known.
    """

    act: PastAct
    outcome: str
    policy: str | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Vote:
    approver: str
    verdict: str = "approve"


def try_out(policy: Policy, acts: Iterable[PastAct]) -> list[Verdict]:
    """Judge past changes by a policy, in their order."""
    return [_judge(policy, act) for act in acts]


def _judge(policy: Policy, act: PastAct) -> Verdict:
    rules = policy.rules_that_may(act.workspace, act.name)
    rule = next((rule for rule in rules if rule.protected(act.target)), None)
    if rule is None:
        return Verdict(act, "unprotected", None, ())
    refused, unknown = _problems(policy, rule, act)
    outcome = "refused" if refused else "unknown" if unknown else "allowed"
    return Verdict(act, outcome, rule.name, (*refused, *unknown))


def _problems(policy: Policy, rule: PolicyRule, act: PastAct) -> tuple[list[str], list[str]]:
    if act.basis == "the glass was broken":
        if policy.may_break_glass(rule, act.actor):
            return [], []
        return [f"'{act.actor}' may not break the glass"], []
    if act.basis is not None and act.basis.startswith("inherited"):
        return [], ["whether the approval is inherited"]
    is_rollback = act.basis == "rollback" and rule.rollback is not None
    refused: list[str] = []
    unknown: list[str] = []
    needed = policy.rollback_rules(rule) if is_rollback else policy.rules_of(rule, act.action)
    votes = [_Vote(approver) for approver in act.approvals]
    count = tally(needed, judgement.approvers(policy.defaults, act, votes))
    if not count.is_complete:
        refused.append(f"{count.have} of {count.need} approvals ({count})")
    if is_rollback:
        return refused, unknown
    if (window := freeze.closed(rule.freeze, act.ts)) is not None:
        refused.append(f"frozen: {window.cron} ({window.tz})")
    if act.action == "demote":
        return refused, unknown
    if rule.from_ is not None:
        unknown.append("where it came from")
    for check in rule.checks:
        if not isinstance(check, TagCheck):
            unknown.append(f"the check of {next(iter(check.model_dump(exclude_defaults=True)))}")
        elif (seen := act.tags.get(check.tag)) is None:
            unknown.append(f"the tag '{check.tag}'")
        else:
            refused += _lacking(policy, check, act, seen)
    return refused, unknown


def _lacking(policy: Policy, check: TagCheck, act: PastAct, seen: SeenTag) -> list[str]:
    """Ask the check what it asks before a change, of how things were then."""
    then = Subject(act.version, {check.tag: seen.value}, Facts(), lambda _: seen)
    return check.problems(then, policy.is_writer, act.ts)
