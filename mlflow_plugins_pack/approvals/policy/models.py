"""The policy as strict models, and what it asks of whom; pure.

A key that nothing would enforce is an error, never ignored: a policy that looks stricter than it
is would be worse than no policy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from pydantic import Field, field_validator

from mlflow_plugins_pack.approvals.domain.matching import fold, matches
from mlflow_plugins_pack.approvals.domain.request_states import Rule
from mlflow_plugins_pack.approvals.domain.targets import Target, check_stages, parse_target
from mlflow_plugins_pack.approvals.policy.attested import AttestedBy
from mlflow_plugins_pack.approvals.policy.checks import AnyCheck, Check
from mlflow_plugins_pack.approvals.policy.freeze_windows import Freeze
from mlflow_plugins_pack.approvals.policy.notifications import Events
from mlflow_plugins_pack.approvals.policy.origin import Origin
from mlflow_plugins_pack.identity.settings import Identity
from mlflow_plugins_pack.strict_model import Name, Seconds, StrictModel

MAX_ALIAS_LENGTH = 200
"""Longest protected alias: its projection tag must fit MLflow's 250 characters for a key."""


class Defaults(StrictModel):
    """Settings every policy shares."""

    expires_after: Seconds = 14 * 86400
    approval_valid_for: Seconds = 30 * 86400
    allow_self_approval: bool = False
    prevent_creator_approval: bool = True
    prevent_run_user_approval: bool = True
    dismiss_on: list[Literal["artifacts", "tags", "source"]] = ["artifacts", "tags", "source"]
    apply: Literal["on_set", "auto"] = "on_set"

    @field_validator("dismiss_on")
    @classmethod
    def _always_bound(cls, value: list[str]) -> list[str]:
        if not {"artifacts", "source"} <= set(value):
            raise ValueError(
                "an approval is always bound to the bytes: keep 'artifacts' and 'source'"
            )
        return value


T = TypeVar("T")


class Match(StrictModel):
    """Which models and prompts a policy governs."""

    models: list[Name] = []
    prompts: list[Name] = []
    exclude: list[Name] = []
    workspaces: list[Name] = ["*"]


class Targets(StrictModel):
    """Which aliases and stages it protects."""

    aliases: list[Name] = []
    stages: list[str] = []

    @field_validator("aliases")
    @classmethod
    def _aliases(cls, value: list[str]) -> list[str]:
        for alias in value:
            if parse_target(f"alias:{alias}").name != alias or len(alias) > MAX_ALIAS_LENGTH:
                raise ValueError(f"an alias has at most {MAX_ALIAS_LENGTH} letters, digits, _ or -")
            if fold(alias) == "latest" or re.fullmatch(r"v\d+", fold(alias)):
                raise ValueError(
                    f"MLflow lets no alias be called {alias!r}; what consumers get by a version's "
                    "number or as the latest is for 'consume'"
                )
        if len({fold(alias) for alias in value}) != len(value):
            raise ValueError("two aliases differ only in case or form; name one")
        return value

    @field_validator("stages")
    @classmethod
    def _stages(cls, value: list[str]) -> list[str]:
        return check_stages(value)


class ApprovalRule(StrictModel):
    """The number of people of a group who must approve.

    Attributes:
        group: the group.
        count: the number of its people.
        attested_by: attestations of as many approvers at another server that count in their place.
    """

    group: Name
    count: int = Field(default=1, ge=0, le=100)
    attested_by: AttestedBy | None = None


class Demote(StrictModel):
    """What removing a protected alias or stage needs."""

    approvals: int = Field(ge=0, le=100)


class Rollback(StrictModel):
    """What going back to a version that held the target within a time needs."""

    approvals: int = Field(ge=0, le=100)
    within: Seconds


class Consume(StrictModel):
    """Consumers that get approved versions only."""

    principals: list[Name] = Field(min_length=1)
    require: Literal["approved"]


class PostReview(StrictModel):
    """The review that a break-glass change needs afterwards."""

    approvals: int = Field(default=1, ge=1, le=100)


class BreakGlass(StrictModel):
    """Promotion without approval in an emergency: by whom, and the review that must follow."""

    group: Name
    require_reason: bool = True
    expires_after: Seconds = 24 * 3600
    post_review: PostReview = PostReview()


