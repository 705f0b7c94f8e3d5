"""What a version's files declare, in words: its signature and its environment."""

from __future__ import annotations

from datetime import date

import pytest

from mlflow_plugins_pack.approvals.content import recorded
from mlflow_plugins_pack.approvals.web import declared

MLMODEL = """
flavors:
  python_function: {python_version: 3.11.7, env: {conda: conda.yaml}}
mlflow_version: 3.17.2
signature:
  inputs: '[{"type": "double", "name": "age", "required": true},
    {"type": "string", "name": "note", "required": false}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]'
  params: '[{"name": "limit", "type": "float", "default": 0.5, "shape": null}]'
"""


def test_a_signature_and_an_environment() -> None:
    found = recorded.model_file(MLMODEL)
    assert declared.signature(found) == {
        "input age": "double",
        "input note": "string, optional",
        "output 0": "tensor of int64, shape [-1]",
        "parameter limit": "float, default 0.5",
    }
    requirements = (
        "scikit-learn==1.5.0\nNumPy>=1.26,<3  # fast\npandas[parquet]==2.2\n\n-r other.txt\n"
    )
    assert declared.environment(found, requirements) == {
        "Python": "3.11.7",
        "Logged by MLflow": "3.17.2",
        "scikit-learn": "1.5.0",
        "numpy": ">=1.26,<3",
        "pandas": "2.2",
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a\n- b",
        "signature: {inputs: 'not json', outputs: 7, params: '[1, {}]'}",
        "a: &x [1]\nb: *x",
        "a: " + "[" * 200,
        "signature: [1]\nflavors: 3",
    ],
)
def test_what_no_model_declares_is_left_out(text: str) -> None:
    found = recorded.model_file(text)
    assert set(declared.signature(found)) <= {"parameter 0"}
    assert declared.environment(found, None) == {}


def test_a_date_in_a_signature_is_shown() -> None:
    column = {"name": "a", "type": "object", "properties": {date(2026, 1, 1): 1, "x": date.max}}
    found = declared.signature({"signature": {"inputs": [column]}})
    assert found == {"input a": 'object {"x": "9999-12-31"}'}
