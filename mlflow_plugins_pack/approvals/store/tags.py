"""Overrides for tags: commands are carried out, reserved and approved tags refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.domain import clock, tag_messages
from mlflow_plugins_pack.approvals.domain.matching import fold
from mlflow_plugins_pack.approvals.domain.near_misses import imitates_projection, meant_command
from mlflow_plugins_pack.approvals.domain.request_states import State
from mlflow_plugins_pack.approvals.domain.tag_names import (
    PROMPT_FLAG_TAG,
    command_of,
    is_prompt_content,
    is_reserved_tag,
)
from mlflow_plugins_pack.approvals.enforcement import apply
from mlflow_plugins_pack.approvals.guards import install
from mlflow_plugins_pack.approvals.ledger import check_tags
from mlflow_plugins_pack.approvals.ledger.requests import (
    find_requests,
    is_approved,
    open_request,
    votes,
)
from mlflow_plugins_pack.approvals.policy.checks import Check
from mlflow_plugins_pack.approvals.policy.models import PolicyRule
from mlflow_plugins_pack.approvals.store.base import Override, recording
from mlflow_plugins_pack.errors import (
    ContentLockedError,
    ReservedTagError,
)

if TYPE_CHECKING:
    from collections.abc import Callable


_BINDING = frozenset({State.PENDING, State.APPROVED, State.APPLIED})


class TagOverrides(Override):
    """Overrides of what sets and deletes tags."""

    @recording
    def set_model_version_tag(self, name: str, version: Any, tag: Any) -> None:
        """Set a tag, carry out a command, or refuse a locked tag."""
        if name is None or tag.key is None:
            # MLflow refuses it, with an error of its own.
            super().set_model_version_tag(name, version, tag)
            return None
        name = self._named(name)
        if (command := command_of(tag.key)) is not None:
            number = mlflow_tables.version_number(version)
            return self.commands.run(command, name, number, tag.value or "")
        version = self._numbered(name, version)

        self._refuse_near_miss(name, tag.key)

        def write() -> None:
            super(TagOverrides, self).set_model_version_tag(name, version, tag)

        return self._change_tag(name, version, tag.key, tag.value, write)

    def _refuse_near_miss(self, name: str, key: str) -> None:
        """Refuse a tag that its writer takes for a vote; what no policy governs stays as stock."""
        if not self.governance.may_govern(name):
            return
        if (meant := meant_command(key)) is not None:
            raise ReservedTagError(tag_messages.misspelt_tag(key=key, name=name, meant=meant))
        if imitates_projection(key):
            raise ReservedTagError(tag_messages.imitated_tag(key=key, name=name))

    @recording
    def delete_model_version_tag(self, name: str, version: Any, key: str) -> None:
        """Delete a tag unless it is locked."""
        if name is None or key is None:
            # MLflow refuses it, with an error of its own.
            super().delete_model_version_tag(name, version, key)
            return None
        name = self._named(name)
        version = self._numbered(name, version)

        def write() -> None:
            super(TagOverrides, self).delete_model_version_tag(name, version, key)

        return self._change_tag(name, version, key, None, write)

    def _change_tag(
        self, name: str, version: Any, key: str, value: str | None, write: Callable[[], None]
    ) -> None:
        if is_reserved_tag(key) and not (value is None and command_of(key)):
            raise ReservedTagError(tag_messages.reserved_tag(key))
        governed = self.governance.policy().may_govern(self._get_active_workspace(), name)
        # What a look-alike of a key stands for, the database must say.
        matters = is_prompt_content(key) or self._checks(name, key) or not key.isascii()
        if not governed or not matters:
            return write()
        number = mlflow_tables.version_number(version)

        def work(session: Session) -> None:
            mlflow_tables.lock_model(session, self.governance.workspace(), name)
            found = mlflow_tables.find_version(session, self.governance.workspace(), name, number)
            if found is None:
                return write()
            real = mlflow_tables.actual_tag_key(session, found, key)
            if is_reserved_tag(real):
                raise ReservedTagError(tag_messages.reserved_tag(real))
            before = mlflow_tables.version_tags(session, found).get(real)
            for rule in self.governance.rules_about(found):
                if found.is_prompt and is_prompt_content(real) and before != value:
                    self._refuse_locked_content(session, rule, found, real)
                for check in rule.checks_of_tag(real):
                    self._note_check(session, rule, check, found, value, before)
            with install.admitted(session, found.workspace, found.name):
                return write()

        return self._transactions.write(work)

    def _refuse_locked_content(
        self, session: Session, rule: PolicyRule, version: Version, key: str
    ) -> None:
        if (why := self._why_locked(session, rule, version)) is not None:
            text = tag_messages.content_locked(
                key=key, name=version.name, version=version.version, why=why
            )
            raise ContentLockedError(text)

    def _why_locked(self, session: Session, rule: PolicyRule, version: Version) -> str | None:
        for target, held in self.governance.held(session, version.name):
            if held.uid == version.uid:
                return f"is {target} now"
        for target in rule.all_targets():
            # Also where another version has replaced it: it may be gone back to, and consumers
            # that get approved versions get it by its number.
            is_bound = open_request(session, version, target) is not None
            if is_bound or is_approved(session, version, [target], clock.now_ms()) is not None:
                return f"is waiting for approval as {target}, or was approved"
        return None

    def _note_check(
        self,
        session: Session,
        rule: PolicyRule,
        check: Check,
        version: Version,
        value: str | None,
        before: str | None,
    ) -> None:
        ledger, key = self.enforcer.ledger(session), str(check.watched_tag)
        if not ledger.policy.is_writer(check, ledger.actor):
            raise ReservedTagError(
                tag_messages.check_tag(
                    key=key,
                    name=version.name,
                    policy=rule.name,
                    writers=check.principals,
                    user=ledger.actor,
                )
            )
        check_tags.note(ledger, version, key, value)
        if before is None or before == value or "tags" not in ledger.policy.defaults.dismiss_on:
            return
        for target in rule.all_targets():
            request = open_request(session, version, target)
            if request is not None and votes(session, request.id):
                reason = f"the tag '{key}' changed"
                apply.close(ledger, version, request, State.STALE, reason)

    @recording
    def set_registered_model_tag(self, name: str, tag: Any) -> None:
        """Set a model's tag unless it is this store's, or decides what governs the model."""
        if name is None or tag.key is None:
            # MLflow refuses it, with an error of its own.
            super().set_registered_model_tag(name, tag)
            return
        name = self._named(name)

        self._refuse_near_miss(name, tag.key)

        def write() -> None:
            super(TagOverrides, self).set_registered_model_tag(name, tag)

        self._change_model_tag(name, tag.key, write)

    @recording
    def delete_registered_model_tag(self, name: str, key: str) -> None:
        """Delete a model's tag, under the same terms as setting it."""
        if name is None or key is None:
            # MLflow refuses it, with an error of its own.
            super().delete_registered_model_tag(name, key)
            return
        name = self._named(name)

        def write() -> None:
            super(TagOverrides, self).delete_registered_model_tag(name, key)

        self._change_model_tag(name, key, write)

    def _change_model_tag(self, name: str, key: str, write: Callable[[], None]) -> None:
        if is_reserved_tag(key):
            raise ReservedTagError(tag_messages.reserved_tag(key))
        if fold(key) != fold(PROMPT_FLAG_TAG):
            return write()
        policy, workspace = self.governance.policy(), self._get_active_workspace()
        one, other = (policy.rules_for(workspace, name, is_prompt=k) for k in (True, False))
        if one != other:
            raise ReservedTagError(tag_messages.prompt_flag(name))
        if not one:
            return self.enforcer.write_admitted(name, write)

        def work(session: Session) -> None:
            mlflow_tables.lock_model(session, workspace, name)
            # What was approved as one would be loaded as the other, with content that was not.
            uids = {v.uid for v in mlflow_tables.all_versions(session, workspace, name)}
            asked = find_requests(session, workspace=workspace, name=name)
            is_bound = any(r.state in _BINDING and r.version_uid in uids for r in asked)
            if is_bound or self.governance.held(session, name):
                raise ReservedTagError(tag_messages.prompt_flag_of_approved(name))
            with install.admitted(session, workspace, name):
                return write()

        return self._transactions.write(work)
