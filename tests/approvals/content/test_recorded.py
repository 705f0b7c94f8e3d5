"""What runs and models record about themselves is read within bounds: any writer chooses it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack.approvals.content import recorded

SECONDS = 2.0


def run(root: Path, **tags: str) -> Any:
    named = {f"lineage.{key}": value for key, value in tags.items()}
    return SimpleNamespace(
        data=SimpleNamespace(tags=named), info=SimpleNamespace(artifact_uri=str(root))
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("signature:\n  inputs: '[]'\n", True),
        ("flavors: {}\nsignature: {inputs: x}\nrun_id: r\n", True),
        ("flavors: {signature: {inputs: x}}\n", False),
        ("signature: null\n", False),
        ("signature:\n", False),
        ("signature: {}\n", False),
        ("signature: []\nx: [[1], {a: b}]\n", False),
        ("", False),
        ("signature", None),
        ("[signature, x]", None),
        ("a: &x {}\nsignature: *x\n", None),
        ("signature: [", None),
        ("signature: " + "[" * 1000, None),
        ("signature: " + "[" * 50_000, None),
        ("[" * 5000, None),
    ],
)
def test_the_signature_is_found_without_building_the_file(text: str, expected: bool | None) -> None:
    assert recorded.has_signature(text) is expected


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=10,
    )
)
def test_it_is_what_a_whole_parser_says(value: Any) -> None:
    """A whole parser agrees, but for texts that only look empty: those count as lacking."""
    text = yaml.safe_dump({"flavors": value, "signature": {"inputs": value}, "x": [value]})
    if "&" not in text and "*" not in text:
        assert recorded.has_signature(text) is True
    assert not recorded.has_signature(yaml.safe_dump({"flavors": value}))


def test_a_large_file_takes_no_time_and_no_memory() -> None:
    text = "".join(f"k{i}: {{a: [1, 2, {{b: c}}]}}\n" for i in range(200_000))
    began = time.monotonic()
    assert recorded.has_signature(text) is None
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("value", ["[" * 1000, "[" * 100_000, '{"a":' * 5000, "[]", "nope", "{}"])
def test_nested_lineage_is_not_an_error(value: str, tmp_path: Path) -> None:
    found = recorded.lineage_of(run(tmp_path, inputs=value))
    assert (found is None) == (value != "[]")
    found = recorded.lineage_of(run(tmp_path, inputs="[]", code=value, truncated=value))
    assert found is not None
    assert found.commit is None


def test_a_shortened_list_is_completed_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = run(tmp_path, inputs="[]", truncated='{"inputs": 1}')
    (tmp_path / "lineage").mkdir()
    file = tmp_path / "lineage" / "lineage.json"
    entry = {"u": "s3://b/x", "r": "data"}
    file.write_text(json.dumps({"inputs": [entry]}))
    found = recorded.lineage_of(about)
    assert found is not None
    assert (found.inputs, found.is_complete) == ((entry,), True)
    monkeypatch.setattr(recorded, "MAX_INPUTS", 3)
    file.write_text(json.dumps({"inputs": [entry] * 4}))
    found = recorded.lineage_of(about)
    assert found is not None
    assert (len(found.inputs), found.is_complete) == (3, False)
    monkeypatch.setattr(recorded, "LARGEST_BYTES", 100)
    found = recorded.lineage_of(about)
    assert found is not None
    assert (found.inputs, found.is_complete) == ((), False)
    for odd in ("[" * 5000, '{"inputs": [{"files": 2, "u": "a"}], "members": {"a": 7}}'):
        monkeypatch.setattr(recorded, "LARGEST_BYTES", 10_000)
        file.write_text(odd)
        found = recorded.lineage_of(about)
        assert found is not None
        assert not found.is_complete


@pytest.mark.parametrize(
    ("coverage", "lacks"),
    [
        ('{"layers": ["audit"], "complete": true}', ()),
        ('{"complete": false, "blind": ["pyspark"], "other_hosts": true}', 2),
        ('{"complete": false, "programs": ["spark-submit"]}', 1),
        ('{"complete": "true"}', 1),
        ("[", 1),
        (None, 1),
    ],
)
def test_only_what_is_said_to_be_complete_lacks_nothing(
    coverage: str | None, lacks: Any, tmp_path: Path
) -> None:
    tags = {"inputs": "[]"} | ({"coverage": coverage} if coverage is not None else {})
    found = recorded.lineage_of(run(tmp_path, **tags))
    assert found is not None
    assert found.lacks == lacks or len(found.lacks) == lacks


@pytest.mark.parametrize(
    "scalar", ["!!bool x", "!!int ''", "!!timestamp x", "!!float x", "!!binary '%'", "2026-99-99"]
)
def test_a_scalar_that_does_not_fit_its_tag_is_not_an_error(scalar: str) -> None:
    """Any user with EDIT writes the file, and a reviewer opens the page that shows it."""
    found = recorded.model_file(f"flavors: {{}}\na: {scalar}\n")
    assert found == {} or set(found) == {"flavors", "a"}


def test_half_a_character_in_lineage_is_not_an_error() -> None:
    tags = {
        "lineage.inputs": '[{"u": "s3://a/", "files": 1}]',
        "lineage.truncated": '{"inputs": 1}',
    }
    document = '{"inputs": [{"u": "s3://a/", "files": 1}], "members": {"s3://a/": ["\\ud800"]}}'
    lineage = recorded.lineage_in(tags, lambda: document)
    assert lineage is not None
    assert {entry["u"] for entry in lineage.inputs} == {"s3://a/", "s3://a/%3F"}
    tags = {"lineage.inputs": r'[{"u": "\ud800"}]', "lineage.code": r'{"commit": "\udfff"}'}
    lineage = recorded.lineage_in(tags | {"lineage.coverage": r'{"blind": ["\ud800"]}'}, str)
    assert lineage is not None
    assert (lineage.inputs, lineage.commit) == (({"u": "?"},), "?")
    assert lineage.lacks == ("blind to ?",)


def test_lineage_of_any_depth_is_not_an_error() -> None:
    for depth in range(900, 1000):
        deep = "[" * depth + "]" * depth
        tags = {"lineage.inputs": f'[{{"u": "a", "x": {deep}}}]', "lineage.code": "{}"}
        recorded.lineage_in(tags, str)
