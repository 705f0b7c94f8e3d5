"""What a policy can ask besides votes, on one SQLite store with a clock that moves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.approvals.background import drift as drift_check
from mlflow_plugins_pack.approvals.background.worker import Worker
from mlflow_plugins_pack.approvals.ledger.requests import comments_on, find_requests
from mlflow_plugins_pack.approvals.reports import listings
from tests.approvals.support.bench import HOUR, ClockBench, refused
from tests.approvals.support.runs import run_of, version_of
from tests.support.acting import signed_in

DAY = 24 * HOUR
RULE = "    approvals: [{group: leads, count: 1}]\n"
GROUPS = "groups: {leads: [bob, carol], risk: [dave]"


def ask(bench: ClockBench, *lines: str) -> None:
    """Add keys to the policy."""
    bench.edit(RULE, RULE + "".join(f"    {line}\n" for line in lines))


def promote(bench: ClockBench, version: int) -> None:
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    bench.set_alias(version)


def audited(bench: ClockBench) -> list[str]:
    with bench.store.engine.connect() as connection:
        return [str(row["action"]) for row in listings.audit_entries(connection, 100)]


def drift(bench: ClockBench) -> list[int]:
    policy = bench.store.governance.policy()
    found = bench.store._transactions.read(lambda s: drift_check.find(s, policy, bench.now))
    return [finding.version for finding in found]


# --- several policies -------------------------------------------------------------------------


def test_each_target_has_the_first_policy_that_names_it(bench: ClockBench) -> None:
    """A second policy for the same models must not be dead letters."""
    bench.file.write_text(
        bench.file.read_text()
        + """\
  - name: staging
    match: {models: ["gov-*"]}
    targets: {aliases: [staging, prod], stages: [Staging]}
    approvals: [{group: risk}]
"""
    )
    version = bench.version()
    assert "policy 'prod'" in refused(
        errors.ApprovalRequiredError, lambda: bench.set_alias(version)
    )
    with signed_in("erin"), pytest.raises(errors.ApprovalRequiredError, match="policy 'staging'"):
        bench.store.set_registered_model_alias("gov-a", "staging", version)
    with pytest.raises(errors.NotAnApproverError):
        bench.say("dave", "approve", version)
    bench.say("dave", "approve", version, "staging: ok")
    # Into one policy's stage is not out of another's.
    bench.say("erin", "request", version, "stage:Production")
    bench.say("bob", "approve", version, "stage:Production")
    with signed_in("erin"):
        bench.store.transition_model_version_stage("gov-a", version, "Production", False)
        with pytest.raises(errors.ApprovalRequiredError, match="Move it to stage 'None' first"):
            bench.store.transition_model_version_stage("gov-a", version, "Staging", False)


# --- from -------------------------------------------------------------------------------------


def test_promotion_comes_from_staging(bench: ClockBench) -> None:
    ask(bench, "from: {aliases: [staging]}")
    version = bench.version()
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    text = refused(errors.ChecksFailedError, lambda: bench.set_alias(version))
    assert "requires the version to be alias 'staging' first, and it is not" in text
    assert bench.state(version) == "APPROVED 1/1 (bob)"
    with signed_in("erin"):
        bench.store.set_registered_model_alias("gov-a", "staging", version)
    bench.set_alias(version)
    assert bench.holder() == version


def test_nothing_is_archived_as_a_side_effect_where_that_needs_approval(bench: ClockBench) -> None:
    bench.edit("stages: [Production]", "stages: [Production, Archived]")
    one, two = bench.version(), bench.version()
    for stage in ("Staging", "Production"):
        if stage == "Production":
            bench.say("erin", "request", one, "stage:Production")
            bench.say("bob", "approve", one, "stage:Production")
        with signed_in("erin"):
            bench.store.transition_model_version_stage("gov-a", one, stage, True)
            text = refused(
                errors.ApprovalRequiredError,
                lambda s=stage: bench.store.transition_model_version_stage("gov-a", two, s, True),  # type: ignore[misc]
            )
        assert text == (
            f"APPROVAL_REQUIRED: making a version stage '{stage}' of 'gov-a' with "
            f"archive_existing_versions would also make version {one} stage 'Archived', which is "
            "protected, and needs an approval of its own. Nothing was changed. Make the call "
            "without archive_existing_versions, and move the others in calls of their own."
        )
    assert drift(bench) == []
    # Break-glass takes a stage away, and does not archive.
    bench.edit(RULE, RULE + "    break_glass: {group: risk}\n")
    bench.say("dave", "break_glass.demote", one, "stage:Production: it burns")
    assert bench.store.get_model_version("gov-a", one).current_stage == "None"


# --- checks on the run and the files ----------------------------------------------------------


def test_the_longest_name_a_run_may_bear_keeps_nobody_from_asking(
    bench: ClockBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may write what it likes there, and databases keep 256 letters of it."""
    _, run_id = run_of(bench, monkeypatch, mlflow_user="u" * 5000)
    version = version_of(bench, run_id)
    bench.say("erin", "request", version)
    with bench.store.engine.connect() as connection:
        (request,) = find_requests(connection)
    assert request.run_user == "u" * 256


