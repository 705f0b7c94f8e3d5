"""Replays past changes under another policy: what would it have refused? Pure.

The log knows every approved change: who had voted and when, what else the version held by approval,
and each check tag that a policy asked for then. What it does not know, such as a run's metrics of
that day, is reported as not knowable, never as passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mlflow_plugins_pack.approvals.domain.basis import Basis, BasisKind
from mlflow_plugins_pack.approvals.domain.matching import matches
from mlflow_plugins_pack.approvals.domain.request_states import Rule, tally
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.policy import eligibility, freeze_windows
from mlflow_plugins_pack.approvals.policy.facts import Facts, Subject
from mlflow_plugins_pack.approvals.policy.models import Policy, PolicyRule
from mlflow_plugins_pack.approvals.policy.origin import Origin
from mlflow_plugins_pack.identity.roles import CLAIM, ROLE
from mlflow_plugins_pack.settings import format_duration


@dataclass(frozen=True)
class SeenTag:
    """A check tag as it was written."""

    value: str | None
    writer: str | None
    set_at: int


@dataclass(frozen=True)
class AppliedVote:
    """An approval as it stood when the change was made."""

    approver: str
    ts: int
    verdict: str = "approve"


@dataclass(frozen=True)
class AppliedChange:
    """An approved change that was made.

    Attributes:
        workspace: The model's workspace.
        name: The model's name.
        version: The version's number.
        uid: The version's identity, which a version of a re-created model does not share.
        target: The target that it gained or lost.
        action: ``promote`` or ``demote``.
        ts: When, in milliseconds since the epoch.
        actor: By whom.
        requester: Who had asked.
        requested_at: When, likewise.
        creator: Who had registered the version, if that is known.
        run_user: Whom its run named.
        votes: Who had approved, and when.
        digest: The digest of the content.
        basis: What the approval rested on.
        tags: Check tags as last written before, as far as the log knows.
        held: What else the version was by approval, just before.
        policy: In force then, where its text was kept.
        is_reviewed: For break-glass, whether its review was approved.
        is_prompt: Whether it is a prompt; True as well where that is unknown by now.
        has_files: Whether it is a model, likewise.
    """

    workspace: str
    name: str
    version: int
    uid: str
    target: Target
    action: str
    ts: int
    actor: str | None
    requester: str
    requested_at: int
    creator: str | None
    run_user: str | None
    votes: tuple[AppliedVote, ...]
    digest: str | None
    basis: Basis
    tags: Mapping[str, SeenTag]
    held: frozenset[Target]
    policy: Policy | None
    is_reviewed: bool = False
    is_prompt: bool = True
    has_files: bool = True

    @property
    def is_approval(self) -> bool:
        """People approved it; unreviewed break-glass is not a rollback target."""
        is_emergency = self.basis.kind is BasisKind.BREAK_GLASS
        return self.action == "promote" and (not is_emergency or self.is_reviewed)


@dataclass(frozen=True)
class KnownClaims:
    """A person's claims as last seen, which they had since some time."""

    claims: frozenset[str]
    since: int


@dataclass(frozen=True)
class Verdict:
    """What the policy would have said.

    Attributes:
        change: About what.
        outcome: ``allowed``, ``refused``, ``unprotected``, or ``unknown``.
        policy: The policy that decides.
        reasons: Why it is refused, or what cannot be known.
    """

    change: AppliedChange
    outcome: str
    policy: str | None
    reasons: tuple[str, ...]


def replay(
    policy: Policy,
    changes: Iterable[AppliedChange],
    known_claims: Mapping[str, KnownClaims] | None = None,
) -> list[Verdict]:
    """Judge past changes by a policy.

    Args:
        policy: To be tried.
        changes: All of them, oldest first: what is a rollback depends on those before.
        known_claims: What is known of people's claims.

    Returns:
        The verdicts, in the same order.
    """
    verdicts: list[Verdict] = []
    before: list[AppliedChange] = []
    for change in changes:
        verdicts.append(_Replay(policy, change, before, known_claims or {}).verdict())
        before.append(change)
    return verdicts


