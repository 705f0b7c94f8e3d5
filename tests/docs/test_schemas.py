"""The published JSON Schema files accept what the docs show, and refuse what the readers refuse."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import jsonschema
import pytest
import yaml

from mlflow_plugins_pack.approvals.policy.models import PolicyFile
from mlflow_plugins_pack.approvals.policy.parse import parse_policy
from tests.support.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REFERENCE = ROOT / "docs" / "reference"
POLICY_KEYS = set(PolicyFile.model_fields)


def _schema(name: str) -> Any:
    schema = json.loads((REFERENCE / name).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


def _blocks(language: str) -> list[str]:
    pages = [*(ROOT / "docs").glob("**/*.md"), *ROOT.glob("examples/*/*.md")]
    return [
        block
        for page in pages
        for block in re.findall(rf"^```{language}[^\n]*\n(.*?)^```", page.read_text(), re.S | re.M)
    ]


def test_each_policy_of_the_docs_is_valid() -> None:
    schema = _schema("policy.schema.json")
    shown = [yaml.safe_load(block) for block in _blocks("yaml")]
    policies = [one for one in shown if isinstance(one, dict) and "policies" in one]
    policies.append(yaml.safe_load((ROOT / "examples/team-server/policy.yaml").read_text()))
    assert len(policies) >= 4
    for policy in policies:
        jsonschema.validate(policy, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**policies[0], "polices": []}, schema)


def test_the_server_reads_each_policy_of_the_docs() -> None:
    """A block of some keys, such as `events`, is read as a part of an example's policy."""
    whole = yaml.safe_load((ROOT / "examples/team-server/policy.yaml").read_text())
    shown = [one for one in map(yaml.safe_load, _blocks("yaml")) if set(one) <= POLICY_KEYS]
    assert len(shown) >= 7
    for part in shown:
        groups = {**whole["groups"], **part.get("groups", {})}
        parse_policy(yaml.safe_dump({**whole, **part, "groups": groups}), "policy.yaml")


def test_each_profile_of_the_docs_is_valid() -> None:
    schema = _schema("profiles.schema.json")
    files = [*_blocks("toml"), (ROOT / "examples/protected-server/auth.toml").read_text()]
    profiles = [found for found in map(tomllib.loads, files) if "profile" in found]
    assert len(profiles) >= 4
    for profile in profiles:
        jsonschema.validate(profile, schema)
    wrong = {"profile": {"p": {"hosts": ["https://h"], "source": "env", "env": "T", "x": 1}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def test_each_key_of_a_profile_is_explained() -> None:
    from mlflow_plugins_pack.auth.profiles.models import MODELS

    page = (REFERENCE / "profiles.md").read_text()
    keys = {key for model in MODELS.values() for key in model.model_fields}
    assert not [key for key in sorted(keys) if f"`{key}" not in page]
