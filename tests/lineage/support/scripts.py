"""Scripts as a user writes them, each run in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import servers


@dataclass
class Outcome:
    """What a script did.

    Attributes:
        code: Its exit code.
        output: All it printed, both streams.
        value: The JSON of its last line of standard output, if it is JSON.
        folder: Where it ran.
    """

    code: int
    output: str
    value: Any
    folder: Path


RunScript = Callable[..., Outcome]


def run_in(
    folder: Path,
    code: str,
    tracking_uri: str,
    *,
    expect: int | None = 0,
    timeout: float = 120,
    warns: bool = False,
    **environment: str,
) -> Outcome:
    """Run Python code as the file ``train.py`` of a folder, in a process of its own."""
    script = folder / "train.py"
    script.write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=servers.clean_environment(
            MLFLOW_TRACKING_URI=tracking_uri,
            MLFLOW_DISABLE_TELEMETRY="true",
            HOME=str(folder / "home"),
            **environment,
        ),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    output = done.stdout + done.stderr
    if expect is not None:
        assert done.returncode == expect, output
    if not warns:
        # On the happy path nothing is heard of us.
        assert not re.search(r"^(The lineage of|Lineage:)|plugins_pack", done.stderr, re.M), output
    value = None
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(("{", "[", '"')):
            value = json.loads(line)
            break
    return Outcome(done.returncode, output, value, folder)