def test_metrics_are_compared_with_the_holders(
    bench: ClockBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(
        bench,
        "checks:",
        '  - {expr: "metrics.auc >= 0.9 && (holder == null || metrics.auc > holder.metrics.auc)"}',
    )
    versions = []
    for auc in (0.95, 0.93, 0.97):
        client, run_id = run_of(bench, monkeypatch)
        client.log_metric(run_id, "auc", auc)
        versions.append(version_of(bench, run_id))
    first, worse, better = versions
    promote(bench, first)
    bench.say("erin", "request", worse)
    bench.say("bob", "approve", worse)
    text = refused(errors.ChecksFailedError, lambda: bench.set_alias(worse))
    assert "metrics.auc > holder.metrics.auc), and it is false" in text
    promote(bench, better)
    assert bench.holder() == better


def test_a_signature_is_required(bench: ClockBench, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(bench, "checks: [{signature: required}]")
    _, run_id = run_of(bench, monkeypatch)
    without = version_of(bench, run_id)
    bench.say("erin", "request", without)
    bench.say("bob", "approve", without)
    text = refused(errors.ChecksFailedError, lambda: bench.set_alias(without))
    assert "a model signature, and its MLmodel file has none" in text
    signed = version_of(bench, run_id, 'signature: {inputs: "[]"}\n')
    promote(bench, signed)


def test_inputs_are_where_they_may_be(bench: ClockBench, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(
        bench,
        'checks: [{lineage: required, inputs_under: ["s3://curated/**"], clean_git: true}]',
    )
    code = json.dumps({"commit": "c0ffee", "dirty": False})

    def trained_on(*uris: str, **more: str) -> int:
        inputs = json.dumps([{"u": uri, "r": "data"} for uri in uris])
        _, run_id = run_of(bench, monkeypatch, lineage_inputs=inputs, lineage_code=code, **more)
        return version_of(bench, run_id)

    raw = trained_on("s3://curated/a.csv", "s3://raw/b.csv")
    bench.say("erin", "request", raw)
    bench.say("bob", "approve", raw)
    text = refused(errors.ChecksFailedError, lambda: bench.set_alias(raw))
    assert "inputs under s3://curated/**, and s3://raw/b.csv is not" in text
    promote(bench, trained_on("s3://curated/a.csv"))
    # What the tags only summarise is read in full from the artifact.
    rolled = trained_on("s3://curated/", lineage_truncated='{"rolled_up": 2}')
    bench.say("erin", "request", rolled)
    bench.say("bob", "approve", rolled)
    text = refused(errors.ChecksFailedError, lambda: bench.set_alias(rolled))
    assert "the whole list of inputs, and the run's is shortened or cannot be read" in text
    run_id = bench.store.get_model_version("gov-a", rolled).run_id
    whole = {"inputs": [{"u": "s3://curated/a"}, {"u": "s3://curated/b"}], "dropped": 0}
    MlflowClient().log_dict(run_id, whole, "lineage/lineage.json")
    bench.set_alias(rolled)
    assert bench.holder() == rolled


def test_incomplete_lineage_is_refused_where_it_must_be_complete(
    bench: ClockBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(bench, "checks: [{lineage: complete}]")

    def trained_with(coverage: object) -> int:
        inputs = json.dumps([{"u": "s3://lake/a.csv", "r": "data"}])
        seen = json.dumps(coverage)
        _, run_id = run_of(bench, monkeypatch, lineage_inputs=inputs, lineage_coverage=seen)
        return version_of(bench, run_id)

    blind = trained_with({"layers": ["audit"], "complete": False, "blind": ["catboost"]})
    bench.say("erin", "request", blind)
    bench.say("bob", "approve", blind)
    text = refused(errors.ChecksFailedError, lambda: bench.set_alias(blind))
    assert "complete lineage, and the run's is blind to catboost" in text
    promote(bench, trained_with({"layers": ["audit"], "complete": True}))


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["a.png", "b.png"], None),
        (["a.png", "a b.secret"], "no input like **.secret, and s3://curated/f/a%20b.secret is"),
        (["a.png"], "the whole list of inputs, and the run's is shortened or cannot be read"),
    ],
)
def test_files_behind_a_folder_are_judged_too(
    bench: ClockBench, monkeypatch: pytest.MonkeyPatch, names: list[str], problem: str | None
) -> None:
    ask(bench, 'checks: [{lineage: required, inputs_never: ["**.secret"]}]')
    folder = [{"u": "s3://curated/f/", "files": 2}]
    _, run_id = run_of(
        bench,
        monkeypatch,
        lineage_inputs=json.dumps(folder),
        lineage_truncated='{"rolled_up": 2}',
    )
    whole = {"inputs": folder, "members": {"s3://curated/f/": names}, "dropped": 0}
    MlflowClient().log_dict(run_id, whole, "lineage/lineage.json")
    version = version_of(bench, run_id)
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    if problem is None:
        bench.set_alias(version)
    else:
        assert problem in refused(errors.ChecksFailedError, lambda: bench.set_alias(version))


# --- freeze -----------------------------------------------------------------------------------


def test_nothing_is_promoted_in_a_freeze(bench: ClockBench) -> None:
    # The bench's clock starts on Friday, 2027-01-15T08:00Z.
    ask(bench, 'freeze: [{cron: "* * * * FRI", tz: UTC}]', "rollback: {approvals: 0, within: 30d}")
    bench.edit("approval_valid_for: 1h", "approval_valid_for: 9d")
    bench.edit("expires_after: 2h", "expires_after: 9d")
    one, two = bench.version(), bench.version()
    bench.say("erin", "request", one)
    bench.say("bob", "approve", one)
    assert refused(errors.FrozenError, lambda: bench.set_alias(one)) == (
        "FROZEN: alias 'prod' of 'gov-a' is frozen until 2027-01-16T00:00Z: policy 'prod' allows "
        "no change in the window '* * * * FRI' (UTC). Nothing was changed. The approval is kept; "
        "make this call again after that."
    )
    assert bench.state(one) == "APPROVED 1/1 (bob)"
    bench.now += DAY
    bench.set_alias(one)
    promote(bench, two)
    bench.now += 6 * DAY
    # Going back to what worked is what Fridays are for; taking it all away is not.
    bench.set_alias(one)
    assert bench.holder() == one
    with signed_in("erin"), pytest.raises(errors.ApprovalRequiredError):
        bench.store.delete_registered_model_alias("gov-a", "prod")
    bench.say("bob", "approve", one)
    with signed_in("erin"), pytest.raises(errors.FrozenError):
        bench.store.delete_registered_model_alias("gov-a", "prod")


# --- rollback ---------------------------------------------------------------------------------


def test_back_to_a_version_that_held_it(bench: ClockBench) -> None:
    ask(
        bench,
        "rollback: {approvals: 0, within: 2d}",
        "checks: [{tag: tests, equals: passed, max_age: 1h}]",
    )
    one, two, three = (bench.version() for _ in range(3))

    def tested(version: int) -> None:
        with signed_in("erin"):
            tag = ModelVersionTag("tests", "passed")
            bench.store.set_model_version_tag("gov-a", version, tag)

    for version in (one, two):
        tested(version)
        promote(bench, version)
    bench.now += 2 * HOUR
    bench.set_alias(one)
    assert bench.holder() == one
    assert bench.state(one) == "APPLIED 0/0, rollback"
    assert "0 of 1" in refused(errors.ApprovalRequiredError, lambda: bench.set_alias(three))
    # Not to other bytes under the same version...
    source = Path(bench.store.get_model_version_download_uri("gov-a", two))
    (source / "weights").write_text("evil")
    assert "0 of 1" in refused(errors.ApprovalRequiredError, lambda: bench.set_alias(two))
    (source / "weights").write_text("weights")
    bench.say("erin", "cancel", two)
    # ...and not after too long a time.
    bench.now += 3 * DAY
    assert "0 of 1" in refused(errors.ApprovalRequiredError, lambda: bench.set_alias(two))
    assert bench.holder() == one


def test_a_clock_that_went_back_makes_no_rollback_last_for_ever(bench: ClockBench) -> None:
    """The next change of the target then seems to be an earlier one, and its time to be unknown."""
    ask(bench, "rollback: {approvals: 0, within: 2d}")
    one, two = bench.version(), bench.version()
    promote(bench, one)
    bench.now -= HOUR
    promote(bench, two)
    bench.now += 2 * HOUR
    bench.set_alias(one)
    bench.set_alias(two)
    bench.now -= HOUR
    promote(bench, bench.version())
    bench.now += 9 * DAY
    assert "0 of 1" in refused(errors.ApprovalRequiredError, lambda: bench.set_alias(two))


@pytest.mark.parametrize("way", ["by approval", "by break-glass"])
def test_what_was_taken_away_is_not_a_rollback_target(bench: ClockBench, way: str) -> None:
    """By people's decision, unlike a version that another replaced."""
    ask(bench, "rollback: {approvals: 0, within: 30d}", "break_glass: {group: risk}")
    one = bench.version()
    promote(bench, one)
    bench.now += 1
    if way == "by break-glass":
        bench.say("dave", "break_glass.demote", one, "prod: it burns")
    else:

        def unset() -> None:
            with signed_in("erin"):
                bench.store.delete_registered_model_alias("gov-a", "prod")

        refused(errors.ApprovalRequiredError, unset)
        bench.say("bob", "approve", one)
        unset()
    assert bench.holder() is None
    bench.now += 1
    assert "0 of 1" in refused(errors.ApprovalRequiredError, lambda: bench.set_alias(one))


def test_approval_to_be_archived_is_none_to_be_used(bench: ClockBench) -> None:
    """Nor is a version that left its stage by it a rollback target, or approved for consumers."""
    bench.edit("stages: [Production]", "stages: [Production, Archived]")
    ask(
        bench,
        "rollback: {approvals: 0, within: 30d}",
        'consume: {principals: ["svc-web"], require: approved}',
    )
    one, two = bench.version(), bench.version()

    def move(version: int, stage: str) -> None:
        bench.now += 1
        bench.say("erin", "request", version, f"stage:{stage}: please")
        bench.say("bob", "approve", version, f"stage:{stage}: fine")
        with signed_in("erin"):
            bench.store.transition_model_version_stage("gov-a", version, stage, False)

    def refused_to_consumers(version: int) -> None:
        with signed_in("svc-web"), pytest.raises(errors.ApprovalRequiredError):
            bench.store.get_model_version("gov-a", version)

    move(two, "Archived")
    refused_to_consumers(two)
    move(one, "Production")
    with signed_in("svc-web"):
        assert bench.store.get_model_version("gov-a", one).version == one
    move(one, "Archived")
    refused_to_consumers(one)
    bench.now += 1
    with signed_in("erin"), pytest.raises(errors.ApprovalRequiredError, match="0 of 1"):
        bench.store.transition_model_version_stage("gov-a", one, "Production", False)


def test_a_rollback_may_need_somebody(bench: ClockBench) -> None:
    bench.edit("count: 1", "count: 2")
    bench.edit("count: 2}]", "count: 2}]\n    rollback: {approvals: 1, within: 30d}")
    one, two = bench.version(), bench.version()
    for version in (one, two):
        bench.say("erin", "request", version)
        for user in ("bob", "carol"):
            bench.say(user, "approve", version)
        bench.set_alias(version)
    assert "0 of 1 approvals (leads 0/1)" in refused(
        errors.ApprovalRequiredError, lambda: bench.set_alias(one)
    )
    bench.say("carol", "approve", one)
    assert bench.state(one) == "APPROVED 1/1 (carol), rollback"
    bench.set_alias(one)
    assert bench.holder() == one


# --- inheritance ------------------------------------------------------------------------------


def test_a_copy_of_an_approved_version_inherits_if_the_policy_says_so(bench: ClockBench) -> None:
    bench.file.write_text(
        bench.file.read_text()
        + """\
  - name: live
    match: {models: ["live-*"]}
    targets: {aliases: [prod]}
    approvals: [{group: risk}]
    inherit_from: ["gov-*"]
"""
    )
    approved, other = bench.version(), bench.version()
    promote(bench, approved)
    with signed_in("erin"):
        bench.store.create_registered_model("live-a")
        for number in (approved, other):
            source = bench.store.get_model_version("gov-a", number)
            bench.store.copy_model_version(source, "live-a")
        bench.store.set_registered_model_alias("live-a", "prod", 1)
        with pytest.raises(errors.ApprovalRequiredError, match="0 of 1"):
            bench.store.set_registered_model_alias("live-a", "prod", 2)
    shown = bench.store.get_model_version("live-a", 1).tags["mlflow_approvals.prod"]
    assert shown == f"APPLIED 0/0, inherited from models:/gov-a/{approved}"
    # A source that claims to be a copy but has other bytes is not a copy.
    with signed_in("erin"):
        source = bench.store.get_model_version("gov-a", approved)
        bench.store.copy_model_version(source, "live-a")
    path = Path(bench.store.get_model_version_download_uri("gov-a", approved))
    (path / "weights").write_text("evil")
    with signed_in("erin"), pytest.raises(errors.ApprovalRequiredError, match="0 of 1"):
        bench.store.set_registered_model_alias("live-a", "prod", 3)


def test_what_break_glass_promoted_is_inherited_once_it_is_reviewed(bench: ClockBench) -> None:
    bench.edit(RULE, RULE + "    break_glass: {group: oncall}\n")
    bench.edit(GROUPS, GROUPS + ", oncall: [erin]")
    live = """\
  - name: live
    match: {models: ["live-*"]}
    targets: {aliases: [prod]}
    approvals: [{group: risk}]
    inherit_from: ["gov-*"]
"""
    bench.file.write_text(bench.file.read_text() + live)
    version = bench.version()
    bench.say("erin", "break_glass", version, "prod: it is burning")

    def promote_copy() -> None:
        with signed_in("frank"):
            bench.store.set_registered_model_alias("live-a", "prod", 1)

    with signed_in("frank"):
        bench.store.create_registered_model("live-a")
        bench.store.copy_model_version(bench.store.get_model_version("gov-a", version), "live-a")
    assert "0 of 1" in refused(errors.ApprovalRequiredError, promote_copy)
    bench.say("bob", "approve", version, "prod: it was right")
    promote_copy()


# --- approved versions only -------------------------------------------------------------------


def test_consumers_get_approved_versions_only(bench: ClockBench) -> None:
    ask(bench, 'consume: {principals: ["group:serving", "svc-web"], require: approved}')
    bench.edit(GROUPS, GROUPS + ", serving: [svc-score]")
    store = bench.store
    one, two, three = (bench.version() for _ in range(3))
    promote(bench, one)
    promote(bench, two)
    with signed_in("erin"):
        store.set_registered_model_alias("gov-a", "dev", three)

    def latest() -> list[int]:
        return [int(v.version) for v in store.get_latest_versions("gov-a", ["None"])]

    for user in ("svc-score", "svc-web"):
        with signed_in(user):
            assert int(store.get_model_version_by_alias("gov-a", "prod").version) == two
            assert store.get_model_version_download_uri("gov-a", one)  # replaced, still approved
            assert latest() == [two]
            for call in (
                lambda: store.get_model_version("gov-a", three),
                lambda: store.get_model_version_download_uri("gov-a", str(three)),
                lambda: store.get_model_version_by_alias("gov-a", "dev"),
            ):
                text = refused(errors.ApprovalRequiredError, call)
    assert text == (
        "APPROVAL_REQUIRED: version 3 of 'gov-a' is not approved, and by policy 'prod' 'svc-web' "
        "gets approved versions only. Nothing was changed. Load a version that is approved, such "
        "as the one behind a protected alias."
    )
    with signed_in("erin"):
        assert latest() == [three]
        assert store.get_model_version("gov-a", three).version == three
    # What was taken away is approved no longer.
    with signed_in("erin"), pytest.raises(errors.ApprovalRequiredError):
        store.delete_registered_model_alias("gov-a", "prod")
    bench.say("bob", "approve", two)
    with signed_in("erin"):
        store.delete_registered_model_alias("gov-a", "prod")
    with signed_in("svc-web"):
        refused(errors.ApprovalRequiredError, lambda: store.get_model_version("gov-a", two))
        assert latest() == [one]


# --- break-glass ------------------------------------------------------------------------------


def break_glass(bench: ClockBench) -> tuple[int, int]:
    ask(
        bench,
        "break_glass: {group: oncall, expires_after: 24h, post_review: {approvals: 1}}",
        "checks: [{tag: tests, equals: passed}]",
        'freeze: [{cron: "* * * * *"}]',
    )
    bench.edit(GROUPS, GROUPS + ", oncall: [zoe, bob]")
    return bench.version(), bench.version()


def test_break_glass_promotes_at_once_and_is_reviewed(bench: ClockBench) -> None:
    one, two = break_glass(bench)
    with pytest.raises(errors.NotAnApproverError, match="only 'oncall' may"):
        bench.say("erin", "break_glass", one, "prod: I want to")
    with pytest.raises(errors.InvalidCommandError, match="needs a reason"):
        bench.say("bob", "break_glass", one, "prod")
    bench.say("erin", "request", one)
    bench.say("bob", "break_glass", one, "prod: the fraud wave")
    assert bench.holder() == one
    assert bench.state(one) == "BREAK-GLASS REVIEW PENDING 0/1"
    with pytest.raises(errors.SelfApprovalError, match="'bob' made the break-glass change"):
        bench.say("bob", "approve", one)
    with pytest.raises(errors.NotAnApproverError):
        bench.say("bob", "cancel", one)
    assert drift(bench) == []
    bench.say("carol", "approve", one, "prod: was right")
    assert bench.state(one) == "BREAK-GLASS REVIEWED 1/1 (carol)"
    bench.now += 2 * DAY
    assert drift(bench) == []
    bench.say("zoe", "break_glass", two, "prod: again")
    assert bench.holder() == two
    assert bench.state(one) == "REPLACED by version 2"
    actions = audited(bench)
    assert (
        actions.index("BREAK_GLASS")
        < actions.index("APPLIED")
        < actions.index("BREAK_GLASS_REVIEWED")
    )


@pytest.mark.parametrize("ending", ["rejected", "forgotten"])
def test_an_unconfirmed_break_glass_is_drift(bench: ClockBench, ending: str) -> None:
    one, _ = break_glass(bench)
    ask(bench, 'consume: {principals: ["svc-web"], require: approved}')
    bench.say("zoe", "break_glass", one, "prod: the fraud wave")
    with signed_in("svc-web"):
        assert bench.store.get_model_version("gov-a", one)
    if ending == "rejected":
        bench.say("carol", "reject", one, "prod: not an emergency")
        assert bench.state(one).startswith("BREAK-GLASS REVIEW REJECTED: by carol")
        assert drift(bench) == [one]
    else:
        bench.now += DAY
        refused(errors.NoOpenRequestError, lambda: bench.say("carol", "approve", one))
        assert drift(bench) == [one]
    with signed_in("svc-web"), pytest.raises(errors.ApprovalRequiredError):
        bench.store.get_model_version("gov-a", one)
    assert bench.holder() == one  # taking production away is for people to decide


@pytest.mark.parametrize("ending", ["rejected", "superseded", "reviewed"])
def test_an_unreviewed_break_glass_is_not_a_rollback_target(bench: ClockBench, ending: str) -> None:
    one, two = break_glass(bench)
    bench.edit('    freeze: [{cron: "* * * * *"}]\n', "    rollback: {approvals: 0, within: 30d}\n")
    ask(bench, 'consume: {principals: ["svc-web"], require: approved}')
    with signed_in("erin"):
        for version in (one, two):
            tag = ModelVersionTag("tests", "passed")
            bench.store.set_model_version_tag("gov-a", version, tag)
    promote(bench, one)
    bench.now += 1
    bench.say("zoe", "break_glass", two, "prod: the fraud wave")
    bench.now += 1
    if ending != "superseded":
        verdict = {"rejected": "reject", "reviewed": "approve"}[ending]
        bench.say("carol", verdict, two, "prod: seen")
    bench.now += 1
    bench.set_alias(one)  # the way back is free
    bench.now += 1
    if ending == "reviewed":
        bench.set_alias(two)
        assert bench.state(two) == "APPLIED 0/0, rollback"
        return
    assert "0 of 1" in refused(errors.ApprovalRequiredError, lambda: bench.set_alias(two))
    with signed_in("svc-web"), pytest.raises(errors.ApprovalRequiredError):
        bench.store.get_model_version("gov-a", two)


def test_break_glass_takes_away_at_once_and_is_reviewed(bench: ClockBench) -> None:
    one, two = break_glass(bench)
    bench.say("zoe", "break_glass", one, "prod: the fraud wave")
    bench.say("carol", "approve", one, "prod: was right")
    with pytest.raises(errors.InvalidCommandError, match="version 2 of 'gov-a' is not alias"):
        bench.say("bob", "break_glass.demote", two, "prod: it burns")
    with pytest.raises(errors.NotAnApproverError, match="only 'oncall' may"):
        bench.say("erin", "break_glass.demote", one, "prod: it burns")
    with pytest.raises(errors.InvalidCommandError, match="needs a reason"):
        bench.say("bob", "break_glass.demote", one, "prod")
    bench.say("bob", "break_glass.demote", one, "prod: it burns")
    assert bench.holder() is None
    assert bench.state(one) == "BREAK-GLASS REVIEW PENDING 0/1"
    assert drift(bench) == []
    with pytest.raises(errors.SelfApprovalError, match="'bob' made the break-glass change"):
        bench.say("bob", "approve", one)
    bench.say("carol", "approve", one, "prod: was right")
    assert bench.state(one) == "BREAK-GLASS REVIEWED 1/1 (carol)"
    assert bench.holder() is None
    assert audited(bench)[-1] == "BREAK_GLASS_REVIEWED"
    # What was taken away needs a new approval.
    refused(errors.ApprovalError, lambda: bench.set_alias(one))


@pytest.mark.parametrize("ending", ["rejected", "forgotten"])
def test_what_was_taken_away_and_nobody_confirms_is_drift(bench: ClockBench, ending: str) -> None:
    one, two = break_glass(bench)
    bench.say("zoe", "break_glass", one, "prod: the fraud wave")
    bench.say("carol", "approve", one, "prod: was right")
    bench.say("bob", "break_glass.demote", one, "prod: it burns")
    if ending == "rejected":
        bench.say("carol", "reject", one, "prod: it did not")
        expected = (
            "bob took it away by break-glass, and its review was rejected by carol: it did not"
        )
    else:
        assert drift(bench) == []
        bench.now += DAY
        expected = "bob took it away by break-glass, and its review was not approved in time"
    policy = bench.store.governance.policy()
    (finding,) = bench.store._transactions.read(lambda s: drift_check.find(s, policy, bench.now))
    assert (finding.version, finding.target, finding.kind) == (one, "prod", "unreviewed")
    assert finding.why == expected
    # Reading changes nothing, nor does a late review end it.
    refused(errors.NoOpenRequestError, lambda: bench.say("carol", "approve", one))
    assert drift(bench) == [one]
    worker = Worker(bench.store._transactions, bench.store.governance.policy, lambda: bench.now)
    assert [worker.record_drift(), worker.record_drift()] == [1, 0]
    # What people decide about the target next ends it.
    bench.now += 1
    bench.say("zoe", "break_glass", two, "prod: something must serve")
    assert drift(bench) == []


# --- votes and comments -----------------------------------------------------------------------


def test_votes_can_be_withdrawn_and_changed_while_pending(bench: ClockBench) -> None:
    bench.edit("count: 1", "count: 2")
    version = bench.version()
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    bench.say("bob", "withdraw", version, "prod: looked again")
    assert bench.state(version) == "PENDING 0/2"
    refused(errors.NoOpenRequestError, lambda: bench.say("bob", "withdraw", version))
    for user in ("bob", "carol"):
        bench.say(user, "approve", version)
    refused(errors.InvalidCommandError, lambda: bench.say("bob", "withdraw", version))
    bench.say("bob", "reject", version, "prod: no, after all")
    assert bench.state(version) == "REJECTED: by bob: no, after all"
    assert audited(bench).count("VOTE_WITHDRAWN") == 1


def test_comments_are_edited_and_deleted_by_their_author(bench: ClockBench) -> None:
    version = bench.version()
    bench.say("erin", "comment", version, "prod: трудно читать, 日本語")

    def comments() -> list[tuple[str, str]]:
        with bench.store.engine.connect() as connection:
            uids = listings.uids_of(connection, "gov-a", version)
            found = listings.comments_of(connection, uids)
        return [(str(row["id"]), str(row["text"])) for row in found]

    ((comment_id, text),) = comments()
    assert text == "трудно читать, 日本語"
    for user in ("bob", None):
        with signed_in(user), pytest.raises(errors.NoOpenRequestError):
            bench.store.commands.comments.edit(comment_id, "mine now")
    with signed_in("erin"):
        bench.store.commands.comments.edit(comment_id, "clear now")
        assert comments() == [(comment_id, "clear now")]
        with pytest.raises(errors.InvalidCommandError):
            bench.store.commands.comments.edit(comment_id, "x" * 5001)
        bench.store.commands.comments.edit(comment_id, None)
    assert comments() == []
    assert audited(bench) == ["COMMENTED", "COMMENT_EDITED", "COMMENT_DELETED"]


def test_the_newest_comments_are_read(bench: ClockBench) -> None:
    """Any reader may write any number, and each view of a request shows them."""
    version = bench.version()
    bench.say("alice", "request", version, "prod: please")
    for number in range(3):
        bench.now += 1
        bench.say("erin", "comment", version, f"prod: {number}")
    with bench.store.engine.connect() as connection:
        (uid,) = listings.uids_of(connection, "gov-a", version)
        found = comments_on(connection, uid, target_key="alias:prod", newest=2)
        assert [comment["text"] for comment in found] == ["1", "2"]
        assert len(comments_on(connection, uid)) == 3
        assert comments_on(connection, uid, target_key="alias:other") == []


def test_the_newest_comment_is_edited_and_deleted_by_tag(bench: ClockBench) -> None:
    version = bench.version()
    for text in ("first", "second"):
        bench.say("erin", "comment", version, f"prod: {text}")
        bench.now += 1  # which is the newest is told by the millisecond
    bench.say("bob", "comment", version, "prod: mine")

    def comments() -> list[str]:
        with bench.store.engine.connect() as connection:
            uids = listings.uids_of(connection, "gov-a", version)
            return sorted(str(row["text"]) for row in listings.comments_of(connection, uids))

    bench.say("erin", "comment.edit", version, "prod: second, clearer")
    assert comments() == ["first", "mine", "second, clearer"]
    with pytest.raises(errors.InvalidCommandError, match="the text is missing"):
        bench.say("erin", "comment.edit", version, "prod")
    bench.say("erin", "comment.delete", version, "prod")
    assert comments() == ["first", "mine"]
    with pytest.raises(errors.NoOpenRequestError, match="'carol' has written no comment"):
        bench.say("carol", "comment.delete", version, "prod")
    with pytest.raises(errors.IdentityRequiredError):
        bench.say(None, "comment.delete", version, "prod")


# --- locks ------------------------------------------------------------------------------------


def test_approved_files_are_locked_where_the_repository_can(
    bench: ClockBench, tmp_path: Path
) -> None:
    bench.edit(RULE, RULE + "    demote: {approvals: 0}\n")
    (tmp_path / "new").write_text("weights")
    location = f"cas-file://{tmp_path / 'store'}/run/artifacts/model"
    repository = get_artifact_repository(location)
    repository.log_artifact(str(tmp_path / "new"))
    with signed_in("alice"):
        bench.store.create_registered_model("gov-a")
        bench.store.create_model_version("gov-a", location)
        bench.store.create_model_version("gov-a", location)  # as a copy does

    def is_locked() -> bool:
        try:
            repository.log_artifact(str(tmp_path / "new"), "more")
        except MlflowException as exc:
            return "approved as alias 'prod': models:/gov-a/" in exc.message
        return False

    bench.say("erin", "request", 1)
    assert not is_locked()  # a request alone must not stop other users
    bench.say("erin", "cancel", 1)
    bench.say("erin", "request", 1)
    bench.say("bob", "approve", 1)
    assert is_locked()
    bench.say("bob", "reject", 1)
    assert not is_locked()
    promote(bench, 1)
    promote(bench, 2)
    assert is_locked()
    with signed_in("erin"):
        bench.store.delete_registered_model_alias("gov-a", "prod")
        assert is_locked()  # version 1 may still be gone back to
        bench.store.delete_model_version("gov-a", 1)
    assert not is_locked()
