"""The registry store: stock MLflow's, with a gate in front of every write that policies care about.

Each override decides only whether the gate has a say; what no policy governs takes the stock path
untouched. Enforcement lives here, below every handler, client and app.
"""

from __future__ import annotations

import functools
import inspect
import os
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES
from mlflow.store.db.db_types import DATABASE_ENGINES, MYSQL
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals import application, guards, locks, messages, registry, schema
from mlflow_plugins_pack.approvals.acts import FREE, Act, Free
from mlflow_plugins_pack.approvals.checks import TagCheck
from mlflow_plugins_pack.approvals.desk import Desk
from mlflow_plugins_pack.approvals.gate import Gate, now_ms
from mlflow_plugins_pack.approvals.guards import GuardedPolicy
from mlflow_plugins_pack.approvals.keeper import Keeper, is_server_process
from mlflow_plugins_pack.approvals.ledger import find_requests, open_request, votes
from mlflow_plugins_pack.approvals.names import (
    PROMPT_FLAG_TAG,
    STAGES,
    Target,
    command_of,
    fold,
    is_prompt_content,
    is_reserved_tag,
)
from mlflow_plugins_pack.approvals.policy import PolicyRule
from mlflow_plugins_pack.approvals.policy_source import PolicySource, policy_path
from mlflow_plugins_pack.approvals.registry import Version
from mlflow_plugins_pack.approvals.transactions import Transactions
from mlflow_plugins_pack.approvals.workflow import State
from mlflow_plugins_pack.errors import (
    ApprovalError,
    ApprovalRequiredError,
    ContentLockedError,
    ProtectedDeleteError,
    ProtectedRenameError,
    ReservedTagError,
    UnsupportedUriError,
)
from mlflow_plugins_pack.uris import REGISTRY_WORD, scheme_of, to_stock, without_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    _Base: Any = SqlAlchemyStore
else:
    _Base = object

T = TypeVar("T")

SERVED_DATABASES = ("sqlite", "postgresql", "mysql")


def stock_uri(store_uri: str) -> str:
    """Return the database URI behind an ``approval-`` URI.

    Raises:
        UnsupportedUriError: If it is not a database that this store works with.
    """
    inner = to_stock(REGISTRY_WORD, store_uri)
    dialect = scheme_of(inner).partition("+")[0]
    if dialect in SERVED_DATABASES:
        return inner
    known = f"MLflow knows {dialect}, but this store does not serve it"
    why = {
        "file": "a file store has no transactions, so nothing could be enforced in it",
        "http": "a server enforces approvals itself; give clients its plain address",
        "https": "a server enforces approvals itself; give clients its plain address",
    }.get(dialect, known if dialect in DATABASE_ENGINES else "it is not a database MLflow knows")
    raise UnsupportedUriError(
        f"The registry URI {without_credentials(store_uri)!r} cannot be opened: {why}. Nothing was "
        f"opened. Use approval- in front of a {', '.join(SERVED_DATABASES)} URI, such as "
        "approval-sqlite:///mlflow.db."
    )


def open_store(store_uri: str) -> ApprovalStoreMixin:
    """Open the store for an ``approval-`` URI; see `mlflow_plugins_pack.approvals.plugin`."""
    from mlflow.server.constants import READ_REPLICA_BACKEND_STORE_URI_ENV_VAR

    database = stock_uri(store_uri)
    policies = PolicySource(policy_path())
    replica = os.environ.get(READ_REPLICA_BACKEND_STORE_URI_ENV_VAR)
    kind = WorkspaceApprovalStore if MLFLOW_ENABLE_WORKSPACES.get() else ApprovalStore
    return kind(database, replica, policies)


F = TypeVar("F", bound="Callable[..., Any]")


