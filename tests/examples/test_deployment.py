"""The form of the files for systemd, Docker and GitHub, and what they name of the pack."""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from mlflow_plugins_pack.cli.main import cli
from tests.support.paths import ROOT

TEAM = ROOT / "examples" / "team-server"
UNITS = sorted((TEAM / "systemd").iterdir())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())


def parse(command: str) -> None:
    """Parse a command line of ours without running it."""
    words = shlex.split(command)[1:]
    found: click.Command = cli
    while isinstance(found, click.Group):
        context = click.Context(found)
        name = words.pop(0)
        command_or_none = found.get_command(context, name)
        assert command_or_none is not None, f"no command {name}"
        found = command_or_none
    found.make_context("", words)


def sections(unit: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return parser


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit(unit: Path) -> None:
    found = sections(unit)
    if unit.suffix == ".timer":
        assert unit.with_suffix(".service").exists()
        assert found["Timer"]["OnCalendar"]
        return
    program, *_ = command = shlex.split(found["Service"]["ExecStart"])
    if program.endswith("/mlflow-pack"):
        parse(found["Service"]["ExecStart"])
    else:
        assert command[:2] == ["/bin/bash", "/etc/mlflow/start.sh"]
    assert found["Service"]["User"] == "mlflow"


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((TEAM / "container" / "compose.yaml").read_text())
    return document


def test_compose_file() -> None:
    services = compose()["services"]
    assert services["mlflow"]["read_only"]
    build = services["mlflow"]["build"]
    context = (TEAM / "container" / build["context"]).resolve()
    assert context == ROOT
    assert (context / build["dockerfile"]).exists()
    *_, command = services["collect"]["command"]
    parse(command.removeprefix("exec ").replace("$$ARTIFACTS", "s3://bucket/prefix"))
    # The service sets what start.sh wants, and the example names what the file itself wants.
    wanted = re.findall(r"\$\{(\w+):\?", (TEAM / "start.sh").read_text())
    assert set(wanted) <= set(services["mlflow"]["environment"])
    needed = set(re.findall(r"\$\{(\w+):\?", (TEAM / "container" / "compose.yaml").read_text()))
    example = (TEAM / "container" / "example.env").read_text()
    assert needed <= {line.partition("=")[0] for line in example.splitlines()}


def test_the_users_of_the_compose_file_outlive_its_container() -> None:
    content = compose()["configs"]["basic_auth"]["content"]
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(content)
    uri = parser["mlflow"]["database_uri"]
    assert uri.startswith("postgresql+psycopg://")
    assert uri.rpartition("/")[2] in compose()["configs"]["users_database"]["content"]


def test_dockerfile() -> None:
    text = (TEAM / "container" / "Dockerfile").read_text()
    for source in re.findall(r"^COPY (examples\S+) (examples\S+) ", text, re.MULTILINE)[0]:
        assert (ROOT / source).exists()
    assert "USER 1000" in text


def steps(workflow: Path) -> Iterator[dict[str, Any]]:
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        yield from job["steps"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda workflow: workflow.name)
def test_workflows_call_the_scripts_that_people_call(workflow: Path) -> None:
    commands = [step["run"] for step in steps(workflow) if "run" in step]
    for command in commands:
        program = shlex.split(command)[0]
        if program.startswith(("scripts/", ".ci/")):
            assert (ROOT / program).stat().st_mode & 0o100, command
        elif "-m tests." in command:
            module = shlex.split(command)[2].replace(".", "/")
            assert (ROOT / f"{module}.py").exists() or (ROOT / module / "__main__.py").exists()
        else:
            assert program == "apt-get", command
    for step in steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@[\w./-]+", step["uses"])


def test_no_token_is_stored_for_a_release() -> None:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert "secrets." not in text
    assert "id-token: write" in text
