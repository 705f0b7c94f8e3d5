"""The whole text of every refusal, as it leaves a real store: what, why, what was not changed, what
to do next."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.approvals.content import digest
from mlflow_plugins_pack.approvals.content.hashing import ReadingStoppedError
from mlflow_plugins_pack.approvals.enforcement import enforcer
from tests.approvals.support.bench import ClockBench
from tests.support.acting import signed_in

POLICY = """
version: 1
groups: {leads: [bob, carol], risk: [dave], ci: [svc-ci], oncall: [zoe]}
policies:
  - name: prod
    match: {models: ["gov-*"], prompts: ["say-*"]}
    targets: {aliases: [prod], stages: [Production]}
    approvals: [{group: leads, count: 1}, {group: risk, count: 1}]
    checks: [{tag: tests, equals: passed, writers: ["group:ci"]}]
    break_glass: {group: oncall}
    consume: {principals: [svc-web], require: approved}
  - name: lab
    match: {models: ["gov-*"]}
    targets: {stages: [Staging]}
    approvals: []
"""
_names = itertools.count(1)


class GovernedBench(ClockBench):
    """A bench under that policy, whose model has two versions."""

    @classmethod
    def of(cls, bench: ClockBench) -> GovernedBench:
        bench.file.write_text(POLICY)
        bench.__class__ = cls
        assert isinstance(bench, GovernedBench)
        bench.version()
        bench.version()
        return bench

    def tag(self, user: str | None, version: int, key: str, value: str) -> None:
        with signed_in(user):
            self.store.set_model_version_tag("gov-a", version, ModelVersionTag(key, value))

    def approve(self, version: int, target: str = "prod") -> None:
        self.say("erin", "request", version, f"{target}: please")
        self.tag("svc-ci", version, "tests", "passed")
        for user in ("bob", "dave"):
            self.say(user, "approve", version, f"{target}: ok")

    def promote(self, version: int) -> None:
        self.approve(version)
        self.set_alias(version)

    def stage(self, version: int, stage: str, archive: bool = False) -> None:
        with signed_in("erin"):
            self.store.transition_model_version_stage("gov-a", version, stage, archive)


@pytest.fixture
def governed(bench: ClockBench) -> GovernedBench:
    return GovernedBench.of(bench)


# Each case: its code, the text after it with ID for a request's, and how it comes about.
CASES: list[tuple[type[errors.ApprovalError], str, Callable[[GovernedBench], Any]]] = []


def case(kind: type[errors.ApprovalError], text: str) -> Callable[[Any], Any]:
    def add(function: Callable[[GovernedBench], Any]) -> Callable[[GovernedBench], Any]:
        CASES.append((kind, text, function))
        return function

    return add


HOW = (
    'set the tag approvals.{0} = "prod: your reason" on version 1, or run: mlflow-pack approvals '
    "{0} models:/gov-a/1 prod -m REASON"
)
REQUEST = HOW.format("request")


@case(
    errors.ApprovalRequiredError,
    "alias 'prod' of 'gov-a' is protected by policy 'prod'. Version 1 has 0 of 2 approvals (leads "
    "0/1, risk 0/1). Request ID was filed; an approver from 'leads' and from 'risk' must approve "
    f"it: {HOW.format('approve')}. Then make this call again. The request is kept; alias 'prod' was "
    "not changed.",
)
def filed(governed: GovernedBench) -> None:
    governed.set_alias(1)


@case(
    errors.ApprovalRequiredError,
    "alias 'prod' of 'gov-a' is protected by policy 'prod'. Version 1 has 1 of 2 approvals (leads "
    "1/1, risk 0/1). Request ID is PENDING since 2027-01-15T08:00Z; an approver from 'risk' must "
    f"approve it: {HOW.format('approve')}. Then make this call again. Nothing was changed.",
)
def half_approved(governed: GovernedBench) -> None:
    governed.say("erin", "request", 1)
    governed.say("bob", "approve", 1)
    governed.set_alias(1)


@case(
    errors.ApprovalRequiredError,
    "taking alias 'prod' of 'gov-a' away from version 1 is protected by policy 'prod'. Version 1 "
    "has 0 of 2 approvals (leads 0/1, risk 0/1). Request ID was filed; an approver from 'leads' and "
    f"from 'risk' must approve it: {HOW.format('approve')}. Then make this call again. The request "
    "is kept; alias 'prod' was not changed.",
)
def taken_away(governed: GovernedBench) -> None:
    governed.promote(1)
    with signed_in("erin"):
        governed.store.delete_registered_model_alias("gov-a", "prod")


@case(
    errors.ApprovalRequiredError,
    "alias 'prod' of 'gov-a' is protected by policy 'prod'. Request ID for version 1 was rejected "
    f"(by dave: no), and asking again is a step of its own: {REQUEST}. Nothing was changed.",
)
def rejected(governed: GovernedBench) -> None:
    governed.say("erin", "request", 1)
    governed.say("dave", "reject", 1, "prod: no")
    governed.set_alias(1)


@case(
    errors.ApprovalRequiredError,
    "request ID for version 2 and stage 'Production' of 'gov-a' was made without "
    "archive_existing_versions, so approval of it does not cover archiving the versions that are "
    "there. Make the call without it; or cancel the request, or once others have voted have an "
    'approver reject it (set the tag approvals.reject = "stage:Production: your reason" on version '
    "2, or run: mlflow-pack approvals reject models:/gov-a/2 stage:Production -m REASON), and make "
    "this call again. Nothing was changed.",
)
def archiving(governed: GovernedBench) -> None:
    governed.approve(1, "stage:Production")
    governed.stage(1, "Production")
    governed.approve(2, "stage:Production")
    governed.stage(2, "Production", archive=True)


@case(
    errors.ApprovalRequiredError,
    "version 1 of 'gov-a' is stage 'Production', and taking it away from there needs the approval "
    "of another policy than making it stage 'Staging'. Nothing was changed. Move it to stage 'None' "
    "first, then to stage 'Staging'.",
)
def two_policies(governed: GovernedBench) -> None:
    governed.approve(1, "stage:Production")
    governed.stage(1, "Production")
    governed.stage(1, "Staging")


@case(
    errors.ApprovalRequiredError,
    "alias 'PROD' of 'gov-a' differs from the protected alias 'prod' of policy 'prod' only in case "
    "or form, and could be taken for it. Use 'prod'. Nothing was changed.",
)
def lookalike(governed: GovernedBench) -> None:
    with signed_in("erin"):
        governed.store.set_registered_model_alias("gov-a", "PROD", 1)


@case(
    errors.ApprovalRequiredError,
    "version 2 of 'gov-a' is not approved, and by policy 'prod' 'svc-web' gets approved versions "
    "only. Nothing was changed. Load a version that is approved, such as the one behind a protected "
    "alias.",
)
def consumer(governed: GovernedBench) -> None:
    with signed_in("svc-web"):
        governed.store.get_model_version("gov-a", 2)


@case(
    errors.IdentityRequiredError,
    "changing the protected alias 'prod' of 'gov-a' needs a signed-in person, and this call has "
    "none. Nothing was changed. Make it through a server that authenticates its users (mlflow "
    "server --app-name basic-auth), signed in; a direct connection to the database, a job process "
    "or an open server has no identity.",
)
def no_user(governed: GovernedBench) -> None:
    governed.store.set_registered_model_alias("gov-a", "prod", 1)


@case(
    errors.ChecksFailedError,
    "version 1 of 'gov-a' may not become alias 'prod': policy 'prod' requires the tag 'tests' to be "
    "'passed', and it is 'failed'. Nothing was changed. Put this right, then make this call again.",
)
def failed_tests(governed: GovernedBench) -> None:
    governed.tag("svc-ci", 1, "tests", "failed")
    governed.say("erin", "request", 1)
    governed.say("bob", "approve", 1)
    governed.say("dave", "approve", 1)
    governed.set_alias(1)


@case(
    errors.FrozenError,
    "alias 'prod' of 'gov-a' is frozen until 2027-01-16T00:00Z: policy 'prod' allows no change in "
    "the window '* * * * FRI' (UTC). Nothing was changed. The approval is kept; make this call again "
    "after that.",
)
def frozen(governed: GovernedBench) -> None:
    governed.approve(1)
    governed.edit("    break_glass", '    freeze: [{cron: "* * * * FRI"}]\n    break_glass')
    governed.set_alias(1)


@case(
    errors.SelfApprovalError,
    "'bob' made the request, and may not approve request ID for alias 'prod' of 'gov-a'. Nothing "
    "was changed. Another approver must approve it.",
)
def own_request(governed: GovernedBench) -> None:
    governed.say("bob", "request", 1)
    governed.say("bob", "approve", 1)


@case(
    errors.NotAnApproverError,
    "'erin' has no vote on alias 'prod' of 'gov-a': policy 'prod' counts 'leads', 'risk'. Nothing "
    "was changed. Ask a member of these groups, or have the policy changed.",
)
def no_vote(governed: GovernedBench) -> None:
    governed.say("bob", "request", 1)
    governed.say("erin", "approve", 1)


@case(
    errors.NotAnApproverError,
    "request ID was made by 'bob', who alone may cancel it; an approver may reject it. Nothing was "
    "changed.",
)
def anothers_request(governed: GovernedBench) -> None:
    governed.say("bob", "request", 1)
    governed.say("erin", "cancel", 1)


@case(
    errors.NotAnApproverError,
    "'erin' may not make a version alias 'prod' of 'gov-a' without approval: by policy 'prod' only "
    "'oncall' may. Nothing was changed. Ask them, or ask for approval.",
)
def no_break_glass(governed: GovernedBench) -> None:
    governed.say("erin", "break_glass", 1, "prod: now")


@case(
    errors.StaleApprovalError,
    "request ID for version 1 and alias 'prod' of 'gov-a' no longer holds: its files have changed "
    "since. The request was closed as STALE; alias 'prod' was not changed. To have the version "
    f"approved as it is now, {REQUEST}.",
)
def changed_files(governed: GovernedBench) -> None:
    governed.approve(1)
    source = Path(governed.store.get_model_version_download_uri("gov-a", 1))
    (source / "weights").write_text("evil")
    governed.set_alias(1)


@case(
    errors.HolderChangedError,
    "when request ID for version 1 was made, alias 'prod' of 'gov-a' was held by no version, now "
    "by version 2. The request was closed as STALE; alias 'prod' was not changed. If version 1 is still "
    f"wanted, {REQUEST}.",
)
def moved_behind_the_back(governed: GovernedBench) -> None:
    governed.approve(1)
    with governed.store.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO registered_model_aliases (workspace, name, alias, version) "
            "VALUES ('default', 'gov-a', 'prod', 2)"
        )
    governed.set_alias(1)


@case(
    errors.ProtectedDeleteError,
    "version 1 of 'gov-a' holds what policies protect: alias 'prod' (version 1). Deleting it would "
    "take that away. Nothing was changed. Move the alias or stage to another version, or have it "
    "taken away, first.",
)
def deleted(governed: GovernedBench) -> None:
    governed.promote(1)
    with signed_in("erin"):
        governed.store.delete_model_version("gov-a", 1)


@case(
    errors.ProtectedRenameError,
    "'gov-a' cannot become 'other': under one of the names policies protect what it holds: alias "
    "'prod' (version 1). Nothing was changed. Have these taken away before, and approved again "
    "after.",
)
def renamed(governed: GovernedBench) -> None:
    governed.promote(1)
    with signed_in("erin"):
        governed.store.rename_registered_model("gov-a", "other")


@case(
    errors.ReservedTagError,
    "the tag 'mlflow_approvals.prod' shows the state of approvals and is written by the registry "
    "alone. Nothing was changed. To take part, set approvals.request, .approve, .reject, .cancel or "
    '.comment on a model version, with the value "TARGET: text".',
)
def forged(governed: GovernedBench) -> None:
    governed.tag("erin", 1, "mlflow_approvals.prod", "APPROVED")


@case(
    errors.ReservedTagError,
    "the tag 'tests' is a check of policy 'prod' on 'gov-a', and 'erin' may not write it: only "
    "group:ci may. Nothing was changed. Let one of them set it.",
)
def anothers_check(governed: GovernedBench) -> None:
    governed.tag("erin", 1, "tests", "passed")


@case(
    errors.ContentLockedError,
    "the tag 'mlflow.prompt.text' is content of version 1 of prompt 'say-a', which is waiting for "
    "approval as alias 'prod', or was approved. Nothing was changed. Register a new version with the "
    "new text and have that approved.",
)
def rewritten(governed: GovernedBench) -> None:
    with signed_in("erin"):
        governed.store.create_prompt("say-a")
        governed.store.create_prompt_version("say-a", "Be kind.")
        tag = ModelVersionTag("approvals.request", "prod")
        governed.store.set_model_version_tag("say-a", 1, tag)
        tag = ModelVersionTag("mlflow.prompt.text", "Be evil.")
        governed.store.set_model_version_tag("say-a", 1, tag)


@case(
    errors.NoOpenRequestError,
    "there is no open request for version 1 and alias 'prod' of 'gov-a'. The last one is CANCELLED "
    f"(by erin: later). Nothing was changed. To make one, {REQUEST}.",
)
def nothing_open(governed: GovernedBench) -> None:
    governed.say("erin", "request", 1)
    governed.say("erin", "cancel", 1, "prod: later")
    governed.say("bob", "approve", 1)


@case(
    errors.NoOpenRequestError,
    "'carol' has no vote on request ID for alias 'prod' of 'gov-a'. Nothing was changed. Only a "
    "vote can be withdrawn.",
)
def nothing_to_withdraw(governed: GovernedBench) -> None:
    governed.say("erin", "request", 1)
    governed.say("carol", "withdraw", 1)


@case(
    errors.InvalidCommandError,
    'approvals.approve takes "TARGET: text", such as "prod: looks good" or "stage:Production: looks '
    "good\"; 'a b' is neither an alias nor stage:<stage>. Nothing was changed. Set the tag again.",
)
def malformed(governed: GovernedBench) -> None:
    governed.say("bob", "approve", 1, "a b: c")


@case(
    errors.InvalidCommandError,
    "no policy protects alias 'dev' of 'gov-a', so no approval is needed. Nothing was changed. "
    "Set it directly, or check the spelling.",
)
def unprotected(governed: GovernedBench) -> None:
    governed.say("bob", "request", 1, "dev: please")


@case(
    errors.InvalidCommandError,
    "version 1 of 'gov-a' is alias 'prod' already. Nothing was changed. No request is needed.",
)
def there_already(governed: GovernedBench) -> None:
    governed.promote(1)
    governed.say("bob", "request", 1)


@case(
    errors.InvalidCommandError,
    f"request ID for alias 'prod' of 'gov-a' is APPROVED, and its votes stand. Nothing was changed. "
    f"To stop it, {HOW.format('reject')}.",
)
def too_late(governed: GovernedBench) -> None:
    governed.approve(1)
    governed.say("bob", "withdraw", 1)


@case(
    errors.InvalidCommandError,
    "break-glass for alias 'prod' needs a reason: approvals.break_glass = \"prod: your "
    'reason". Nothing was changed. Say why.',
)
def no_reason(governed: GovernedBench) -> None:
    governed.say("zoe", "break_glass", 1, "prod")


@case(
    errors.DigestUnavailableError,
    "the files of version 3 of 'gov-a' at '/no/such/folder' cannot be read here (No such artifact: "
    "''), so no approval can be bound to them. Nothing was changed. Store the artifacts where the "
    "server can read them and register the version again.",
)
def unreadable(governed: GovernedBench) -> None:
    with signed_in("alice"):
        governed.store.create_model_version("gov-a", "/no/such/folder")
    governed.set_alias(3)


@case(
    errors.DigestingError,
    "the files of version 1 of 'gov-a' are being read (0 %), and only what was read can become "
    "alias 'prod' or be approved for it. Nothing was changed. Make this call again when they are "
    "read; `mlflow-pack approvals apply models:/gov-a/1 prod` waits for that by itself.",
)
def being_read(governed: GovernedBench) -> None:
    ends, stopped = threading.Event(), threading.Event()

    def read(*_: Any) -> Any:
        ends.wait(90)
        stopped.set()
        raise ReadingStoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_PACK_APPROVALS_DIGEST_SECONDS", "0")
        patch.setattr(digest, "hash_files", read)
        try:
            governed.say("erin", "request", 1, "prod: please")
            governed.say("bob", "approve", 1, "prod: fine")
        finally:
            ends.set()
            stopped.wait(90)


@case(
    errors.PolicyInvalidError,
    "MLFLOW_PACK_APPROVALS_POLICY is not set, and a registry with an 'approval-' URI does not run "
    "without a policy file: everything would be allowed. Nothing was opened. Set it to the path of "
    "a policy file.",
)
def no_policy(governed: GovernedBench) -> None:
    from mlflow_plugins_pack.approvals.plugin import build_store

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_PACK_APPROVALS_POLICY")
        build_store(governed.uri)


@case(
    errors.RegistryBusyError,
    "'gov-a' kept changing while it was looked at. Nothing was changed. Try again.",
)
def busy(governed: GovernedBench) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def look_again(*_: Any) -> None:
            raise enforcer.EvidenceOutdatedError

        patch.setattr(governed.store.enforcer, "_decide", look_again)
        governed.set_alias(1)


@pytest.mark.parametrize(
    ("kind", "text", "come_about"), CASES, ids=lambda c: getattr(c, "__name__", "")
)
def test_the_whole_text(
    governed: GovernedBench,
    kind: type[errors.ApprovalError],
    text: str,
    come_about: Callable[[GovernedBench], Any],
) -> None:
    with pytest.raises(MlflowException) as caught:
        come_about(governed)
    assert type(caught.value) is kind
    said = re.sub(
        r"\b(request|Request) [0-9a-f]{8}\b", lambda m: m[0][:8] + "ID", caught.value.message
    )
    assert said == f"{kind.code}: {text}"
    assert caught.value.get_http_status_code() != 500


def test_every_code_has_its_text_tested() -> None:
    elsewhere = {"AUDIT_BROKEN"}  # tests/approvals/reports/test_doctor.py, on the command line
    tested = {kind.code for kind, _, _ in CASES}
    known = {kind.code for kind in errors.ApprovalError.__subclasses__()}
    assert known - tested <= elsewhere
