"""Explains what a policy asks for a model's targets; pure."""

from __future__ import annotations

from typing import Any

from mlflow_plugins_pack.approvals.domain.messages import moment
from mlflow_plugins_pack.approvals.domain.request_states import Rule
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.policy import freeze_windows
from mlflow_plugins_pack.approvals.policy.models import Policy, PolicyRule
from mlflow_plugins_pack.settings import format_duration


def explain(
    policy: Policy,
    workspace: str,
    name: str,
    *,
    is_prompt: bool,
    now_ms: int,
    target: Target | None = None,
    user: str | None = None,
) -> list[dict[str, Any]]:
    """Return what each protected target of a model needs.

    Args:
        policy: In force, or to be.
        workspace: The model's.
        name: The model or prompt.
        is_prompt: Which of the two.
        now_ms: Milliseconds since the epoch; freezes depend on it.
        target: Only about this one; None: about all.
        user: A person whose rights are explained too.

    Returns:
        For each target the policy that decides and what it asks, as texts; empty where nothing is
        protected.
    """
    rows: list[dict[str, Any]] = []
    told: set[Target] = set()
    for rule in policy.rules_for(workspace, name, is_prompt=is_prompt):
        for protected in rule.all_targets():
            wanted = target is None or rule.protected(target) == protected
            if wanted and protected not in told:
                told.add(protected)
                rows.append(_row(policy, rule, protected, now_ms, user))
    return rows


def _row(
    policy: Policy, rule: PolicyRule, target: Target, now_ms: int, user: str | None
) -> dict[str, Any]:
    needs = policy.promote_rules(rule)
    row: dict[str, Any] = {
        "target": target.tag,
        "policy": rule.name,
        "promote": _people(needs),
        "demote": _people(policy.demote_rules(rule)),
    }
    if rule.from_ is not None:
        places = [f"stage {s}" for s in rule.from_.stages] + list(rule.from_.aliases)
        row["from"] = " or ".join(places)
    if rule.checks:
        row["checks"] = [check.describe() for check in rule.checks]
    if rule.rollback is not None:
        row["rollback"] = (
            f"{_people(policy.rollback_rules(rule))}; "
            f"not longer than {format_duration(rule.rollback.within)} after it was replaced"
        )
    if rule.freeze:
        closed = freeze_windows.closed(rule.freeze, now_ms)
        row["freeze"] = [f"{window.cron} ({window.tz})" for window in rule.freeze]
        until = closed.reopens(now_ms) if closed else None
        row["frozen"] = "no" if closed is None else f"until {moment(until)}" if until else "yes"
    if rule.break_glass is not None:
        within = format_duration(rule.break_glass.expires_after)
        row["break_glass"] = (
            f"any member of {rule.break_glass.group}; reviewed by "
            f"{_people(policy.review_rules(rule))} within {within}"
        )
    if rule.consume is not None:
        row["consume"] = f"{', '.join(rule.consume.principals)}: approved versions only"
    if rule.sources_under is not None:
        row["sources_under"] = rule.sources_under
    if rule.require is not None:
        row["require"] = rule.require
    if rule.inherit_from:
        row["inherit_from"] = rule.inherit_from
    if attested := [
        f"in place of {part.count} of {part.group}: {part.attested_by.describe()}"
        for part in rule.approvals
        if part.attested_by is not None
    ]:
        row["attested_by"] = attested
    row["terms"] = _terms(policy)
    row["no_vote"] = _no_vote(policy)
    if user is not None:
        row["as"] = _as(policy, rule, user)
    return row


def _terms(policy: Policy) -> str:
    defaults = policy.defaults
    by = "the last approval" if defaults.apply == "auto" else "the stock call"
    return (
        f"a request waits {format_duration(defaults.expires_after)}; an approval is good for "
        f"{format_duration(defaults.approval_valid_for)}; {by} makes the change; stale when "
        f"{', '.join(defaults.dismiss_on)} change"
    )


def _no_vote(policy: Policy) -> str:
    defaults = policy.defaults
    who = [] if defaults.allow_self_approval else ["who asked"]
    if defaults.prevent_creator_approval:
        who.append("who registered the version")
    if defaults.prevent_run_user_approval:
        who.append("in whose name its run was created")
    return ", ".join(who) or "no one"


def _people(rules: tuple[Rule, ...]) -> str:
    asked = [
        f"{rule.count} of {rule.group} ({', '.join(sorted(rule.members)) or 'empty'})"
        for rule in rules
        if rule.count
    ]
    return " and ".join(asked) or "none: any signed-in user may"


def _as(policy: Policy, rule: PolicyRule, user: str) -> str:
    groups = [r.group for r in policy.promote_rules(rule) if user in r.members]
    says = [f"{user} may ask"]
    if groups:
        says.append(f"may approve, for {' or '.join(groups)}, what others ask for and made")
    if policy.may_break_glass(rule, user):
        says.append("may use break-glass")
    if policy.is_consumer(rule, user):
        says.append("gets approved versions only")
    tags = [
        check.watched_tag
        for check in rule.checks
        if check.watched_tag and check.principals and policy.is_writer(check, user)
    ]
    if tags:
        says.append(f"may set the tag {', '.join(tags)}")
    return "; ".join(says)
