"""Answers which policies govern a model, what they protect, and what the caller may read."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals import caller
from mlflow_plugins_pack.approvals.content.digest import whole_digest
from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.ledger.requests import is_approved
from mlflow_plugins_pack.approvals.policy.models import Policy, PolicyRule
from mlflow_plugins_pack.approvals.policy.source import PolicySource
from mlflow_plugins_pack.errors import DigestUnavailableError


class Governance:
    """The policy in force, asked on behalf of the caller in the active workspace.

    Args:
        policies: The source of the policy in force.
        workspace: Returns the active workspace.
    """

    def __init__(self, policies: PolicySource, workspace: Callable[[], str]) -> None:
        self.policies = policies
        self.workspace = workspace

    def policy(self) -> Policy:
        """Return the policy in force."""
        return self.policies.current()

    def actor(self) -> str | None:
        """Return the name of the signed-in caller, or None."""
        return caller.current_user(self.policy().file.identity)

    def may_govern(self, name: str) -> bool:
        """Return whether a policy could govern the name; asks no database."""
        return self.policy().may_govern(self.workspace(), name)

    def rules_about(self, version: Version, name: str | None = None) -> list[PolicyRule]:
        """Return the policies that govern a version, under its own name or another."""
        return self.policy().rules_about(
            version.workspace,
            name or version.name,
            is_prompt=version.is_prompt,
            has_files=version.has_files,
        )

    def protection(
        self, version: Version, target: Target, name: str | None = None
    ) -> tuple[PolicyRule, Target] | None:
        """Return the policy that protects a target of a version, and its spelling of the target.

        What can be loaded as a prompt and as a model has to satisfy the policies of both.
        """
        return self.policy().protection(
            version.workspace,
            name or version.name,
            target,
            is_prompt=version.is_prompt,
            has_files=version.has_files,
        )

    def may_protect(self, name: str, target: Target | None) -> bool:
        """Return whether a policy could protect the target (None: any stage); asks no database."""
        return any(
            rule.targets.stages if target is None else rule.protected(target)
            for rule in self.policy().rules_that_may(self.workspace(), name)
        )

    def may_protect_aliases(self, name: str) -> bool:
        """Return whether a policy could protect an alias of the name; asks no database."""
        rules = self.policy().rules_that_may(self.workspace(), name)
        return any(rule.targets.aliases for rule in rules)

    def is_consumer(self, name: str) -> bool:
        """Return whether the caller may read approved versions only; asks no database."""
        rules = self.policy().rules_that_may(self.workspace(), name)
        if not any(rule.consume for rule in rules):
            return False
        actor = self.actor()
        return any(self.policy().is_consumer(rule, actor) for rule in rules)

    def unapproved_by(self, session: Session, version: Version) -> PolicyRule | None:
        """Return the policy that keeps an unapproved version from the caller, or None.

        What can be loaded as a prompt and as a model has to be approved as both.
        """
        policy, actor = self.policy(), self.actor()
        for kind in [True] * version.is_prompt + [False] * version.has_files:
            rules = policy.rules_for(version.workspace, version.name, is_prompt=kind)
            rule = next((rule for rule in rules if policy.is_consumer(rule, actor)), None)
            if rule is None:
                continue
            targets = list(rule.all_targets())
            approved = is_approved(session, version, targets, clock.now_ms())
            if approved is None or not _is_text_of(session, version, approved):
                return rule
        return None

    def held(
        self, session: Session, name: str, *, also_as: str | None = None
    ) -> list[tuple[Target, Version]]:
        """Return the protected targets that a model holds now.

        Args:
            session: The session to read with.
            name: The model's name.
            also_as: Another name under which policies are asked too.
        """
        found = []
        for target, version in mlflow_tables.holdings(session, self.workspace(), name):
            names = {version.name, also_as or version.name}
            if any(self.protection(version, target, asked) for asked in names):
                found.append((target, version))
        return found


def _is_text_of(session: Session, version: Version, approved: str) -> bool:
    """Return whether a prompt's text, which costs nothing to read, is what was approved."""
    if not version.is_prompt or version.has_files:
        return True
    tags = mlflow_tables.version_tags(session, version)
    try:
        return whole_digest(version, tags, None) == approved
    except DigestUnavailableError:
        return False
