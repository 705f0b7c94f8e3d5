"""``approvals policy explain`` and ``test``: what a policy would say, and would have said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from mlflow.entities.model_registry import ModelVersionTag

from mlflow_plugins_pack.cli.main import cli
from tests.approvals.support.bench import POLICY, ClockBench
from tests.approvals.support.policies import FULL
from tests.support.acting import signed_in


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["approvals", "policy", *arguments])


RICH = """
version: 1
groups: {leads: [bob, carol], risk: [dave], ci: [svc-ci], oncall: [zoe], serving: [svc-web]}
policies:
  - name: prod
    match: {models: ["gov-*"]}
    targets: {aliases: [prod], stages: [Production]}
    approvals: [{group: leads, count: 1}, {group: risk}]
    from: {aliases: [staging], stages: [Staging]}
    checks: [{tag: tests, equals: passed, writers: ["group:ci"], max_age: 1h}]
    demote: {approvals: 1}
    rollback: {approvals: 0, within: 30d}
    freeze: [{cron: "* * * * *"}]
    consume: {principals: ["group:serving"], require: approved}
    break_glass: {group: oncall, expires_after: 24h}
    inherit_from: ["lab-*"]
"""


def test_explain_says_all_before_anybody_tries(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(RICH)
    file = ("--file", str(tmp_path / "policy.yaml"))
    said = call("explain", "models:/gov-a", "--target", "prod", "--as", "bob", *file)
    assert said.output == (
        "prod of 'gov-a', by policy 'prod':\n"
        "  promote      1 of leads (bob, carol) and 1 of risk (dave)\n"
        "  demote       1 of leads or risk (bob, carol, dave)\n"
        "  from         stage Staging or staging\n"
        "  checks       tag: tests, equals: passed, writers: group:ci, max_age: 1h\n"
        "  rollback     none: any signed-in user may; not longer than 30d after it was replaced\n"
        "  freeze       * * * * * (UTC)\n"
        "  frozen       yes\n"
        "  break-glass  any member of oncall; reviewed by 1 of leads or risk (bob, carol, dave) "
        "within 1d\n"
        "  consume      group:serving: approved versions only\n"
        "  inherit-from lab-*\n"
        "  terms        a request waits 14d; an approval is good for 30d; the stock call makes the "
        "change; stale when artifacts, tags, source change\n"
        "  no-vote      who asked, who registered the version, in whose name its run was created\n"
        "  as           bob may ask; may approve, for leads, what others ask for and made\n"
    )
    rows = json.loads(call("explain", "gov-a", "--json", *file).output)
    assert [row["target"] for row in rows] == ["prod", "stage:Production"]
    for user, says in (
        ("zoe", "zoe may ask; may use break-glass"),
        ("svc-web", "svc-web may ask; gets approved versions only"),
        ("svc-ci", "svc-ci may ask; may set the tag tests"),
    ):
        rows = json.loads(call("explain", "gov-a", "--as", user, "--json", *file).output)
        assert rows[0]["as"] == says
    free = call("explain", "free", "--target", "prod", *file)
    assert free.output == "No policy protects prod of 'free': every user may change it.\n"


def test_the_first_policy_that_names_a_target_is_explained(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(FULL)
    said = call(
        "explain",
        "fraud-eu",
        "--workspace",
        "team-a",
        "--json",
        "--file",
        str(tmp_path / "policy.yaml"),
    )
    rows = [(row["target"], row["policy"]) for row in json.loads(said.output)]
    assert rows == [("prod", "prod"), ("champion", "prod"), ("stage:Production", "prod")]


@pytest.fixture
def history(bench: ClockBench) -> ClockBench:
    """Version 1 was tested and approved by bob, version 2 by carol, and 1 was taken back."""
    bench.edit(
        "approvals: [{group: leads, count: 1}]",
        "approvals: [{group: leads, count: 1}]\n"
        '    checks: [{tag: tests, equals: passed, writers: ["svc-ci"]}]\n'
        "    rollback: {approvals: 0, within: 30d}\n"
        "    break_glass: {group: risk}",
    )
    for approver in ("bob", "carol"):
        version = bench.version()
        with signed_in("svc-ci"):
            tag = ModelVersionTag("tests", "passed")
            bench.store.set_model_version_tag("gov-a", version, tag)
        bench.say("erin", "request", version)
        bench.say(approver, "approve", version)
        bench.set_alias(version)
    bench.set_alias(1)
    bench.say("dave", "break_glass", bench.version(), "prod: fire")
    return bench


def tried(history: ClockBench, tmp_path: Path, *edits: tuple[str, str]) -> tuple[int, list[Any]]:
    text = history.file.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "proposed.yaml"
    file.write_text(text)
    done = call("test", str(file), "--all", "--json", "--registry-store-uri", history.uri)
    rows = json.loads(done.output)
    return done.exit_code, [(row["outcome"], row["why"]) for row in rows]


ALLOWED = ("allowed", "")


def test_the_policy_in_force_would_allow_what_it_allowed(
    history: ClockBench, tmp_path: Path
) -> None:
    assert tried(history, tmp_path) == (0, [ALLOWED] * 4)
    done = call("test", str(history.file), "--registry-store-uri", history.uri)
    assert done.output == (
        "Of 4 approved changes it would have refused 0; 0 cannot be told.\n"
        "Not recorded, so not judged: changes of what no policy protected then.\n"
    )


def test_what_no_log_can_answer_for_is_said(history: ClockBench, tmp_path: Path) -> None:
    (tmp_path / "rich.yaml").write_text(
        """
