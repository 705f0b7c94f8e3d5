"""Overrides for models and versions: creation, deletion, renaming and reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow.store.model_registry import (
    SEARCH_MODEL_VERSION_MAX_RESULTS_DEFAULT,
    SEARCH_REGISTERED_MODEL_MAX_RESULTS_DEFAULT,
)
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.background import unbacked_tags
from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.database.projection_tags import StoredTag
from mlflow_plugins_pack.approvals.domain import description_links, messages
from mlflow_plugins_pack.approvals.domain.matching import fold
from mlflow_plugins_pack.approvals.domain.request_states import State
from mlflow_plugins_pack.approvals.domain.tag_names import (
    PROJECTION_PREFIX,
    PROMPT_FLAG_TAG,
    is_reserved_tag,
)
from mlflow_plugins_pack.approvals.domain.targets import STAGES
from mlflow_plugins_pack.approvals.enforcement import requests
from mlflow_plugins_pack.approvals.guards import install
from mlflow_plugins_pack.approvals.ledger import check_tags, creators
from mlflow_plugins_pack.approvals.ledger.requests import find_requests
from mlflow_plugins_pack.approvals.store.base import Override, recording
from mlflow_plugins_pack.errors import (
    ApprovalError,
    ApprovalRequiredError,
    ProtectedDeleteError,
    ProtectedRenameError,
)
from mlflow_plugins_pack.settings import REVIEW_URL

if TYPE_CHECKING:
    from collections.abc import Iterable


class ModelOverrides(Override):
    """Overrides of what creates, deletes, renames and returns models and versions."""

    # Long: one override for each of the stock store's methods on models and versions, all short.

    def create_registered_model(
        self,
        name: str,
        tags: Any = None,
        description: str | None = None,
        deployment_job_id: str | None = None,
    ) -> Any:
        """Create a model, without tags that only this store writes."""

        def write() -> Any:
            return super(ModelOverrides, self).create_registered_model(
                name, _without_reserved(tags), description, deployment_job_id
            )

        if any(fold(tag.key) == fold(PROMPT_FLAG_TAG) for tag in tags or ()):
            return self.enforcer.write_admitted(name, write)
        return write()

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
        actor, policy = self.governance.actor(), self.governance.policy()
        # A copy's tags are the other version's, not the caller's.
        is_copy = mlflow_tables.names_a_version(source)
        kept = [
            tag
            for tag in _without_reserved(tags) or []
            if not (checks := self._checks(name, tag.key))
            or (not is_copy and all(policy.is_writer(check, actor) for check in checks))
        ]

        if any(self._checks(name, tag.key) for tag in kept):
            self.enforcer.note_caller()

        def note(session: Session, row: Any) -> None:
            if not isinstance(row, SqlModelVersion):
                return
            ledger = self.enforcer.ledger(session)
            flagged = mlflow_tables.is_prompt_model(session, row.workspace, row.name)
            version = mlflow_tables.to_version(row, is_prompt_model=flagged)
            creators.note(session, version, actor, ledger.now_ms)
            for tag in kept:
                if actor is not None and self._checks(name, tag.key):
                    check_tags.note(ledger, version, tag.key, tag.value)

        with self._transactions.on_insert(note):
            return super().create_model_version(
                name,
                source,
                run_id,
                None if tags is None else kept,
                run_link,
                description_links.removed(description),  # a copy has its source's
                local_model_path,
                model_id,
            )

    @recording
    def delete_model_version(self, name: str, version: Any) -> None:
        """Delete a version; not while it holds a protected alias or stage."""
        name = self._named(name, exactly=True)
        version = self._numbered(name, version)

        def write() -> None:
            super(ModelOverrides, self).delete_model_version(name, version)

        if not self.governance.policy().may_govern(self._get_active_workspace(), name):
            self._write_free(name, write)
            return
        number = mlflow_tables.version_number(version)

        def work(session: Session) -> Version | None:
            workspace = self.governance.workspace()
            mlflow_tables.lock_model(session, workspace, name)
            held = [(t, v) for t, v in self.governance.held(session, name) if v.version == number]
            if held:
                raise ProtectedDeleteError(
                    messages.protected_delete(
                        what=f"version {number} of '{name}'",
                        held=[(target, found.version) for target, found in held],
                    )
                )
            found = mlflow_tables.find_version(session, workspace, name, number)
            with install.admitted(session, workspace, name):
                write()
            if found is not None:
                ledger = self.enforcer.ledger(session)
                waiting = find_requests(session, version_uid=found.uid, only_open=True)
                requests.close_all(ledger, waiting, State.STALE, "the version was deleted")
                ledger.record("VERSION_DELETED", found)
            return found

        found = self._transactions.write(work)
        self.enforcer.file_locks.release([found] if found is not None else [])

    @recording
    def delete_registered_model(self, name: str) -> None:
        """Delete a model; not while it holds a protected alias or stage."""
        name = self._named(name, exactly=True)

        def write() -> None:
            super(ModelOverrides, self).delete_registered_model(name)

        if not self.governance.policy().may_govern(self._get_active_workspace(), name):
            self._write_free(name, write)
            return

        def work(session: Session) -> list[Version]:
            workspace = self.governance.workspace()
            mlflow_tables.lock_model(session, workspace, name)
            if held := self.governance.held(session, name):
                raise ProtectedDeleteError(
                    messages.protected_delete(
                        what=f"'{name}'", held=[(target, v.version) for target, v in held]
                    )
                )
            gone = mlflow_tables.all_versions(session, workspace, name)
            with install.admitted(session, workspace, name):
                write()
            ledger = self.enforcer.ledger(session)
            waiting = find_requests(session, workspace=workspace, name=name, only_open=True)
            requests.close_all(ledger, waiting, State.STALE, "the model was deleted")
            ledger.record("MODEL_DELETED", workspace=workspace, name=name)
            return gone

        self.enforcer.file_locks.release(self._transactions.write(work))

    @recording
    def rename_registered_model(self, name: str, new_name: str) -> Any:
        """Rename a model; not while it holds what a policy protects under either name."""
        name = self._named(name, exactly=True)

        def write() -> Any:
            return super(ModelOverrides, self).rename_registered_model(name, new_name)

        workspace = self._get_active_workspace()

        def work(session: Session) -> tuple[Any, list[Version]]:
            mlflow_tables.lock_model(session, workspace, name)
            if held := self.governance.held(session, name, also_as=new_name):
                raise ProtectedRenameError(
                    messages.protected_rename(
                        name=name, new_name=new_name, held=[(t, v.version) for t, v in held]
                    )
                )
            ledger = self.enforcer.ledger(session)
            before = mlflow_tables.all_versions(session, workspace, name)
            made_by = [
                (version.version, creator)
                for version in before
                if (creator := creators.creator_of(session, version)) is not None
            ]
            waiting = find_requests(session, workspace=workspace, name=name, only_open=True)
            with install.admitted(session, workspace, name, new_name):
                renamed = write()
            # An alias set meanwhile, while the name was free, came along.
            if came := self.governance.held(session, new_name):
                raise ProtectedRenameError(
                    messages.protected_rename(
                        name=name, new_name=new_name, held=[(t, v.version) for t, v in came]
                    )
                )
            requests.close_all(ledger, waiting, State.STALE, f"the model is '{new_name}' now")
            for number, creator in made_by:
                if version := mlflow_tables.find_version(session, workspace, new_name, number):
                    creators.note(session, version, creator, ledger.now_ms)
            if self.governance.policy().may_govern(
                workspace, name
            ) or self.governance.policy().may_govern(workspace, new_name):
                ledger.record(
                    "MODEL_RENAMED", workspace=workspace, name=name, after={"name": new_name}
                )
            return renamed, before

        renamed, before = self._transactions.write(work)
        # No approval follows a model to another name, and so no lock.
        self.enforcer.file_locks.release(before)
        return renamed

    def get_registered_model(self, name: str) -> Any:
        """Return a model as stock, without approvals that the ledger does not back."""
        found = super().get_registered_model(name)
        self._drop_false_approvals(found.latest_versions)
        return found

    def search_registered_models(
        self,
        filter_string: Any = None,
        max_results: Any = SEARCH_REGISTERED_MODEL_MAX_RESULTS_DEFAULT,
        order_by: Any = None,
        page_token: Any = None,
    ) -> Any:
        """Search as stock, under the same terms."""
        found = super().search_registered_models(filter_string, max_results, order_by, page_token)
        self._drop_false_approvals(version for model in found for version in model.latest_versions)
        return found

    def get_model_version(self, name: str, version: Any) -> Any:
        """Return a version; to consumers that get approved ones only, none but these."""
        version = self._numbered(name, version)
        self._refuse_unapproved(name, version)
        found = super().get_model_version(name, version)
        self._drop_false_approvals([found])
        if PROMPT_FLAG_TAG not in found.tags:  # a prompt's description is its commit message
            found.description = description_links.added(
                found.description, found.tags, REVIEW_URL.get(), self.governance.workspace()
            )
        return found

    def update_model_version(self, name: str, version: Any, description: str | None = None) -> Any:
        """Change the description, without the links that reading the version added."""
        return super().update_model_version(name, version, description_links.removed(description))

    def search_model_versions(
        self,
        filter_string: Any = None,
        max_results: Any = SEARCH_MODEL_VERSION_MAX_RESULTS_DEFAULT,
        order_by: Any = None,
        page_token: Any = None,
    ) -> Any:
        """Search as stock, without approvals that the ledger does not back."""
        found = super().search_model_versions(filter_string, max_results, order_by, page_token)
        self._drop_false_approvals(found)
        return found

    def get_model_version_download_uri(self, name: str, version: Any) -> Any:
        """Return where a version's files are, under the same terms."""
        version = self._numbered(name, version)
        self._refuse_unapproved(name, version)
        return super().get_model_version_download_uri(name, version)

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        """Return the version behind an alias, under the same terms."""
        found = super().get_model_version_by_alias(name, alias)
        self._refuse_unapproved(name, found.version)
        self._drop_false_approvals([found])
        return found

    def get_latest_versions(self, name: str, stages: Any = None) -> Any:
        """Return the highest version of each stage; to such consumers, the highest approved."""
        latest = super().get_latest_versions(name, stages)
        name = self._named(name)
        if not self.governance.is_consumer(name):
            self._drop_false_approvals(latest)
            return latest

        def approved(session: Session) -> list[Version]:
            versions = mlflow_tables.all_versions(session, self.governance.workspace(), name)
            return [v for v in versions if self.governance.unapproved_by(session, v) is None]

        wanted = {stage.lower() for stage in stages or STAGES}
        highest = {
            version.stage: version.version
            for version in self._transactions.read(approved)
            if version.stage.lower() in wanted
        }
        found = [super(ModelOverrides, self).get_model_version(name, v) for v in highest.values()]
        self._drop_false_approvals(found)
        return found

    def _drop_false_approvals(self, found: Iterable[Any]) -> None:
        """Remove tags that show an approval which the ledger does not back from what a caller gets.

        `verify`, `wait` and `show` go by these tags. That all of them are true is checked in the
        background only.
        """
        workspace = self.governance.workspace()
        versions = {(version.name, int(version.version)): version for version in found}
        shown = [
            StoredTag(workspace, *about, key, value)
            for about, version in versions.items()
            for key, value in version.tags.items()
            if key.startswith(PROJECTION_PREFIX)
        ]
        if not shown:
            return
        for tag in self._transactions.read(lambda s: unbacked_tags.false_approvals(s, shown)):
            del versions[tag.name, tag.version or 0].tags[tag.key]

    def _refuse_unapproved(self, name: str, version: Any) -> None:
        name = self._named(name)
        if not self.governance.is_consumer(name):
            return
        number = mlflow_tables.version_number(version)

        def work(session: Session) -> ApprovalError | None:
            found = mlflow_tables.find_version(session, self.governance.workspace(), name, number)
            rule = self.governance.unapproved_by(session, found) if found is not None else None
            if rule is None:
                return None
            return ApprovalRequiredError(
                messages.not_for_consumers(
                    name=name, version=number, user=self.governance.actor(), policy=rule.name
                )
            )

        if (refusal := self._transactions.read(work)) is not None:
            self.enforcer.record_refusal(refusal, name, number)
            raise refusal


def _without_reserved(tags: Iterable[Any] | None) -> list[Any] | None:
    """Drop this store's tags: copying a version copies its tags, and approval is not copied."""
    return None if tags is None else [tag for tag in tags if not is_reserved_tag(tag.key)]
