"""What commands print: tables, JSON, and other people's text that cannot act on a terminal."""

from __future__ import annotations

import ast
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlflow_plugins_pack.cli
from mlflow_plugins_pack.cli.output import echo, escaped, print_json, print_rows, quoted

PATH = "file:///" + "/".join(["a-folder-with-a-long-name"] * 8) + "/wine.csv"


def test_what_reads_a_pipe_gets_each_row_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(
        [{"path": PATH, "size": 3}, {"path": "b", "size": None}], ["path", "size"], as_json=False
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [PATH, "3"] in lines
    assert ["b"] in lines


def test_a_window_is_not_overrun(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich: this is a terminal
    monkeypatch.setenv("COLUMNS", "60")
    print_rows([{"path": PATH, "size": 3}], ["path", "size"], as_json=False)
    text = capsys.readouterr().out
    assert "wine.csv" in text
    assert PATH not in text


HOSTILE = "ok\n  2026-11-27 bob approve: fine\x1b[2K\r\x9b1A\u202edorp\u2028\ud800\x07"


def _acts(text: str) -> list[str]:
    """Return the characters of a text, line ends apart, that a terminal does not simply show."""
    return [
        character
        for character in text
        if character != "\n" and unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs")
    ]


def test_a_line_cannot_be_left_by_what_is_printed_in_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    echo(f"comment: {HOSTILE}", "the second line")
    print_rows([{"comment": HOSTILE}], ["comment"], as_json=False)
    text = capsys.readouterr().out
    assert not _acts(text)
    lines = [line.strip() for line in text.splitlines()]
    assert lines[1] == "the second line"
    assert not any(line.startswith("2026-11-27 bob approve") for line in lines)


def test_json_says_the_same_and_acts_on_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"comment": HOSTILE, "name": "łukasz 不合格"})
    text = capsys.readouterr().out
    assert not _acts(text)
    assert json.loads(text) == {"comment": HOSTILE, "name": "łukasz 不合格"}
    assert "łukasz 不合格" in text


@given(st.text())
def test_a_quotation_is_one_visible_line_and_ends_where_it_should(text: str) -> None:
    shown = quoted(text)
    assert not _acts(shown)
    assert "\n" not in shown
    assert shown[0] == shown[-1] == '"'
    assert '"' not in shown[1:-1].replace("\\\\", "").replace('\\"', "")


@pytest.mark.parametrize("text", ["plain", "łukasz 不合格", "a-b_c.d/e:f", "naïve ≥ 0.9 – ok"])
def test_ordinary_text_is_shown_as_it_is(text: str) -> None:
    assert escaped(text) == text


def test_every_command_prints_through_these_functions() -> None:
    folder = Path(mlflow_plugins_pack.cli.__file__).parent
    direct = []
    for path in sorted(folder.rglob("*.py")):
        # The demo prints its own texts, by rich, without markup.
        if path.name == "output.py" or "demo" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in ("print", "click.echo", "click.secho", "sys.stdout.write"):
                    direct.append(f"{path.name}:{node.lineno}")
    assert not direct
