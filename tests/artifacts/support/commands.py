"""Run `mlflow-pack artifacts` in this process."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from mlflow_plugins_pack.cli.main import cli


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["artifacts", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def run_json(*arguments: str, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code).stdout)