version: 1
identity: {sources: [jwt], jwt: {issuer: "https://id.example.com", audience: m, groups_claim: g}}
groups: {leads: ["role:lead", bob], risk: ["claim:risk"], web: [svc-web]}
policies:
  - name: prod
    match: {models: ["gov-*"]}
    targets: {aliases: [prod]}
    approvals: [{group: leads}]
    checks: [{signature: required}, {lineage: required}, {expr: "metrics.auc > 0.9"}]
    consume: {principals: ["group:web"], require: approved}
"""
    )
    done = call("test", str(tmp_path / "rich.yaml"), "--registry-store-uri", history.uri)
    assert done.exit_code == 1, done.output  # dave used break-glass
    assert done.output.endswith(
        "Not recorded, so not judged: changes of what no policy protected then; what the checks "
        "(expr, lineage, signature) would have read that day; who had role:lead then; who had "
        "claim:risk then, where that has changed since; who would have been refused a read "
        "(consume).\n"
    )


def test_where_a_version_came_from_is_told_where_that_was_protected(
    bench: ClockBench, tmp_path: Path
) -> None:
    bench.edit("aliases: [prod]", "aliases: [prod, staging]")
    first, second = bench.version(), bench.version()
    for target in ("staging", "prod"):
        bench.say("erin", "request", first, f"{target}: ok")
        bench.say("bob", "approve", first, f"{target}: ok")
        with signed_in("erin"):
            bench.store.set_registered_model_alias("gov-a", target, first)
    bench.say("erin", "request", second)
    bench.say("bob", "approve", second)
    bench.set_alias(second)
    rule = "approvals: [{group: leads, count: 1}]"
    code, rows = tried(
        bench,
        tmp_path,
        (rule, f"{rule}\n    from: {{aliases: [staging]}}"),
        ("[prod, staging]", "[prod]"),
    )
    lacking = ("refused", "the version to be alias 'staging' first, and it is not")
    assert (code, rows) == (1, [("unprotected", ""), ALLOWED, lacking])
    code, rows = tried(
        bench,
        tmp_path,
        (rule, f"{rule}\n    from: {{stages: [Staging]}}"),
        ("[prod, staging]", "[prod]"),
    )
    free = ("unknown", "whether it was stage 'Staging', which nothing protected then")
    assert (code, rows) == (0, [("unprotected", ""), free, free])


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            ("leads: [bob, carol]", "leads: [bob]"),
            [ALLOWED, ("refused", "0 of 1 approvals (leads 0/1)"), ALLOWED, ALLOWED],
        ),
        (
            ('writers: ["svc-ci"]', 'writers: ["robot"]'),
            [("refused", "the tag 'tests' to be 'passed', set by robot, and it was not")] * 2
            + [ALLOWED] * 2,
        ),
        (
            ("    rollback:", '    freeze: [{cron: "* * * * *"}]\n    rollback:'),
            [("refused", "frozen: * * * * * (UTC)")] * 2 + [ALLOWED] * 2,
        ),
        (
            ("{tag: tests, equals: passed, ", "{tag: bias, equals: none, "),
            [("unknown", "the tag 'bias'")] * 2 + [ALLOWED] * 2,
        ),
        (
            ("    rollback: {approvals: 0, within: 30d}\n", ""),
            [ALLOWED, ALLOWED, ("refused", "0 of 1 approvals (leads 0/1)"), ALLOWED],
        ),
        (
            ("break_glass: {group: risk}", "break_glass: {group: leads}"),
            [ALLOWED] * 3 + [("refused", "'dave' may not use break-glass")],
        ),
        ((POLICY.split("match: ")[1].split("\n")[0], '{models: ["x"]}'), [("unprotected", "")] * 4),
    ],
)
def test_another_policy_tells_what_it_would_have_refused(
    history: ClockBench, tmp_path: Path, edit: tuple[str, str], expected: list[Any]
) -> None:
    code, rows = tried(history, tmp_path, edit)
    assert rows == expected
    assert code == int(any(outcome == "refused" for outcome, _ in expected))
