"""What every approvals store must do, whatever its database, with workspaces and without.

A test class inherits `RegistryStoreContract` and gives the fixtures ``store`` (an approvals store
under `POLICY`) and ``oracle`` (a stock store on the same database).
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException
from mlflow.prompt.constants import IS_PROMPT_TAG_KEY, PROMPT_TEXT_TAG_KEY

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.approvals.background import drift
from mlflow_plugins_pack.approvals.database import schema
from mlflow_plugins_pack.approvals.domain.request_states import State
from mlflow_plugins_pack.approvals.ledger import audit_log
from mlflow_plugins_pack.approvals.ledger.requests import find_requests
from mlflow_plugins_pack.approvals.reports import listings
from tests.support.acting import signed_in

POLICY = """
version: 1
groups: {leads: [bob, carol], risk: [dave], ci: [svc-ci]}
policies:
  - name: prod
    match: {models: ["gov-*"], exclude: ["*-sandbox"], prompts: ["say-*"]}
    targets: {aliases: [prod], stages: [Production]}
    approvals: [{group: leads, count: 1}, {group: risk, count: 1}]
  - name: checked
    match: {models: ["chk-*"]}
    targets: {aliases: [prod]}
    approvals: [{group: leads}]
    checks: [{tag: tests, equals: passed, writers: ["group:ci"]}]
    demote: {approvals: 0}
