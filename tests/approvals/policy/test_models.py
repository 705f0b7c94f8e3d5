from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.policy.models import Policy
from mlflow_plugins_pack.approvals.policy.parse import parse_policy
from mlflow_plugins_pack.errors import PolicyInvalidError
from tests.approvals.support.policies import FULL
from tests.support.paths import ROOT


def parse(text: str) -> Policy:
    return parse_policy(text, "policy.yaml")


def test_the_documented_policy_is_valid() -> None:
    document = (ROOT / "docs" / "reference" / "policy-rules.md").read_text()
    text = document.split("```yaml\n")[1].split("```")[0]
    (rule,) = parse(text).file.policies
    assert all(getattr(rule, key) for key in type(rule).model_fields)


def problems(text: str) -> str:
    with pytest.raises(PolicyInvalidError) as caught:
        parse(text)
    message: str = caught.value.message
    assert message.startswith("POLICY_INVALID: the approvals policy policy.yaml cannot be used: ")
    assert message.endswith("Nothing was changed. Correct the file.")
    assert caught.value.get_http_status_code() == 400
    return message


def test_every_key() -> None:
    policy = parse(FULL)
    assert policy.defaults.expires_after == 14 * 86400
    rule = policy.rules_for("team-a", "Fraud-EU", is_prompt=False)[0]
    assert rule.name == "prod"
    assert rule.protected(Target("alias", "PROD")) == Target("alias", "prod")
    assert rule.protected(Target("stage", "Production")) == Target("stage", "Production")
    assert rule.protected(Target("alias", "dev")) is None
    assert [str(r.group) for r in policy.demote_rules(rule)] == ["ml-leads or risk"]
    check = rule.checks[0]
    assert [policy.is_writer(check, user) for user in ("svc-ci", "root", "zoe", "bob", None)] == [
        True,
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("workspace", "name", "is_prompt", "expected"),
    [
        ("team-a", "fraud-eu", False, "prod rest"),
        ("team-a", "credit/x/y", False, "prod rest"),
        ("team-a", "fraud-eu-sandbox", False, "rest"),
        ("other", "fraud-eu", False, "rest"),
        ("team-a", "whatever", True, "prod"),
        ("other", "whatever", True, ""),
        ("team-a", "whatever", False, "rest"),
    ],
)
def test_policies_apply_in_the_order_of_the_file(
    workspace: str, name: str, is_prompt: bool, expected: str
) -> None:
    rules = parse(FULL).rules_for(workspace, name, is_prompt=is_prompt)
    assert " ".join(rule.name for rule in rules) == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("demote:", "demot:", "line 14: policies.0.demot: unknown key"),
        ("identity:", "Identity:", "line 2: Identity: unknown key"),
        ("{approvals: 1}", "{approvals: 9}", "line 14: policy 'prod': the groups have too few"),
        (
            "{tag: tests, equals: passed,",
            "{signature: required, tag: tests, equals: passed,",
            "line 13: policies.0.checks.0.signature: unknown key",
        ),
        ("equals: passed, ", "", "line 13: policies.0.checks.0.equals: this key is missing"),
        ("{tag: tests,", "{tests: x,", "line 13: policies.0.checks.0.tests: unknown key"),
        ("count: 2", "count: two", "line 18: policies.1.approvals.0.count"),
        ("count: 2", "count: 3", "line 18: policy 'rest': the groups have too few people"),
        ("group: risk, count", "group: rsk, count", "line 11: policy 'prod': the group 'rsk' is"),
        ("14d", "two weeks", "line 4: defaults.expires_after: expected a number and one of"),
        ("name: rest", "name: prod", "line 15: policy 'prod': another policy has this name"),
        ("[dave]", '["claim:r"]', "line 3: groups.risk: no source under 'identity' gives groups"),
        ("[dave]", "[no]", "line 3: groups.risk.0: expected text, found False; put it in quotes"),
        ("[Production]", "[Prod]", "line 10: policies.0.targets.stages: 'Prod' is not one of"),
        ("[artifacts, tags, source]", "[tags]", "an approval is always bound to the bytes"),
        ("version: 1", "version: 2", "line 1: version:"),
        ("allow_anonymous: false", "allow_anonymous: true", "line 2: identity.allow_anonymous"),
        ("[basic_auth]", "[ldap]", "line 2: identity.sources.0"),
        ("[prod, champion]", "[prod, Prod]", "two aliases differ only in case or form"),
        ("[prod, champion]", '["a b"]', "line 10: policies.0.targets.aliases"),
        ("[prod, champion]", "[Latest]", "MLflow lets no alias be called 'Latest'"),
        ("[prod, champion]", "[v12]", "MLflow lets no alias be called 'v12'"),
        (
            "    demote:",
            "    from: {stages: [staging]}\n    demote:",
            "line 14: policies.0.from.stages: 'staging' is not one of",
        ),
        ("[dave]", '["group:ci"]', "line 3: groups.risk: 'group:ci' is not a user"),
        ('"user:root", zoe', '"role:x"', "line 12: policy 'prod': put 'role:x' into a group"),
        ("version: 1\n", "version: 1\nversion: 1\n", "line 2: the key 'version' is listed twice"),
        ("version: 1", "version: [", "line 3: expected"),
    ],
)
def test_mistakes_are_named_with_their_line(old: str, new: str, expected: str) -> None:
    assert old in FULL
    assert expected in problems(FULL.replace(old, new, 1))


@pytest.mark.parametrize(
    "text",
    [
        *("", "- a", "42", "version: 1", "a: &x [*x]", "\x00", "a: " + "[" * 5000),
        # A server reads an edited file while it serves: no other error may come of it.
        *("version: " + "9" * 5000, "version: 2020-99-99", "? [a]\n: b", "? {a: b}\n: c"),
        *("a: !!timestamp -0.0", "a: !!bool perhaps", "a: !!int ''", "a: !!map x"),
    ],
)
def test_what_is_no_policy(text: str) -> None:
    problems(text)


def test_a_small_text_that_says_very_much_is_no_policy() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "too many values" in problems("\n".join(lines))


@given(st.text(max_size=200))
def test_any_text_is_a_policy_or_a_clear_error(text: str) -> None:
    try:
        parse(text)
    except PolicyInvalidError:
        problems(text)


@given(st.data())
def test_damaged_policies_never_pass_unnoticed(data: st.DataObject) -> None:
    """Dropping a line yields an error or a policy that protects what is still written."""
    lines = FULL.splitlines()
    index = data.draw(st.integers(0, len(lines) - 1))
    text = "\n".join(lines[:index] + lines[index + 1 :])
    try:
        policy = parse(text)
    except PolicyInvalidError:
        return
    assert policy.file.policies
    for rule in policy.file.policies:
        assert rule.targets.aliases or rule.targets.stages
