"""Exit codes of the command: 0 done, 1 refused or found wrong, 2 wrong usage."""

from __future__ import annotations

import sys

import click
import pytest

from mlflow_plugins_pack.cli import main as module
from mlflow_plugins_pack.errors import ConfigurationError


def _exit_code(monkeypatch: pytest.MonkeyPatch, ending: BaseException | None) -> int:
    @click.command()
    def command() -> None:
        if ending is not None:
            raise ending

    monkeypatch.setattr(module, "cli", command)
    monkeypatch.setattr(sys, "argv", ["mlflow-pack"])
    with pytest.raises(SystemExit) as caught:
        module.main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        (None, 0),
        (click.exceptions.Exit(1), 1),
        (click.exceptions.Exit(3), 3),
        (ConfigurationError("wrong"), 1),
        (click.UsageError("how?"), 2),
        (click.Abort(), 1),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, ending: BaseException | None, code: int
) -> None:
    assert _exit_code(monkeypatch, ending) == code


def test_a_refusal_is_one_line_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _exit_code(monkeypatch, ConfigurationError("the thing is wrong. Nothing was changed."))
    assert capsys.readouterr().err == "error: the thing is wrong. Nothing was changed.\n"


def test_an_unforeseen_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        _exit_code(monkeypatch, ZeroDivisionError())