class PolicyRule(StrictModel):
    """One policy of the file."""

    name: Name
    match: Match
    targets: Targets
    approvals: list[ApprovalRule]
    from_: Origin | None = Field(default=None, alias="from")
    checks: list[AnyCheck] = []
    demote: Demote | None = None
    rollback: Rollback | None = None
    freeze: list[Freeze] = []
    consume: Consume | None = None
    break_glass: BreakGlass | None = None
    inherit_from: list[Name] = []
    sources_under: list[Name] | None = None
    require: Literal["pinned"] | None = None

    def checks_of_tag(self, key: str) -> list[Check]:
        """Return the checks that read a version tag, however its key is spelled."""
        return [check for check in self.checks if check.watches(key)]

    def governs(self, workspace: str, name: str, *, is_prompt: bool) -> bool:
        """Return whether this policy governs the model or prompt."""
        patterns = self.match.prompts if is_prompt else self.match.models
        return (
            any(matches(pattern, name) for pattern in patterns)
            and not any(matches(pattern, name) for pattern in self.match.exclude)
            and any(matches(pattern, workspace) for pattern in self.match.workspaces)
        )

    def protected(self, target: Target) -> Target | None:
        """Return the target as this policy spells it, or None if it is free."""
        names = self.targets.aliases if target.kind == "alias" else self.targets.stages
        for name in names:
            if fold(name) == fold(target.name):
                return Target(target.kind, name)
        return None

    def and_also(self, other: PolicyRule) -> PolicyRule:
        """Return this policy with all that another one asks; what only one allows, neither does."""
        rollback = None
        if self.rollback is not None and other.rollback is not None:
            rollback = Rollback(
                approvals=max(self.rollback.approvals, other.rollback.approvals),
                within=min(self.rollback.within, other.rollback.within),
            )
        in_both = self.sources_under == other.sources_under
        return self.model_copy(
            update={
                "approvals": _union(self.approvals, other.approvals),
                "from_": self.from_.and_also(other.from_) if self.from_ else other.from_,
                "checks": _union(self.checks, other.checks),
                "freeze": _union(self.freeze, other.freeze),
                "demote": self.demote if self.demote == other.demote else None,
                "rollback": rollback,
                "break_glass": self.break_glass if self.break_glass == other.break_glass else None,
                "inherit_from": [name for name in self.inherit_from if name in other.inherit_from],
                "sources_under": self.sources_under if in_both else [],
                "require": self.require or other.require,
            }
        )

    def without_approvals(self, is_met: Callable[[ApprovalRule], bool]) -> PolicyRule:
        """Return this policy without the approvals that something else stands for."""
        left = [part for part in self.approvals if not is_met(part)]
        return self.model_copy(update={"approvals": left})

    def all_targets(self) -> Iterator[Target]:
        """Yield every protected target."""
        yield from (Target("alias", alias) for alias in self.targets.aliases)
        yield from (Target("stage", stage) for stage in self.targets.stages)


def _union(first: list[T], second: list[T]) -> list[T]:
    return [*first, *(one for one in second if one not in first)]


class PolicyFile(StrictModel):
    """The whole file, as written."""

    version: Literal[1]
    identity: Identity = Identity()
    groups: dict[Name, list[Name]] = {}
    defaults: Defaults = Defaults()
    policies: list[PolicyRule]
    events: Events = Events()


