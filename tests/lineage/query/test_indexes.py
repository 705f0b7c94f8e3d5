"""Optional indexes of MLflow's tables: created once, dropped again, and used by its searches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlflow_plugins_pack.cli.lineage.group import lineage


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(lineage, ["index", *arguments])


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_indexes_come_and_go(
    mlflow_database: Callable[[str, Path], str], tmp_path: Path, kind: str
) -> None:
    uri = mlflow_database(kind, tmp_path)
    assert invoke("status", uri).exit_code == 1
    first = invoke("install", uri)
    assert first.exit_code == 0, first.output
    assert first.output.count("Created mpp_") == 4
    assert invoke("install", uri).output == "All indexes exist already.\n"
    status = invoke("status", uri, "--json")
    assert status.exit_code == 0
    assert all(row["exists"] for row in json.loads(status.stdout))
    assert invoke("remove", uri).output.count("Dropped mpp_") == 4
    assert invoke("remove", uri).output == "None of the indexes exists.\n"


def test_database_without_the_tables_is_explained(tmp_path: Path) -> None:
    result = invoke("install", f"sqlite:///{tmp_path / 'empty.db'}")
    assert result.exit_code == 1
    assert "--backend-store-uri" in result.output
