"""Overrides for aliases and stages, by which consumers choose a version."""

from __future__ import annotations

from typing import Any

from mlflow.store.db.db_types import MYSQL

from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.domain import messages
from mlflow_plugins_pack.approvals.domain.matching import is_plain
from mlflow_plugins_pack.approvals.domain.targets import ARCHIVED, STAGES, Target
from mlflow_plugins_pack.approvals.enforcement.change import ABSENT, Absent, ProposedChange
from mlflow_plugins_pack.approvals.ledger.snapshot import SnapshotReader
from mlflow_plugins_pack.approvals.policy.models import PolicyRule
from mlflow_plugins_pack.approvals.store.base import Override, recording
from mlflow_plugins_pack.errors import ApprovalRequiredError


class TargetOverrides(Override):
    """Overrides of what sets, deletes and moves aliases and stages."""

    @recording
    def set_registered_model_alias(self, name: str, alias: str, version: Any) -> None:
        """Set an alias; a protected one only with approval."""
        name = self._named(name)
        version = self._numbered(name, version)
        target = Target("alias", alias)

        def write() -> None:
            super(TargetOverrides, self).set_registered_model_alias(name, alias, version)

        if (
            self.db_type == MYSQL
            and not alias.isascii()
            and self.governance.may_protect_aliases(name)
        ):
            raise ApprovalRequiredError(messages.foreign_letters(target=target, name=name))
        if not self.governance.may_protect(name, target):
            return self._write_free(name, write, alias)
        number = mlflow_tables.version_number(version)

        def plan(read_snapshot: SnapshotReader) -> ProposedChange | Absent | None:
            snapshot = read_snapshot(name, number, target)
            found = snapshot.version
            if found is None:
                return ABSENT
            protection = self.governance.protection(found, target)
            if protection is None:
                return None
            rule, protected = protection
            self._refuse_lookalike(target, protected, found, rule)
            if snapshot.holder is not None and snapshot.holder.uid == found.uid:
                return None
            return ProposedChange("promote", protected, found, rule, snapshot)

        return self.enforcer.enforce(name, plan, write)

    @staticmethod
    def _refuse_lookalike(
        given: Target, protected: Target, version: Version, rule: PolicyRule
    ) -> None:
        if protected.name != given.name:
            raise ApprovalRequiredError(
                messages.spelling(
                    given=given, protected=protected, name=version.name, policy=rule.name
                )
            )

    @recording
    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        """Delete an alias; a protected one only with approval."""
        name = self._named(name)
        target = Target("alias", alias)

        def write() -> None:
            super(TargetOverrides, self).delete_registered_model_alias(name, alias)

        # MySQL finds an alias by look-alikes that no other rule tells.
        may_find = self.db_type == MYSQL and not is_plain(alias)
        if not self.governance.may_protect(name, target) and not (
            may_find and self.governance.may_protect_aliases(name)
        ):
            return self._write_free(name, write, alias)

        def plan(read_snapshot: SnapshotReader) -> ProposedChange | Absent | None:
            wanted = target
            if self.db_type == MYSQL:
                wanted = Target("alias", self._actual_alias(name, alias))
            snapshot = read_snapshot(name, None, wanted)
            found = snapshot.holder
            protection = self.governance.protection(found, wanted) if found is not None else None
            if found is None or protection is None:
                return None
            # A look-alike from before the policy may go: it is asked about under its own name.
            return ProposedChange("demote", wanted, found, protection[0], snapshot)

        return self.enforcer.enforce(name, plan, write)

    def _actual_alias(self, name: str, alias: str) -> str:
        workspace = self.governance.workspace()
        return self._transactions.read(
            lambda s: mlflow_tables.actual_alias(s, workspace, name, alias)
        )

    @recording
    def transition_model_version_stage(
        self, name: str, version: Any, stage: str, archive_existing_versions: bool
    ) -> Any:
        """Move a version to a stage; into or out of a protected one only with approval."""
        name = self._named(name)

        def write() -> Any:
            return super(TargetOverrides, self).transition_model_version_stage(
                name, version, stage, archive_existing_versions
            )

        canonical = next((known for known in STAGES if known.lower() == str(stage).lower()), None)
        if canonical is None or not self.governance.may_protect(name, None):
            return self._write_free(name, write)
        # As a number: with psycopg 3 stock MLflow fails on a text where it archives the others.
        number = version = mlflow_tables.version_number(version)

        def plan(read_snapshot: SnapshotReader) -> ProposedChange | Absent | None:
            snapshot = read_snapshot(name, number, Target("stage", canonical))
            found = snapshot.version
            if found is None:
                return ABSENT
            others = [
                other.version
                for other in snapshot.holders
                if archive_existing_versions and other.uid != found.uid
            ]
            if others and self.governance.protection(found, ARCHIVED) is not None:
                text = messages.archives_into_protected(
                    entered=Target("stage", canonical), others=others, name=found.name
                )
                raise ApprovalRequiredError(text)
            entered = self.governance.protection(found, Target("stage", canonical))
            left = self.governance.protection(found, Target("stage", found.stage))
            moves = found.stage != canonical
            if moves and entered and left and entered[0] != left[0]:
                raise ApprovalRequiredError(
                    messages.two_policies(
                        left=left[1], entered=entered[1], name=found.name, version=number
                    )
                )
            if entered is not None and (moves or others):
                # With no version to archive, approval need not cover that.
                archive = bool(others)
                return ProposedChange(
                    "promote", entered[1], found, entered[0], snapshot, canonical, archive
                )
            if left is not None and moves:
                snapshot = read_snapshot(found.name, number, left[1])
                return ProposedChange("demote", left[1], found, left[0], snapshot, canonical)
            return None

        return self.enforcer.enforce(name, plan, write)

    def _write(self, change: ProposedChange) -> Any:
        """Make an approved change the stock way."""
        name, version = change.version.name, change.version.version
        if change.target.kind == "stage":
            return super().transition_model_version_stage(
                name, version, change.stage or change.target.name, change.archive_existing
            )
        if change.action == "promote":
            return super().set_registered_model_alias(name, change.target.name, version)
        return super().delete_registered_model_alias(name, change.target.name)