@dataclass(frozen=True)
class Policy:
    """A policy file in force.

    Attributes:
        file: its content.
        text: the text as written; stored with the requests made under it.
        sha256: the digest of the text.
    """

    file: PolicyFile
    text: str
    sha256: str

    @property
    def defaults(self) -> Defaults:
        """Settings every policy shares."""
        return self.file.defaults

    def rules_for(self, workspace: str, name: str, *, is_prompt: bool) -> list[PolicyRule]:
        """Return the policies that govern a model or prompt, in the file's order.

        The first that protects a target decides about it.
        """
        return [
            rule
            for rule in self.file.policies
            if rule.governs(workspace, name, is_prompt=is_prompt)
        ]

    def rules_about(
        self, workspace: str, name: str, *, is_prompt: bool, has_files: bool
    ) -> list[PolicyRule]:
        """Return the policies of a version: as a prompt, as a model, or as both."""
        kinds = [True] * is_prompt + [False] * has_files
        return [rule for kind in kinds for rule in self.rules_for(workspace, name, is_prompt=kind)]

    def protection(
        self, workspace: str, name: str, target: Target, *, is_prompt: bool, has_files: bool
    ) -> tuple[PolicyRule, Target] | None:
        """Return the policy that protects a target of a version, and its spelling of the target.

        What can be loaded as a prompt and as a model has to satisfy the policies of both.
        """
        found = []
        for kind in [True] * is_prompt + [False] * has_files:
            rules = self.rules_for(workspace, name, is_prompt=kind)
            protecting = ((rule, rule.protected(target)) for rule in rules)
            found += [(rule, target) for rule, target in protecting if target is not None][:1]
        if len(found) == 2 and found[0] != found[1]:
            (as_prompt, _), (as_model, protected) = found
            return as_model.and_also(as_prompt), protected
        return found[0] if found else None

    def rules_that_may(self, workspace: str, name: str) -> list[PolicyRule]:
        """Return the policies of a name, without knowing whether it is a prompt."""
        return self.rules_about(workspace, name, is_prompt=True, has_files=True)

    def may_govern(self, workspace: str, name: str) -> bool:
        """Return whether any policy could govern the name, as a model or as a prompt."""
        return bool(self.rules_that_may(workspace, name))

    def promote_rules(self, rule: PolicyRule) -> tuple[Rule, ...]:
        """Return the approvals that a promotion needs."""
        return tuple(
            Rule(part.group, part.count, frozenset(self.file.groups.get(part.group, ())))
            for part in rule.approvals
        )

    def demote_rules(self, rule: PolicyRule) -> tuple[Rule, ...]:
        """Return the approvals that removing the target needs; the promotion's by default."""
        if rule.demote is None:
            return self.promote_rules(rule)
        return self._any_of_the_groups(rule, rule.demote.approvals)

    def rollback_rules(self, rule: PolicyRule) -> tuple[Rule, ...]:
        """Return the approvals that going back to an earlier holder needs."""
        if rule.rollback is None:
            return self.promote_rules(rule)
        return self._any_of_the_groups(rule, rule.rollback.approvals)

    def review_rules(self, rule: PolicyRule) -> tuple[Rule, ...]:
        """Return the approvals that a break-glass change needs afterwards."""
        if rule.break_glass is None:
            return self.promote_rules(rule)
        return self._any_of_the_groups(rule, rule.break_glass.post_review.approvals)

    def _any_of_the_groups(self, rule: PolicyRule, count: int) -> tuple[Rule, ...]:
        groups = [part.group for part in rule.approvals]
        members = frozenset().union(*(self.file.groups.get(group, ()) for group in groups))
        return (Rule(" or ".join(groups) or "no group", count, members),)

    def rules_of(self, rule: PolicyRule, action: str) -> tuple[Rule, ...]:
        """Return the approvals that an action, ``promote``, ``demote`` or ``review``, needs."""
        by_action = {"demote": self.demote_rules, "review": self.review_rules}
        return by_action.get(action, self.promote_rules)(rule)

    def may_break_glass(self, rule: PolicyRule, user: str | None) -> bool:
        """Return whether the user may promote without approval."""
        allowed = rule.break_glass
        return allowed is not None and user in self.file.groups.get(allowed.group, ())

    def is_consumer(self, rule: PolicyRule, user: str | None) -> bool:
        """Return whether the user gets approved versions only; ``*`` includes anonymous callers."""
        if rule.consume is None:
            return False
        return any(who == "*" or user in self._people(who) for who in rule.consume.principals)

    def is_writer(self, check: Check, user: str | None) -> bool:
        """Return whether the user's writes of a check's tag count."""
        if not check.principals:
            return True
        return any(user is not None and user in self._people(who) for who in check.principals)

    def _people(self, principal: str) -> frozenset[str]:
        kind, colon, name = principal.partition(":")
        if colon and kind == "group":
            return frozenset(self.file.groups.get(name, ()))
        return frozenset({name if colon and kind == "user" else principal})
