"""The demo's side of a signed-in person: asks the person's process to act."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlflow_plugins_pack.cli.demo.site import DemoError, Site


class RefusedError(Exception):
    """The server refused the act; the text is its message, verbatim."""


class Person:
    """A process that is signed in as one user; see `mlflow_plugins_pack.cli.demo.person`."""

    def __init__(self, site: Site, name: str) -> None:
        self.name = name
        self.log = site.folder / "people" / name / "log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow_plugins_pack.cli.demo.person"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=site.folder / "people" / name,
                env=site.environment_of(name),
            )

    def do(self, act: str, **arguments: Any) -> Any:
        """Act through the stock client and return what came back.

        Raises:
            RefusedError: If the server refused.
            DemoError: If the process ended.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise DemoError(f"{self.name} has no pipe")
        try:
            self._process.stdin.write(json.dumps({"act": act, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise DemoError(f"{self.name} could not {act}:\n{_tail(self.log)}")
        answer = json.loads(line)
        if "refused" in answer:
            raise RefusedError(answer["refused"])
        return answer["value"]

    def leave(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-3000:]
