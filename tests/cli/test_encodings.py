"""Terminals that cannot show every character."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_gets_escapes(tmp_path: Path, encoding: str) -> None:
    """A profile with a name that the terminal cannot show."""
    config = tmp_path / "auth.toml"
    config.write_text(
        '[profile."名前-żółw"]\nhosts = ["https://h.example"]\nsource = "env"\nenv = "NO_TOKEN"\n',
        encoding="utf-8",
    )
    config.chmod(0o600)
    environment = {
        **os.environ,
        "MLFLOW_PACK_AUTH_CONFIG": str(config),
        "PYTHONIOENCODING": encoding,
        "PYTHONUTF8": "0",
    }
    for arguments in (["status"], ["status", "--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "mlflow_plugins_pack.cli", "auth", *arguments],
            env=environment,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert b"Traceback" not in done.stderr
        assert b"NO_TOKEN is not set" in done.stderr + done.stdout
    assert json.loads(done.stdout)[0]["profile"] == "名前-żółw"
