"""The doctor names what is published about the MLflow that it finds."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from mlflow_plugins_pack.cli.doctor.advisories import ADVISORIES, advisories_for
from mlflow_plugins_pack.cli.main import cli


@pytest.mark.parametrize(
    ("version", "count"),
    [((3, 14, 9), 8), ((3, 15, 0), 6), ((3, 16, 0), 4), ((3, 16, 1), 3), ((3, 17, 0), 0)],
)
def test_an_advisory_counts_until_its_fix(version: tuple[int, int, int], count: int) -> None:
    findings = list(advisories_for(version))
    numbers = [advisory.number for advisory in ADVISORIES]
    assert [finding.subject for finding in findings] == numbers[len(numbers) - count :]
    assert all("Upgrade MLflow to 3." in finding.message for finding in findings)


def test_the_doctor_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlflow.version.VERSION", "3.16.0")
    assert "CVE-2026-2635: " in CliRunner().invoke(cli, ["doctor"]).output
    monkeypatch.setattr("mlflow.version.VERSION", "3.17.0rc1")
    assert "CVE-" not in CliRunner().invoke(cli, ["doctor"]).output