def not_judged(policy: Policy) -> list[str]:
    """Return the parts of a policy that the log cannot answer for."""
    kinds = sorted(
        {
            check.kind
            for rule in policy.file.policies
            for check in rule.checks
            if not check.is_logged
        }
    )
    found = [f"what the checks ({', '.join(kinds)}) would have read that day"] if kinds else []
    roles = sorted(_members(policy, ROLE))
    if roles:
        found.append(f"who had {', '.join(roles)} then")
    claims = sorted(_members(policy, CLAIM))
    if claims:
        found.append(f"who had {', '.join(claims)} then, where that has changed since")
    if any(rule.consume is not None for rule in policy.file.policies):
        found.append("who would have been refused a read (consume)")
    return found


def _members(policy: Policy, prefix: str) -> set[str]:
    groups = policy.file.groups.values()
    return {member for members in groups for member in members if member.startswith(prefix)}


class _Replay:
    """One change before one policy."""

    def __init__(
        self,
        policy: Policy,
        change: AppliedChange,
        before: Sequence[AppliedChange],
        known_claims: Mapping[str, KnownClaims],
    ) -> None:
        self._policy, self._change = policy, change
        self._before = before
        self._known_claims = known_claims

    def verdict(self) -> Verdict:
        change = self._change
        rules = self._policy.rules_about(
            change.workspace, change.name, is_prompt=change.is_prompt, has_files=change.has_files
        )
        rule = next((rule for rule in rules if rule.protected(change.target)), None)
        if rule is None:
            return Verdict(change, "unprotected", None, ())
        # With fewer people in the groups a policy only refuses more: what it says of those who are
        # surely in them and of those who may have been brackets what it would have said.
        surely, perhaps = (self._with_people(doubtful=doubtful) for doubtful in (False, True))
        refused, unknown = self._problems(surely, rule)
        if refused and not self._problems(perhaps, rule)[0]:
            asked = sorted(_members(self._policy, ROLE) | _members(self._policy, CLAIM))
            refused, unknown = [], [f"who had {', '.join(asked)}", *unknown]
        outcome = "refused" if refused else "unknown" if unknown else "allowed"
        return Verdict(change, outcome, rule.name, (*refused, *unknown))

    def _with_people(self, *, doubtful: bool) -> Policy:
        """Return the policy with people for roles and claims, those in doubt included or not."""
        policy, change = self._policy, self._change
        people = {vote.approver for vote in change.votes} | {
            tag.writer for tag in change.tags.values()
        }
        people |= {change.actor}

        def has(member: str, person: str) -> bool:
            known = self._known_claims.get(person)
            if member.startswith(CLAIM) and known is not None and known.since <= change.ts:
                return member.removeprefix(CLAIM) in known.claims
            return doubtful

        groups = {
            name: [
                person
                for member in members
                for person in (
                    [person for person in people if person is not None and has(member, person)]
                    if member.startswith((ROLE, CLAIM))
                    else [member]
                )
            ]
            for name, members in policy.file.groups.items()
        }
        return replace(policy, file=policy.file.model_copy(update={"groups": groups}))

    def _problems(self, policy: Policy, rule: PolicyRule) -> tuple[list[str], list[str]]:
        """Return why it is refused, and what cannot be known."""
        change = self._change
        if change.basis.kind is BasisKind.BREAK_GLASS:
            if policy.may_break_glass(rule, change.actor):
                return [], []
            return [f"'{change.actor}' may not use break-glass"], []
        if (key := change.basis.attested_by) is not None:
            rule = rule.without_approvals(
                lambda part: part.attested_by is not None and key in part.attested_by.keys
            )
        needed = policy.rules_of(rule, change.action)
        is_rollback = change.action == "promote" and self._is_rollback(rule)
        unknown: list[str] = []
        if is_rollback:
            needed = policy.rollback_rules(rule)
        elif (source := self._inherits(rule)) is not None:
            needed = ()
            if not self._was_approved(*source):
                unknown.append(f"whether models:/{source[0]}/{source[1]} was approved")
        refused = self._lacking_votes(policy, needed)
        if is_rollback:
            return refused, unknown
        if (window := freeze_windows.closed(rule.freeze, change.ts)) is not None:
            refused.append(f"frozen: {window.cron} ({window.tz})")
        if change.action == "demote":
            return refused, unknown
        if rule.from_ is not None:
            for problem, is_known in self._displaced(rule.from_):
                (refused if is_known else unknown).append(problem)
        for check in rule.checks:
            if (gap := check.unlogged(change.tags)) is not None:
                unknown.append(gap)
            else:
                # What the check asks before a change, of how things were then.
                values = {key: seen.value for key, seen in change.tags.items()}
                then = Subject(change.version, values, Facts(), change.tags.get)
                refused += check.problems(then, policy.is_writer, change.ts)
        return refused, unknown

    def _lacking_votes(self, policy: Policy, needed: tuple[Rule, ...]) -> list[str]:
        """Return what the votes lack, in number or because they came too late."""
        change, defaults = self._change, policy.defaults
        votes = sorted(change.votes, key=lambda vote: vote.ts)
        approved_at = None
        for count in range(len(votes) + 1):
            counted = tally(needed, eligibility.approvers(defaults, change, votes[:count]))
            if counted.is_complete:
                approved_at = votes[count - 1].ts if count else change.requested_at
                break
        else:
            return [f"{counted.have} of {counted.need} approvals ({counted})"]
        found = []
        if approved_at - change.requested_at >= defaults.expires_after * 1000:
            found.append(
                f"the request waited longer than {format_duration(defaults.expires_after)}"
            )
        if change.ts - approved_at >= defaults.approval_valid_for * 1000:
            found.append(
                f"the approval was older than {format_duration(defaults.approval_valid_for)}"
            )
        return found

    def _of_target(self, name: str) -> Iterator[AppliedChange]:
        change = self._change
        for past in self._before:
            if (past.workspace, past.name, past.target) == (change.workspace, name, change.target):
                yield past

    def _is_rollback(self, rule: PolicyRule) -> bool:
        """Return whether the version had held the target recently, with the same bytes."""
        change, held, until = self._change, None, None
        if rule.rollback is None:
            return False
        for past in self._of_target(change.name):
            if held is not None and until is None:
                until = past.ts
            if past.uid == change.uid and past.is_approval:
                held, until = past, None
        if held is None or change.digest is None or held.digest != change.digest:
            return False
        return change.ts - (held.ts if until is None else until) <= rule.rollback.within * 1000

    def _inherits(self, rule: PolicyRule) -> tuple[str, int] | None:
        """Return the version that an approval was taken over from, if this policy trusts it."""
        basis = self._change.basis
        if basis.kind is not BasisKind.INHERITED or basis.model is None or basis.version is None:
            return None
        if not any(matches(glob, basis.model) for glob in rule.inherit_from):
            return None
        return basis.model, basis.version

    def _was_approved(self, name: str, version: int) -> bool:
        approved = None
        for past in self._of_target(name):
            if past.version == version:
                approved = past.digest if past.is_approval else None
        return approved is not None and approved == self._change.digest

    def _displaced(self, wanted: Origin) -> Iterator[tuple[str, bool]]:
        """Yield where the version was not, and whether the log would have known of it there."""
        change = self._change
        problems = wanted.problems((target.kind, target.name) for target in change.held)
        places = [Target("stage", stage) for stage in wanted.stages]
        places += [Target("alias", alias) for alias in wanted.aliases]
        rules = change.policy.rules_that_may(change.workspace, change.name) if change.policy else []
        free = [str(place) for place in places if not any(rule.protected(place) for rule in rules)]
        for problem in problems:
            if free:
                yield f"whether it was {' or '.join(free)}, which nothing protected then", False
            else:
                yield problem, True