def _recording(method: F) -> F:
    """Keep a method's refusals in the audit log, once what it began is undone."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(self: ApprovalStoreMixin, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except ApprovalError as refusal:
            given = signature.bind(self, *args, **kwargs).arguments
            target = next((f"{k}:{given[k]}" for k in ("alias", "stage") if k in given), None)
            self.gate.record_refusal(refusal, given["name"], given.get("version"), target)
            raise

    return cast("F", call)


class ApprovalStoreMixin(_Base):
    """Overrides of a stock SQL registry store; mixed in before it.

    Attributes:
        gate: Enforces the policy.
        desk: Takes requests, votes and comments.
    """

    def __init__(self, db_uri: str, read_db_uri: str | None, policies: PolicySource) -> None:
        with schema.first_start(db_uri, self._get_or_create_engine):
            super().__init__(db_uri, read_db_uri)
        schema.upgrade(self.engine)
        guarded_by = GuardedPolicy(self.engine, policies)
        self._transactions = Transactions(self.engine, prepare=guarded_by.refresh)
        stock_maker: Callable[..., Any] = self.ManagedSessionMaker
        self.ManagedSessionMaker: Callable[..., Any] = self._transactions.joining(stock_maker)
        self.gate = Gate(self._transactions, policies, self._get_active_workspace)
        self.desk = Desk(self.gate, self._write)
        self.keeper = Keeper(self._transactions, policies.current, now_ms)
        if is_server_process():
            self.keeper.start()

    def _write(self, act: Act) -> Any:
        """Make an approved change the stock way."""
        name, version = act.version.name, act.version.version
        if act.target.kind == "stage":
            return super().transition_model_version_stage(
                name, version, act.stage, act.archive_existing
            )
        if act.action == "promote":
            return super().set_registered_model_alias(name, act.target.name, version)
        return super().delete_registered_model_alias(name, act.target.name)

    def _named(self, name: Any) -> Any:
        """Return the model's name as the database has it.

        MySQL's collations find a model by look-alikes of its name; policies must see the real one.
        """
        if not isinstance(name, str) or name.isascii() or self.db_type != MYSQL:
            return name
        workspace = self._get_active_workspace()
        return self._transactions.read(lambda s: registry.actual_name(s, workspace, name))

    def _write_free(self, name: str, write: Callable[[], T], alias: str = "") -> T:
        """Make a change that no policy is about; guards may think so of letters beyond ASCII."""
        if f"{name}{alias}".isascii():
            return write()
        return self.gate.write_admitted(name, write)

    # --- aliases and stages -------------------------------------------------------------------

    @_recording
    def set_registered_model_alias(self, name: str, alias: str, version: Any) -> None:
        """Set an alias; a protected one only with approval."""
        name = self._named(name)
        target = Target("alias", alias)

        def write() -> None:
            super(ApprovalStoreMixin, self).set_registered_model_alias(name, alias, version)

        if self.db_type == MYSQL and not alias.isascii() and self.gate.may_protect_aliases(name):
            raise ApprovalRequiredError(messages.foreign_letters(target=target, name=name))
        if not self.gate.may_protect(name, target):
            return self._write_free(name, write, alias)
        number = registry.version_number(version)

        def plan(session: Session) -> Act | Free | None:
            found = registry.find_version(session, self.gate.workspace(), name, number)
            protection = self.gate.protection(found, target) if found is not None else None
            if found is None or protection is None:
                return FREE
            rule, protected = protection
            self._refuse_lookalike(target, protected, found, rule)
            holder = registry.holder(session, found.workspace, found.name, protected)
            if holder is not None and holder.uid == found.uid:
                return None
            return Act("promote", protected, found, rule)

        return self.gate.perform(name, plan, write)

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

    @_recording
    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        """Delete an alias; a protected one only with approval."""
        name = self._named(name)
        target = Target("alias", alias)

        def write() -> None:
            super(ApprovalStoreMixin, self).delete_registered_model_alias(name, alias)

        if not self.gate.may_protect(name, target):
            return self._write_free(name, write, alias)

        def plan(session: Session) -> Act | Free | None:
            found = registry.find_alias(session, self.gate.workspace(), name, alias)
            protection = self.gate.protection(found, target) if found is not None else None
            if found is None or protection is None:
                return None
            # A look-alike from before the policy may go: it is asked about under its own name.
            return Act("demote", target, found, protection[0])

        return self.gate.perform(name, plan, write)

    @_recording
    def transition_model_version_stage(
        self, name: str, version: Any, stage: str, archive_existing_versions: bool
    ) -> Any:
        """Move a version to a stage; into or out of a protected one only with approval."""
        name = self._named(name)

        def write() -> Any:
            return super(ApprovalStoreMixin, self).transition_model_version_stage(
                name, version, stage, archive_existing_versions
            )

        canonical = next((known for known in STAGES if known.lower() == str(stage).lower()), None)
        if canonical is None or not self.gate.may_protect(name, None):
            return self._write_free(name, write)
        # As a number: with psycopg 3 stock MLflow fails on a text where it archives the others.
        number = version = registry.version_number(version)

        def plan(session: Session) -> Act | Free | None:
            found = registry.find_version(session, self.gate.workspace(), name, number)
            if found is None or not any(r.targets.stages for r in self.gate.rules_about(found)):
                return FREE
            staged = registry.in_stage(session, found.workspace, found.name, canonical)
            others = archive_existing_versions and any(v.uid != found.uid for v in staged)
            entered = self.gate.protection(found, Target("stage", canonical))
            left = self.gate.protection(found, Target("stage", found.stage))
            moves = found.stage != canonical
            if moves and entered and left and entered[0] != left[0]:
                raise ApprovalRequiredError(
                    messages.two_policies(
                        left=left[1], entered=entered[1], name=found.name, version=number
                    )
                )
            if entered is not None and (moves or others):
                archive = bool(archive_existing_versions)
                return Act("promote", entered[1], found, entered[0], canonical, archive)
            if left is not None and moves:
                return Act("demote", left[1], found, left[0], canonical)
            return None

        return self.gate.perform(name, plan, write)

    # --- models and versions ------------------------------------------------------------------

    def create_registered_model(
        self,
        name: str,
        tags: Any = None,
        description: str | None = None,
        deployment_job_id: str | None = None,
    ) -> Any:
        """Create a model, without tags that only this store writes."""
        return super().create_registered_model(
            name, _without_reserved(tags), description, deployment_job_id
        )

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Any = None,
        run_link: str | None = None,
        description: str | None = None,
        local_model_path: str | None = None,
        model_id: str | None = None,
    ) -> Any:
        """Create a version: unapproved, whatever tags it was copied with; who made it is kept."""
        name = self._named(name)
        actor = self.gate.actor()
        kept = [
            tag
            for tag in _without_reserved(tags) or []
            if all(
                self.gate.policy().is_writer(check, actor) for check in self._checks(name, tag.key)
            )
        ]

        def note(session: Session, row: Any) -> None:
            if not isinstance(row, SqlModelVersion):
                return
            ledger = self.gate.ledger(session)
            flagged = registry.is_prompt_model(session, row.workspace, row.name)
            version = registry.to_version(row, is_prompt_model=flagged)
            ledger.note_creator(version)
            for tag in kept:
                if actor is not None and self._checks(name, tag.key):
                    ledger.note_check_tag(version, tag.key, tag.value)

        with self._transactions.on_insert(note):
            return super().create_model_version(
                name,
                source,
                run_id,
                None if tags is None else kept,
                run_link,
                description,
                local_model_path,
                model_id,
            )

    def _checks(self, name: str, key: str) -> list[TagCheck]:
        """Return the checks that read a tag of versions of this name, prompt or not."""
        rules = self.gate.policy().rules_that_may(self._get_active_workspace(), name)
        return [check for rule in rules for check in rule.tag_checks(key)]

    @_recording
    def delete_model_version(self, name: str, version: Any) -> None:
        """Delete a version; not while it holds a protected alias or stage."""
        name = self._named(name)

        def write() -> None:
            super(ApprovalStoreMixin, self).delete_model_version(name, version)

        if not self.gate.policy().may_govern(self._get_active_workspace(), name):
            return self._write_free(name, write)
        number = registry.version_number(version)

        def work(session: Session) -> Version | None:
            workspace = self.gate.workspace()
            registry.lock_model(session, workspace, name)
            held = [(t, v) for t, v in self.gate.held(session, name) if v.version == number]
            if held:
                raise ProtectedDeleteError(
                    messages.protected_delete(
                        what=f"version {number} of '{name}'",
                        held=[(target, found.version) for target, found in held],
                    )
                )
            found = registry.find_version(session, workspace, name, number)
            with guards.admitted(session, workspace, name):
                write()
            if found is not None:
                ledger = self.gate.ledger(session)
                waiting = find_requests(session, version_uid=found.uid, only_open=True)
                self.gate.close_all(ledger, waiting, State.STALE, "the version was deleted")
                ledger.record("VERSION_DELETED", found)
            return found

        found = self._transactions.write(work)
        return self._unlock([found] if found is not None else [])

    def _unlock(self, versions: list[Version]) -> None:
        """Let go of the files of versions that are no more."""
        for version in versions:
            for rule in self.gate.rules_about(version):
                for target in rule.all_targets():
                    locks.set_lock(version, target, is_approved=False)

    @_recording
    def delete_registered_model(self, name: str) -> None:
        """Delete a model; not while it holds a protected alias or stage."""
        name = self._named(name)

        def write() -> None:
            super(ApprovalStoreMixin, self).delete_registered_model(name)

        if not self.gate.policy().may_govern(self._get_active_workspace(), name):
            return self._write_free(name, write)

        def work(session: Session) -> list[Version]:
            workspace = self.gate.workspace()
            registry.lock_model(session, workspace, name)
            if held := self.gate.held(session, name):
                raise ProtectedDeleteError(
                    messages.protected_delete(
                        what=f"'{name}'", held=[(target, v.version) for target, v in held]
                    )
                )
            gone = registry.all_versions(session, workspace, name)
            with guards.admitted(session, workspace, name):
                write()
            ledger = self.gate.ledger(session)
            waiting = find_requests(session, workspace=workspace, name=name, only_open=True)
            self.gate.close_all(ledger, waiting, State.STALE, "the model was deleted")
            ledger.record("MODEL_DELETED", workspace=workspace, name=name)
            return gone

        return self._unlock(self._transactions.write(work))

    @_recording
    def rename_registered_model(self, name: str, new_name: str) -> Any:
        """Rename a model; not while it holds what a policy protects under either name."""
        name = self._named(name)

        def write() -> Any:
            return super(ApprovalStoreMixin, self).rename_registered_model(name, new_name)

        workspace = self._get_active_workspace()

        def work(session: Session) -> Any:
            registry.lock_model(session, workspace, name)
            if held := self.gate.held(session, name, also_as=new_name):
                raise ProtectedRenameError(
                    messages.protected_rename(
                        name=name, new_name=new_name, held=[(t, v.version) for t, v in held]
                    )
                )
            ledger = self.gate.ledger(session)
            made_by = [
                (version.version, creator)
                for version in registry.all_versions(session, workspace, name)
                if (creator := ledger.creator_of(version)) is not None
            ]
            waiting = find_requests(session, workspace=workspace, name=name, only_open=True)
            with guards.admitted(session, workspace, name, new_name):
                renamed = write()
            # An alias set meanwhile, while the name was free, came along.
            if came := self.gate.held(session, new_name):
                raise ProtectedRenameError(
                    messages.protected_rename(
                        name=name, new_name=new_name, held=[(t, v.version) for t, v in came]
                    )
                )
            self.gate.close_all(ledger, waiting, State.STALE, f"the model is '{new_name}' now")
            for number, creator in made_by:
                if version := registry.find_version(session, workspace, new_name, number):
                    ledger.note_creator(version, creator)
            if self.gate.policy().may_govern(workspace, name) or self.gate.policy().may_govern(
                workspace, new_name
            ):
                ledger.record(
                    "MODEL_RENAMED", workspace=workspace, name=name, after={"name": new_name}
                )
            return renamed

        return self._transactions.write(work)

    # --- reading ------------------------------------------------------------------------------

    def get_model_version(self, name: str, version: Any) -> Any:
        """Return a version; to consumers that get approved ones only, none but these."""
        self._refuse_unapproved(name, version)
        return super().get_model_version(name, version)

    def get_model_version_download_uri(self, name: str, version: Any) -> Any:
        """Return where a version's files are, under the same terms."""
        self._refuse_unapproved(name, version)
        return super().get_model_version_download_uri(name, version)

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        """Return the version behind an alias, under the same terms."""
        found = super().get_model_version_by_alias(name, alias)
        self._refuse_unapproved(name, found.version)
        return found

    def get_latest_versions(self, name: str, stages: Any = None) -> Any:
        """Return the highest version of each stage; to such consumers, the highest approved."""
        latest = super().get_latest_versions(name, stages)
        name = self._named(name)
        if not self.gate.is_consumer(name):
            return latest

        def approved(session: Session) -> list[Version]:
            versions = registry.all_versions(session, self.gate.workspace(), name)
            return [v for v in versions if self.gate.unapproved_by(session, v) is None]

        wanted = {stage.lower() for stage in stages or STAGES}
        highest = {
            version.stage: version.version
            for version in self._transactions.read(approved)
            if version.stage.lower() in wanted
        }
        return [
            super(ApprovalStoreMixin, self).get_model_version(name, v) for v in highest.values()
        ]

    def _refuse_unapproved(self, name: str, version: Any) -> None:
        name = self._named(name)
        if not self.gate.is_consumer(name):
            return
        number = registry.version_number(version)

        def work(session: Session) -> ApprovalError | None:
            found = registry.find_version(session, self.gate.workspace(), name, number)
            rule = self.gate.unapproved_by(session, found) if found is not None else None
            if rule is None:
                return None
            return ApprovalRequiredError(
                messages.not_for_consumers(
                    name=name, version=number, user=self.gate.actor(), policy=rule.name
                )
            )

        if (refusal := self._transactions.read(work)) is not None:
            self.gate.record_refusal(refusal, name, number)
            raise refusal

    # --- tags ---------------------------------------------------------------------------------

    @_recording
    def set_model_version_tag(self, name: str, version: Any, tag: Any) -> None:
        """Set a tag, obey a command, or refuse what is locked."""
        name = self._named(name)
        if (command := command_of(tag.key)) is not None:
            number = registry.version_number(version)
            return self.desk.command(command, name, number, tag.value or "")

        def write() -> None:
            super(ApprovalStoreMixin, self).set_model_version_tag(name, version, tag)

        return self._change_tag(name, version, tag.key, tag.value, write)

    @_recording
    def delete_model_version_tag(self, name: str, version: Any, key: str) -> None:
        """Delete a tag unless it is locked."""
        name = self._named(name)

        def write() -> None:
            super(ApprovalStoreMixin, self).delete_model_version_tag(name, version, key)

        return self._change_tag(name, version, key, None, write)

    def _change_tag(
        self, name: str, version: Any, key: str, value: str | None, write: Callable[[], None]
    ) -> None:
        if is_reserved_tag(key) and not (value is None and command_of(key)):
            raise ReservedTagError(messages.reserved_tag(key))
        governed = self.gate.policy().may_govern(self._get_active_workspace(), name)
        # What a look-alike of a key stands for, the database must say.
        matters = is_prompt_content(key) or self._checks(name, key) or not key.isascii()
        if not governed or not matters:
            return write()
        number = registry.version_number(version)

        def work(session: Session) -> None:
            registry.lock_model(session, self.gate.workspace(), name)
            found = registry.find_version(session, self.gate.workspace(), name, number)
            if found is None:
                return write()
            real = registry.actual_tag_key(session, found, key)
            if is_reserved_tag(real):
                raise ReservedTagError(messages.reserved_tag(real))
            before = registry.version_tags(session, found).get(real)
            for rule in self.gate.rules_about(found):
                if found.is_prompt and is_prompt_content(real) and before != value:
                    self._refuse_locked_content(session, rule, found, real)
                for check in rule.tag_checks(real):
                    self._note_check(session, rule, check, found, value, before)
            with guards.admitted(session, found.workspace, found.name):
                return write()

        return self._transactions.write(work)

    def _refuse_locked_content(
        self, session: Session, rule: PolicyRule, version: Version, key: str
    ) -> None:
        why = None
        for target, held in self.gate.held(session, version.name):
            if held.uid == version.uid:
                why = f"is {target} now"
        for target in rule.all_targets():
            if open_request(session, version, target) is not None:
                why = f"is waiting for approval as {target}, or was approved"
        if why is not None:
            text = messages.content_locked(
                key=key, name=version.name, version=version.version, why=why
            )
            raise ContentLockedError(text)

    def _note_check(
        self,
        session: Session,
        rule: PolicyRule,
        check: TagCheck,
        version: Version,
        value: str | None,
        before: str | None,
    ) -> None:
        ledger = self.gate.ledger(session)
        if not ledger.policy.is_writer(check, ledger.actor):
            raise ReservedTagError(
                messages.check_tag(
                    key=check.tag,
                    name=version.name,
                    policy=rule.name,
                    writers=check.writers,
                    user=ledger.actor,
                )
            )
        ledger.note_check_tag(version, check.tag, value)
        if before is None or before == value or "tags" not in ledger.policy.defaults.dismiss_on:
            return
        for target in rule.all_targets():
            request = open_request(session, version, target)
            if request is not None and votes(session, request.id):
                reason = f"the tag '{check.tag}' changed"
                application.close(ledger, version, request, State.STALE, reason)

    @_recording
    def set_registered_model_tag(self, name: str, tag: Any) -> None:
        """Set a model's tag unless it is this store's, or decides what governs the model."""
        name = self._named(name)
        self._refuse_model_tag(name, tag.key)
        super().set_registered_model_tag(name, tag)

    @_recording
    def delete_registered_model_tag(self, name: str, key: str) -> None:
        """Delete a model's tag, under the same terms as setting it."""
        name = self._named(name)
        self._refuse_model_tag(name, key)
        super().delete_registered_model_tag(name, key)

    def _refuse_model_tag(self, name: str, key: str) -> None:
        if is_reserved_tag(key):
            raise ReservedTagError(messages.reserved_tag(key))
        if fold(key) == fold(PROMPT_FLAG_TAG):
            policy, workspace = self.gate.policy(), self._get_active_workspace()
            one, other = (policy.rules_for(workspace, name, is_prompt=k) for k in (True, False))
            if one != other:
                raise ReservedTagError(messages.prompt_flag(name))


def _without_reserved(tags: Iterable[Any] | None) -> list[Any] | None:
    """Drop this store's tags: copying a version copies its tags, and approval is not copied."""
    return None if tags is None else [tag for tag in tags if not is_reserved_tag(tag.key)]


class ApprovalStore(ApprovalStoreMixin, SqlAlchemyStore):
    """The store of a server without workspaces."""


class WorkspaceApprovalStore(ApprovalStoreMixin, WorkspaceAwareSqlAlchemyStore):
    """The store of a server with workspaces."""

    def __init__(self, db_uri: str, read_db_uri: str | None, policies: PolicySource) -> None:
        super().__init__(db_uri, read_db_uri, policies)
