"""What the README and the docs say is what the code has."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import click
import pytest

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.cli.main import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [README, *(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))]


def commands(group: click.Group, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return every command below a group as its words."""
    context = click.Context(group)
    found: list[tuple[str, ...]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found.append((*words, name))
        if isinstance(command, click.Group):
            found += commands(command, (*words, name))
    return found


@pytest.mark.parametrize("setting", settings.all_settings(), ids=lambda setting: setting.name)
def test_each_setting_is_in_the_readme(setting: settings.Setting[object]) -> None:
    row = next((line for line in README.splitlines() if f"`{setting.name}`" in line), "")
    assert setting.meaning in row


def test_the_readme_names_no_setting_that_does_not_exist() -> None:
    named = set(re.findall(r"MLFLOW_PACK_[A-Z_]+[A-Z]", README))
    known = {setting.name for setting in settings.all_settings()}
    assert named - known <= {"MLFLOW_PACK_REQUIRE"}


@pytest.mark.parametrize("words", commands(cli), ids=" ".join)
def test_each_command_is_documented_and_explains_itself(words: tuple[str, ...]) -> None:
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    assert command.help
    mentioned = " ".join(words)
    assert any(mentioned in document for document in DOCUMENTS)


def test_each_scheme_is_in_the_readme() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for line in setup["options.entry_points"]["mlflow.artifact_repository"].splitlines():
        if scheme := line.partition("=")[0].strip():
            assert scheme in README