"""

_numbers = itertools.count(1)


def new_name(prefix: str = "gov") -> str:
    """Return a name no test has used."""
    return f"{prefix}-{next(_numbers)}"


class RegistryStoreContract:
    """The tests."""

    @pytest.fixture(autouse=True)
    def _here(self, store: Any, tmp_path: Path) -> None:
        self.store = store
        self.folder = tmp_path

    # --- helpers ------------------------------------------------------------------------------

    def version(self, name: str, *, by: str = "alice", tags: Any = None) -> int:
        """Register a version with files of its own."""
        source = self.folder / f"files-{next(_numbers)}"
        source.mkdir()
        (source / "weights").write_text(f"weights of {source}")
        with signed_in(by):
            try:
                self.store.get_registered_model(name)
            except MlflowException:
                self.store.create_registered_model(name)
            return int(self.store.create_model_version(name, str(source), tags=tags).version)

    def say(self, user: str | None, command: str, name: str, version: int, value: str) -> None:
        with signed_in(user):
            tag = ModelVersionTag(f"approvals.{command}", value)
            self.store.set_model_version_tag(name, version, tag)

    def approve(self, name: str, version: int, target: str = "prod", by: str = "bob dave") -> None:
        for user in by.split():
            self.say(user, "approve", name, version, f"{target}: ok")

    def promote(self, name: str, version: int) -> None:
        """Have a version approved for prod and set."""
        self.say("erin", "request", name, version, "prod: please")
        self.approve(name, version)
        self.set_alias("erin", name, version)

    def set_alias(self, user: str | None, name: str, version: int, alias: str = "prod") -> None:
        with signed_in(user):
            self.store.set_registered_model_alias(name, alias, version)

    def refused(self, kind: type[errors.ApprovalError], call: Callable[[], Any]) -> str:
        with pytest.raises(kind) as caught:
            call()
        assert caught.value.get_http_status_code() < 500
        assert caught.value.message.startswith(f"{kind.code}: ")
        return str(caught.value.message)

    def holder(self, name: str, alias: str = "prod") -> int | None:
        aliases = self.store.get_registered_model(name).aliases
        return None if alias not in aliases else int(aliases[alias])

    def state(self, name: str, version: int, target: str = "prod") -> str | None:
        tags = self.store.get_model_version(name, version).tags
        found: str | None = tags.get(f"mlflow_approvals.{target}")
        return found

    def requests(self, name: str) -> list[Any]:
        with self.store.engine.connect() as connection:
            return find_requests(connection, name=name)

    # --- stock where nothing is governed --------------------------------------------------------

    def test_ungoverned_models_equal_stock(self, oracle: Any) -> None:
        ours, stock = new_name("free"), new_name("free")
        seen = [self._story(self.store, ours), self._story(oracle, stock)]
        assert str(seen[0]).replace(ours, "X") == str(seen[1]).replace(stock, "X")

    def _story(self, store: Any, name: str) -> list[Any]:
        seen: list[Any] = []

        def do(method: str, *arguments: Any, **options: Any) -> None:
            try:
                seen.append(_plain(getattr(store, method)(*arguments, **options)))
            except MlflowException as exc:
                seen.append((exc.error_code, exc.message.split("\n")[0]))

        tag = ModelVersionTag("k", "v")
        do("create_registered_model", name, [RegisteredModelTag("a", "b")], "about")
        do("create_registered_model", name)
        for _ in range(3):
            do("create_model_version", name, "s3://bucket/m", tags=[tag], description="d")
        do("create_model_version", name, f"models:/{name}/1", run_link="link")
        do("set_registered_model_alias", name, "prod", 1)
        do("set_registered_model_alias", name, "prod", "2")
        do("set_registered_model_alias", name, "v1", "2")
        do("set_registered_model_alias", name, "prod", 99)
        do("set_registered_model_alias", name, "prod", "x")
        do("get_model_version_by_alias", name, "prod")
        do("transition_model_version_stage", name, 1, "Production", False)
        do("transition_model_version_stage", name, 2, "production", True)
        do("transition_model_version_stage", name, 2, "Nowhere", False)
        do("transition_model_version_stage", name, 99, "Staging", False)
        do("get_latest_versions", name)
        do("set_model_version_tag", name, 1, ModelVersionTag("tests", "passed"))
        do("set_model_version_tag", name, 99, tag)
        do("delete_model_version_tag", name, 1, "k")
        do("update_model_version", name, 1, "text")
        do("set_registered_model_tag", name, RegisteredModelTag("c", "d"))
        do("delete_registered_model_tag", name, "c")
        do("delete_registered_model_alias", name, "prod")
        do("delete_registered_model_alias", name, "prod")
        do("delete_registered_model_alias", name, "***")
        do("delete_model_version", name, 2)
        do("delete_model_version", name, 2)
        do("rename_registered_model", name, name + "-b")
        do("rename_registered_model", name, name + "-b")
        do("search_model_versions", f"name = '{name}-b'")
        do("get_model_version_download_uri", name + "-b", 4)
        do("delete_registered_model", name + "-b")
        do("delete_registered_model", name + "-b")
        return seen

    # --- aliases ------------------------------------------------------------------------------

    def test_protected_alias_needs_approval_of_exactly_this_version(self) -> None:
        name = new_name()
        one, two = self.version(name), self.version(name)
        self.refused(errors.ApprovalRequiredError, lambda: self.set_alias("erin", name, one))
        assert self.state(name, one) == "PENDING 0/2"
        self.approve(name, one)
        assert self.holder(name) is None
        self.set_alias("zoe", name, one)
        assert self.holder(name) == one
        text = self.refused(errors.ApprovalRequiredError, lambda: self.set_alias("erin", name, two))
        assert "Version 2 has 0 of 2 approvals" in text
        assert self.holder(name) == one
        self.set_alias("erin", name, one)  # it is so already

    def test_free_aliases_of_governed_models_are_free(self) -> None:
        name = new_name()
        version = self.version(name)
        self.set_alias(None, name, version, "dev")
        assert self.holder(name, "dev") == version

    @pytest.mark.parametrize("alias", ["Prod", "PROD", "ｐｒｏｄ"])
    def test_lookalikes_of_a_protected_alias_are_refused(self, alias: str) -> None:
        name = new_name()
        version = self.version(name)
        self.refused(
            errors.ApprovalRequiredError, lambda: self.set_alias("erin", name, version, alias)
        )
        assert self.store.get_registered_model(name).aliases == {}

    def test_no_version_that_cannot_be_is_an_unexpected_failure(self) -> None:
        name, checked, store = new_name(), new_name("chk"), self.store
        self.version(name)
        self.version(checked)
        asked = ModelVersionTag("approvals.request", "prod: x")
        text = ModelVersionTag(PROMPT_TEXT_TAG_KEY, "x")
        for version in ("abc", "", "-1", "1.5", "9" * 20, str(2**31)):
            for call in (
                lambda v: store.set_registered_model_alias(name, "prod", v),
                lambda v: store.transition_model_version_stage(name, v, "Production", True),
                lambda v: store.delete_model_version(name, v),
                lambda v: store.delete_model_version_tag(checked, v, "tests"),
                lambda v: self.store.set_model_version_tag(name, v, asked),
                lambda v: self.store.set_model_version_tag(name, v, text),
            ):
                with signed_in("erin"), pytest.raises(MlflowException) as caught:
                    call(version)
                assert caught.value.get_http_status_code() < 500

    def test_a_missing_tag_key_is_mlflows_own_error(self) -> None:
        version, store = str(self.version("gov-tags")), self.store
        for call in (
            lambda: store.set_registered_model_tag("gov-tags", RegisteredModelTag(None, "x")),
            lambda: store.delete_registered_model_tag("gov-tags", None),
            lambda: store.set_model_version_tag("gov-tags", version, ModelVersionTag(None, "x")),
            lambda: store.delete_model_version_tag("gov-tags", version, None),
        ):
            with pytest.raises(MlflowException, match=r"parameter '(key|name)'"):
                call()

    def test_no_command_that_cannot_be_read_is_an_unexpected_failure(self) -> None:
        name = new_name()
        version = self.version(name)
        for command in ("request", "approve", "cancel", "comment"):
            for value in ("", ":", "stage:", "stage:Nowhere: x", "x" * 8000, "a b: x", "\x01"):
                tag = ModelVersionTag(f"approvals.{command}", value)
                self.refused(
                    errors.InvalidCommandError,
                    lambda t=tag: self.store.set_model_version_tag(name, version, t),  # type: ignore[misc]
                )

    def test_deleting_a_protected_alias_needs_approval(self) -> None:
        name = new_name()
        version = self.version(name)
        self.promote(name, version)

        def delete() -> None:
            with signed_in("erin"):
                self.store.delete_registered_model_alias(name, "prod")

        self.refused(errors.ApprovalRequiredError, delete)
        assert self.state(name, version) == "DEMOTE PENDING 0/2"
        assert self.holder(name) == version
        self.approve(name, version)
        delete()
        assert self.holder(name) is None
        assert self.state(name, version) == "DEMOTED 2/2 (bob, dave)"
        delete()  # as stock: nothing to delete is not an error

    def test_demotion_may_need_nobody_but_a_name(self) -> None:
        name = new_name("chk")
        version = self.version(name)
        with signed_in("svc-ci"):
            self.store.set_model_version_tag(name, version, ModelVersionTag("tests", "passed"))
        self.say("erin", "request", name, version, "prod")
        self.approve(name, version, by="bob")
        self.set_alias("erin", name, version)

        def delete(user: str | None) -> None:
            with signed_in(user):
                self.store.delete_registered_model_alias(name, "prod")

        self.refused(errors.IdentityRequiredError, lambda: delete(None))
        delete("erin")
        assert self.holder(name) is None

    def test_a_lost_update_does_not_win(self) -> None:
        name = new_name()
        one, two, three = (self.version(name) for _ in range(3))
        self.say("erin", "request", name, one, "prod")
        self.say("erin", "request", name, two, "prod")
        for version in (one, two):
            self.approve(name, version)
        self.set_alias("erin", name, one)
        assert self.state(name, two).startswith("SUPERSEDED")
        text = self.refused(errors.ApprovalRequiredError, lambda: self.set_alias("erin", name, two))
        assert "0 of 2" in text
        # The store was bypassed: the holder is no longer the one the approvers saw.
        self.say("erin", "request", name, three, "prod")
        self.approve(name, three)
        self._move_behind_the_back(name, two)
        text = self.refused(errors.HolderChangedError, lambda: self.set_alias("erin", name, three))
        assert "was held by version 1, now by version 2" in text
        assert self.holder(name) == two
        assert [d["version"] for d in self._drift(name)] == [two]

    def _move_behind_the_back(self, name: str, version: int) -> None:
        with self.store.engine.begin() as connection:
            connection.execute(
                sa.text(
                    "UPDATE registered_model_aliases SET version = :v "
                    "WHERE name = :n AND alias = 'prod'"
                ),
                {"v": version, "n": name},
            )

    def _drift(self, name: str) -> list[dict[str, Any]]:
        policy = self.store.governance.policy()
        found = self.store._transactions.read(lambda s: drift.find(s, policy))
        return [finding.as_row() for finding in found if finding.model == name]

    # --- people -------------------------------------------------------------------------------

    def test_nobody_is_nobody(self) -> None:
        name = new_name()
        version = self.version(name)
        self.refused(errors.IdentityRequiredError, lambda: self.set_alias(None, name, version))
        with pytest.raises(errors.IdentityRequiredError):  # outside any request, as a job is
            self.store.set_registered_model_alias(name, "prod", version)
        self.say("erin", "request", name, version, "prod")
        for command in ("approve", "reject", "cancel", "request"):
            with pytest.raises(errors.IdentityRequiredError):
                self.say(None, command, name, version, "prod: me")
        self.say(None, "comment", name, version, "prod: nice")

    def test_own_requests_and_own_versions_cannot_be_approved(self) -> None:
        name = new_name()
        version = self.version(name, by="bob")
        self.say("carol", "request", name, version, "prod")
        for user, why in (("bob", "registered the version"), ("carol", "made the request")):
            text = self.refused(
                errors.SelfApprovalError,
                lambda user=user: self.approve(name, version, by=user),
            )
            assert why in text
        for user in ("erin", "admin", "BOB", "bob "):
            with pytest.raises((errors.NotAnApproverError, errors.SelfApprovalError)):
                self.say(user, "approve", name, version, "prod")
        assert self.state(name, version) == "PENDING 0/2"

    def test_reject_cancel_and_ask_again(self) -> None:
        name = new_name()
        version = self.version(name)
        self.say("erin", "request", name, version, "prod: first")
        self.refused(
            errors.NotAnApproverError, lambda: self.say("bob", "cancel", name, version, "prod")
        )
        self.say("erin", "cancel", name, version, "prod: not yet")
        assert self.state(name, version) == "CANCELLED: by erin: not yet"
        self.say("erin", "request", name, version, "prod: second")
        self.approve(name, version, by="bob")
        self.say("dave", "reject", name, version, "prod: too risky")
        self.say("dave", "reject", name, version, "prod: too risky")
        text = self.refused(
            errors.ApprovalRequiredError, lambda: self.set_alias("erin", name, version)
        )
        assert "was rejected (by dave: too risky)" in text
        self.refused(errors.NoOpenRequestError, lambda: self.approve(name, version, by="bob"))
        self.say("erin", "request", name, version, "prod: third")
        assert self.state(name, version) == "PENDING 0/2"
        states = sorted(request.state.value for request in self.requests(name))
        assert states == ["CANCELLED", "PENDING", "REJECTED"]

    @pytest.mark.parametrize(
        "value",
        ["", ":", "prod/x: y", "stage:Nowhere: x", "stage:", "a b: c", "prod: " + "x" * 5001],
    )
    def test_malformed_commands(self, value: str) -> None:
        name = new_name()
        version = self.version(name)
        self.refused(
            errors.InvalidCommandError, lambda: self.say("bob", "approve", name, version, value)
        )
        assert self.requests(name) == []

    # --- stages -------------------------------------------------------------------------------

    def move(self, user: str, name: str, version: int, stage: str, archive: bool = False) -> Any:
        with signed_in(user):
            return self.store.transition_model_version_stage(name, version, stage, archive)

    def stages(self, name: str) -> dict[int, str]:
        found = self.store.search_model_versions(f"name = '{name}'")
        return {int(v.version): v.current_stage for v in found}

    def test_stages_in_and_out_and_archiving(self) -> None:
        name = new_name()
        one, two = self.version(name), self.version(name)
        self.move("erin", name, one, "Staging")
        refusal = errors.ApprovalRequiredError
        self.refused(refusal, lambda: self.move("erin", name, one, "PRODUCTION"))
        self.approve(name, one, "stage:Production")
        self.move("erin", name, one, "Production")
        for stage in ("Archived", "None", "Staging"):
            self.refused(refusal, lambda stage=stage: self.move("erin", name, one, stage))
        assert self.stages(name) == {one: "Production", two: "None"}
        self.say("erin", "cancel", name, one, "stage:Production")
        # Approval without archiving does not cover archiving.
        self.say("erin", "request", name, two, "stage:Production")
        self.approve(name, two, "stage:Production")
        text = self.refused(refusal, lambda: self.move("erin", name, two, "Production", True))
        assert "does not cover archiving" in text
        self.refused(
            errors.NotAnApproverError,
            lambda: self.say("erin", "cancel", name, two, "stage:Production"),
        )
        self.say("bob", "reject", name, two, "stage:Production")
        self.refused(refusal, lambda: self.move("erin", name, two, "Production", True))
        self.approve(name, two, "stage:Production")
        self.move("erin", name, two, "Production", True)
        assert self.stages(name) == {one: "Archived", two: "Production"}
        assert self.state(name, one, "stage:Production") == "REPLACED by version 2"
        assert self._drift(name) == []

    # --- deletes, renames, copies -------------------------------------------------------------

    def test_holders_are_neither_deleted_nor_renamed(self) -> None:
        name = new_name()
        one, two = self.version(name), self.version(name)
        self.promote(name, one)
        store = self.store
        delete = errors.ProtectedDeleteError
        self.refused(delete, lambda: store.delete_model_version(name, one))
        self.refused(delete, lambda: store.delete_registered_model(name))
        for new in (new_name("free"), new_name("gov")):
            self.refused(
                errors.ProtectedRenameError,
                lambda new=new: store.rename_registered_model(name, new),
            )
        with signed_in("erin"):
            store.delete_model_version(name, two)
        assert self.holder(name) == one

    def test_a_free_model_cannot_be_renamed_into_production(self) -> None:
        free, name = new_name("free"), new_name()
        version = self.version(free)
        self.set_alias(None, free, version)
        self.refused(
            errors.ProtectedRenameError,
            lambda: self.store.rename_registered_model(free, name),
        )
        with signed_in("erin"):
            self.store.delete_registered_model_alias(free, "prod")
            self.store.rename_registered_model(free, name)
        self.say("erin", "request", name, version, "prod")
        self.refused(  # who made it is known under the new name too
            errors.NotAnApproverError, lambda: self.approve(name, version, by="alice")
        )
        request = self.requests(name)[0]
        assert request.creator == "alice"

    def test_a_recreated_model_inherits_nothing(self) -> None:
        name = new_name()
        version = self.version(name)
        self.say("erin", "request", name, version, "prod")
        self.approve(name, version)
        with signed_in("erin"):
            self.store.delete_registered_model(name)
        again = self.version(name)
        assert again == version
        text = self.refused(
            errors.ApprovalRequiredError, lambda: self.set_alias("erin", name, again)
        )
        assert "0 of 2" in text
        states = sorted(request.state.value for request in self.requests(name))
        assert states == ["PENDING", "STALE"]

    def test_copied_tags_approve_nothing(self) -> None:
        name = new_name("chk")
        tags = [
            ModelVersionTag("mlflow_approvals.prod", "APPLIED 1/1 (bob)"),
            ModelVersionTag("approvals.approve", "prod: me"),
            ModelVersionTag("tests", "passed"),
            ModelVersionTag("kept", "yes"),
        ]
        version = self.version(name, tags=tags)
        assert self.store.get_model_version(name, version).tags == {"kept": "yes"}
        with signed_in("erin"):
            made = self.store.create_registered_model(
                new_name(), [RegisteredModelTag("mlflow_approvals.prod", "APPLIED")]
            )
        assert made.tags == {}

    # --- tags ---------------------------------------------------------------------------------

    def test_projection_tags_cannot_be_forged(self) -> None:
        name = new_name()
        version = self.version(name)
        tag = ModelVersionTag("mlflow_approvals.prod", "APPROVED")
        store, kind = self.store, errors.ReservedTagError
        self.refused(kind, lambda: store.set_model_version_tag(name, version, tag))
        self.refused(kind, lambda: store.delete_model_version_tag(name, version, tag.key))
        model_tag = RegisteredModelTag("Mlflow_Approvals.prod", "APPROVED")
        self.refused(kind, lambda: store.set_registered_model_tag(name, model_tag))
        self.refused(kind, lambda: store.delete_registered_model_tag(name, model_tag.key))

    def test_check_tags_count_from_their_writers_only(self) -> None:
        name = new_name("chk")
        version = self.version(name)

        def test(user: str | None, value: str) -> None:
            with signed_in(user):
                tag = ModelVersionTag("tests", value)
                self.store.set_model_version_tag(name, version, tag)

        for user in ("erin", "bob", None):
            text = self.refused(errors.ReservedTagError, lambda user=user: test(user, "passed"))
            assert "only group:ci may" in text
        self.say("erin", "request", name, version, "prod")
        self.approve(name, version, by="bob")
        text = self.refused(errors.ChecksFailedError, lambda: self.set_alias("erin", name, version))
        assert "the tag 'tests' to be 'passed', and it is not set" in text
        test("svc-ci", "passed")
        test("svc-ci", "failed")
        assert self.state(name, version) == "STALE: the tag 'tests' changed"
        test("svc-ci", "passed")
        self.say("erin", "request", name, version, "prod")
        self.approve(name, version, by="bob")
        self.set_alias("erin", name, version)
        assert self.holder(name) == version

    # --- bytes --------------------------------------------------------------------------------

    def test_changed_bytes_are_not_applied(self) -> None:
        name = new_name()
        version = self.version(name)
        self.say("erin", "request", name, version, "prod")
        self.approve(name, version)
        source = Path(self.store.get_model_version_download_uri(name, version))
        (source / "weights").write_text("evil")
        text = self.refused(
            errors.StaleApprovalError, lambda: self.set_alias("erin", name, version)
        )
        assert "its files have changed since" in text
        assert self.holder(name) is None
        assert self.requests(name)[0].state is State.STALE

    def test_bytes_that_cannot_be_read_cannot_be_approved(self) -> None:
        name = new_name()
        with signed_in("alice"):
            self.store.create_registered_model(name)
            self.store.create_model_version(name, str(self.folder / "nothing-here"))
        self.refused(errors.DigestUnavailableError, lambda: self.set_alias("erin", name, 1))
        with pytest.raises(errors.DigestUnavailableError):
            self.say("erin", "request", name, 1, "prod")
        assert self.requests(name) == []

    # --- prompts ------------------------------------------------------------------------------

    def test_prompts_are_governed_and_their_text_is_locked(self) -> None:
        name, store = new_name("say"), self.store
        with signed_in("alice"):
            store.create_prompt(name)
            store.create_prompt_version(name, "Be kind.")

        def rewrite() -> None:
            with signed_in("erin"):
                tag = ModelVersionTag(PROMPT_TEXT_TAG_KEY, "Be evil.")
                store.set_model_version_tag(name, 1, tag)

        def alias() -> None:
            with signed_in("erin"):
                store.set_prompt_alias(name, "prod", 1)

        self.refused(errors.ApprovalRequiredError, alias)
        self.refused(errors.ContentLockedError, rewrite)
        self.approve(name, 1)
        alias()
        assert store.get_prompt_version_by_alias(name, "prod").template == "Be kind."
        self.refused(errors.ContentLockedError, rewrite)
        self.refused(
            errors.ContentLockedError,
            lambda: store.delete_model_version_tag(name, 1, PROMPT_TEXT_TAG_KEY),
        )
        self.refused(
            errors.ReservedTagError,
            lambda: store.delete_registered_model_tag(name, IS_PROMPT_TAG_KEY),
        )

    def test_calling_a_model_a_prompt_frees_nothing(self) -> None:
        name = new_name()
        with signed_in("erin"):
            self.store.create_registered_model(
                name, [RegisteredModelTag(IS_PROMPT_TAG_KEY, "true")]
            )
        version = self.version(name)
        self.refused(errors.ApprovalRequiredError, lambda: self.set_alias("erin", name, version))

    def test_a_prompt_with_a_real_source_is_still_a_prompt(self) -> None:
        name = new_name("say")
        with signed_in("alice"):
            self.store.create_prompt(name)
        version = self.version(name, tags=[ModelVersionTag(PROMPT_TEXT_TAG_KEY, "Be evil.")])
        self.refused(errors.ApprovalRequiredError, lambda: self.set_alias("erin", name, version))
        self.approve(name, version)
        tag = ModelVersionTag(PROMPT_TEXT_TAG_KEY, "Be worse.")
        self.refused(
            errors.ContentLockedError,
            lambda: self.store.set_model_version_tag(name, version, tag),
        )
        source = Path(self.store.get_model_version_download_uri(name, version))
        (source / "weights").write_text("other")
        self.refused(errors.StaleApprovalError, lambda: self.set_alias("erin", name, version))

    def test_no_look_alike_of_a_name_or_tag_reaches_a_protected_row(self) -> None:
        """MySQL finds rows by names that only look like theirs."""
        name = new_name()
        one, two = self.version(name), self.version(name)
        self.promote(name, one)
        for model, alias in ((name.replace("o", "ó"), "prod"), (name, "pród"), (name, "prøđ")):
            with pytest.raises(MlflowException) as caught:
                self.set_alias("erin", model, two, alias)
            assert caught.value.get_http_status_code() < 500
        assert self.store.get_registered_model(name).aliases == {"prod": one}
        tag = ModelVersionTag("mlflow_appróvals.prod", "FORGED")
        with pytest.raises(errors.ReservedTagError):
            self.store.set_model_version_tag(name, one, tag)

    def test_no_approval_survives_a_change_of_workspace(self) -> None:
        """MLflow moves models between workspaces by raw updates when one is deleted."""
        from mlflow.utils.workspace_context import WorkspaceContext

        name = new_name()
        one, two = self.version(name), self.version(name)
        self.promote(name, one)
        self.say("erin", "request", name, two, "prod")
        self.approve(name, two)
        with self.store.engine.begin() as connection:
            # The tables below registered_models follow by ON UPDATE CASCADE.
            if connection.dialect.name == "sqlite":
                connection.execute(sa.text("PRAGMA foreign_keys = ON"))
            connection.execute(
                sa.text("UPDATE registered_models SET workspace = 'team-b' WHERE name = :n"),
                {"n": name},
            )
        with WorkspaceContext("team-b"):
            assert self.holder(name) == one
            findings = {(d["workspace"], d["version"], d["kind"]) for d in self._drift(name)}
            assert findings == {("team-b", one, "unapproved"), ("team-a", one, "removed")}
            text = self.refused(
                errors.ApprovalRequiredError, lambda: self.set_alias("erin", name, two)
            )
            assert "0 of 2" in text
            assert self.holder(name) == one

    # --- concurrency, atomicity, audit --------------------------------------------------------

    def test_racing_votes_and_calls_apply_once(self) -> None:
        name = new_name()
        version = self.version(name)
        self.say("erin", "request", name, version, "prod")
        unexpected: list[BaseException] = []
        workspace = self.store._get_active_workspace()
        start = threading.Barrier(12)

        def run(user: str, work: Callable[[], None]) -> None:
            from mlflow.utils.workspace_context import ServerWorkspaceContext

            with ServerWorkspaceContext(workspace):
                start.wait(30)
                for _ in range(3):
                    try:
                        work()
                    except (errors.ApprovalRequiredError, errors.NoOpenRequestError):
                        continue
                    except BaseException as exc:
                        unexpected.append(exc)

        workers = []
        for index in range(12):
            user = ("bob", "dave", "erin", "zoe")[index % 4]
            if user in ("bob", "dave"):
                work = lambda user=user: self.approve(name, version, by=user)  # noqa: E731
            else:
                work = lambda user=user: self.set_alias(user, name, version)  # noqa: E731
            workers.append(threading.Thread(target=run, args=(user, work)))
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
        assert unexpected == []
        self.set_alias("erin", name, version)
        assert self.holder(name) == version
        assert [request.state for request in self.requests(name)] == [State.APPLIED]
        assert len(self._audited(name, "APPLIED")) == 1
        assert sorted(r["actor"] for r in self._audited(name, "VOTED")) == ["bob", "dave"]
        assert self._verify().is_intact

    def _audited(self, name: str, action: str) -> list[dict[str, Any]]:
        with self.store.engine.connect() as connection:
            rows = listings.audit_entries(connection, 100_000)
        return [row for row in rows if row["name"] == name and row["action"] == action]

    def _verify(self) -> audit_log.Verification:
        with self.store.engine.connect() as connection:
            return audit_log.verify(connection)

    def test_a_failure_on_the_way_leaves_nothing_behind(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = new_name()
        version = self.version(name)
        self.say("erin", "request", name, version, "prod")
        self.approve(name, version)
        real = audit_log.append

        def failing(session: Any, *, action: str, **values: Any) -> None:
            if action == "APPLIED":
                raise MlflowException("the power went out")
            real(session, action=action, **values)

        with monkeypatch.context() as patch:
            patch.setattr(audit_log, "append", failing)
            with pytest.raises(MlflowException, match="power"):
                self.set_alias("erin", name, version)
        assert self.holder(name) is None
        assert self.requests(name)[0].state is State.APPROVED
        assert self.state(name, version) == "APPROVED 2/2 (bob, dave)"
        self.set_alias("erin", name, version)
        assert self.holder(name) == version

    @pytest.mark.parametrize(
        "statement", ["UPDATE mpp_audit SET actor = 'x'", "DELETE FROM mpp_audit"]
    )
    def test_the_audit_table_is_append_only(self, statement: str) -> None:
        self.version(new_name())
        self.promote(name := new_name(), self.version(name))
        engine = self.store.engine
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), engine.begin() as connection:
            connection.execute(sa.text(statement))
        with engine.connect() as connection:
            assert schema.missing_triggers(connection) == []
        assert self._verify().is_intact


def _plain(value: Any) -> Any:
    """Return what a store answered without what must differ: times."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, (list, tuple)):
        items = [_plain(item) for item in value]
        # Stock gives what belongs to a model in whatever order the database has it; searches order.
        return sorted(items, key=str) if type(value) is list else items
    skipped = {"_creation_time", "_creation_timestamp", "_last_updated_timestamp", "_workspace"}
    return {
        key: str(_plain(item)) if not isinstance(item, dict) else item
        for key, item in sorted(vars(value).items())
        if key not in skipped
    }
