"""A reader who follows a page: types its commands, saves its files, runs its Python.

Commands run in bash, Python blocks in one interpreter, and files appear in the folder. What a
command exports holds for what follows. ``mlflow-pack`` runs in a fork of a process that has its
imports done (see `tests.site.support.warm`), since they would take most of the time.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.site.support.blocks import RUN, Block, blocks_of
from tests.support import servers
from tests.support.paths import ROOT

SECONDS = 120
"""That a block may take; generous, since machines are shared."""


class PageError(AssertionError):
    """A block does not do what its page says."""


class Reader:
    """Follows pages, one after the other, in one folder.

    Args:
        folder: Where the reader works.
        places: What stands on pages, such as an address, and what it is here.
        environment: Of the reader's terminal.
        people: Variables that sign each person in.
    """

    def __init__(
        self,
        folder: Path,
        places: Mapping[str, str],
        environment: Mapping[str, str],
        people: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.places = dict(places)
        self.environment = dict(environment)
        self.home = self.cwd = folder
        self._people = people or {}
        self._open = contextlib.ExitStack()
        self._servers: list[contextlib.ExitStack] = []
        self._python: subprocess.Popen[str] | None = None
        self._output = ""
        self._fresh = True
        self.outputs: list[str] = []

    def __enter__(self) -> Reader:
        bin_folder = self.home / ".bin"
        bin_folder.mkdir(parents=True)
        socket = str(bin_folder / "warm.sock")
        shim = bin_folder / "mlflow-pack"
        client = ROOT / "tests" / "site" / "support" / "warm_client.py"
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -ISs "{client}" "{socket}" "$@"\n')
        shim.chmod(0o755)
        self.environment["PATH"] = f"{bin_folder}{os.pathsep}{self.environment['PATH']}"
        self._open.enter_context(
            servers.running(
                [sys.executable, "-m", "tests.site.support.warm", socket],
                log=self.home / ".bin" / "warm.log",
                ready=Path(socket).exists,
                environment=servers.clean_environment(MLFLOW_PACK_LINEAGE_ENABLED="false"),
                folder=ROOT,
            )
        )
        return self

    def __exit__(self, *_: object) -> None:
        while self._servers:
            self._stop()
        if self._python is not None:
            self._python.kill()
            self._python.communicate()
        self._open.close()

    def follow(self, page: Path) -> None:
        """Do what a page says, from its first block to its last.

        Raises:
            PageError: A block failed, or printed something else than the page shows.
        """
        self._output = ""
        self._fresh = True
        for block in blocks_of(page.read_text()):
            try:
                self._take(block, page)
            except PageError as exc:
                raise PageError(f"{os.path.relpath(page, ROOT)}:{block.line}: {exc}") from None

    def run_as(self, person: str, code: str) -> None:
        """Run Python as a person would."""
        with self.elsewhere(self.cwd, person):
            status, output = self._interpret(code)
        if status:
            raise PageError(output)

    @contextlib.contextmanager
    def elsewhere(self, folder: Path, person: str) -> Iterator[None]:
        """Work in another folder, in a new terminal, until the block ends."""
        before = self.cwd, self.environment, len(self._servers)
        self.cwd = folder
        self.environment = {**self.environment, **self._people[person], "PWD": str(folder)}
        try:
            yield
        finally:
            self.cwd, self.environment, count = before
            while len(self._servers) > count:
                self._stop()

    def _take(self, block: Block, page: Path) -> None:
        if block.kind == "stop":
            self._stop()
        elif block.kind == "as":
            self.environment.update(self._people[block.text])
        elif block.kind == "file":
            self._save(Path(block.text).name, (page.parent / block.text).read_text())
        elif "skip" in block.notes:
            self._output = ""
        elif block.title:
            self._save(block.title, self._here(block.text))
        elif block.kind == "text":
            self._compare(block.text)
        elif block.kind in RUN:
            code = self._here(block.text)
            if "server" in block.notes:
                self._start(code)
                return
            status, self._output = (self._shell if block.kind == "sh" else self._interpret)(code)
            self.outputs.append(self._output)
            wanted = block.notes.get("refused")
            if wanted is None and status:
                raise PageError(f"failed with {status}:\n{block.text}\n{self._output}")
            if wanted is not None and not (status and wanted in self._output):
                raise PageError(f"was to be refused with {wanted!r}:\n{block.text}\n{self._output}")

    def _save(self, name: str, text: str) -> None:
        file = self.cwd / name
        file.write_text(text)
        file.chmod(0o600)

    def _here(self, text: str) -> str:
        for there, here in self.places.items():
            text = text.replace(there, here)
        return text

    def _compare(self, shown: str) -> None:
        if not self._output:
            return
        output = self._output
        for there, here in self.places.items():
            output = output.replace(here, there)
        # Three dots stand for anything, and blanks for any blanks and ends of lines.
        parts = (r"\s+".join(map(re.escape, part.split())) for part in shown.split("..."))
        if not re.search(".*?".join(parts), output, re.DOTALL):
            raise PageError(f"shows\n{shown}\nand this was printed:\n{output}")

    def _shell(self, code: str) -> tuple[int, str]:
        state = self.home / ".bin" / "state"
        after = f"trap 'code=$?; env -0 >{shlex.quote(str(state))}; exit $code' EXIT\n"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", after + code],
            cwd=self.cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        pairs = (one.partition("=") for one in state.read_text().split("\0") if one)
        self.environment = {name: value for name, _, value in pairs if name != "_"}
        self.cwd = Path(self.environment["PWD"])
        return done.returncode, done.stdout

    def _interpret(self, code: str) -> tuple[int, str]:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "site" / "support" / "interpreter.py")],
                cwd=self.cwd,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        asked = {
            "code": code,
            "folder": str(self.cwd),
            "environment": self.environment,
            "fresh": self._fresh,
        }
        self._fresh = False
        self._python.stdin.write(json.dumps(asked) + "\n")
        self._python.stdin.flush()
        answer = json.loads(self._python.stdout.readline())
        return answer["status"], answer["output"]

    def _start(self, code: str) -> None:
        if not (port := re.search(r"--port[ =](\d+)", code)):
            raise PageError(f"names no port:\n{code}")
        url = f"http://127.0.0.1:{port[1]}"
        self._servers.append(contextlib.ExitStack())
        # Not the fork of `warm`, which serves one command at a time.
        path = self.environment["PATH"].partition(os.pathsep)[2]
        self._servers[-1].enter_context(
            servers.running(
                ["bash", "-euo", "pipefail", "-c", code],
                log=self.home / ".bin" / "server.log",
                ready=lambda: (
                    servers.accepts_connections(int(port[1]))
                    and servers.answers_http(f"{url}/health")
                ),
                # Ten more processes, which only many users and those who submit jobs need.
                environment={
                    **self.environment,
                    "PATH": path,
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                    "MLFLOW_WORKERS": "1",
                },
                folder=self.cwd,
            )
        )

    def _stop(self) -> None:
        self._servers.pop().close()


def skipped(pages: Iterable[Path]) -> dict[str, list[str]]:
    """Return the blocks that do not run, by the reason that their page gives."""
    found: dict[str, list[str]] = {}
    for page in pages:
        for block in blocks_of(page.read_text()):
            if "skip" in block.notes:
                place = f"{page.relative_to(ROOT)}:{block.line}"
                found.setdefault(block.notes["skip"], []).append(place)
    return found
