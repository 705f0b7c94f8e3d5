"""Tables: folded for a person's window, whole for what reads a pipe."""

from __future__ import annotations

import pytest

from mlflow_plugins_pack.cli.output import print_rows

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
