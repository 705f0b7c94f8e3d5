"""A process that measures on request, so that stock and pack can take turns from block to block.

A benchmark's script calls `serve` with what it measures; `Worker` starts the script with or
without the pack and asks it once per block.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.frame import Sample

HIDING = Path(__file__).parent.parent / "tests" / "support" / "without_pack"
ROOT = Path(__file__).parent.parent


def serve(measure: Callable[[], Sample]) -> None:
    """Answer each line of standard input with one measurement, until the input ends."""
    answers = sys.stdout
    sys.stdout = sys.stderr
    for _ in sys.stdin:
        print(json.dumps(dict(measure())), file=answers, flush=True)


class Worker:
    """A running script; calling it gives one measurement."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def __call__(self) -> Sample:
        """Ask for one measurement.

        Raises:
            RuntimeError: If the script ended; with the end of what it said.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended:\n{self._log.read_text()[-3000:]}")
        sample: Sample = json.loads(line)
        return sample


def environment(*, pack: bool, **settings: str) -> dict[str, str]:
    """Return the environment of a process with or without the pack."""
    from tests.support.servers import clean_environment

    hide = {} if pack else {"HIDE_PACK": "1"}
    path = f"{HIDING}:{ROOT}"
    return clean_environment(PYTHONPATH=path, MLFLOW_DISABLE_TELEMETRY="true", **hide, **settings)


@contextlib.contextmanager
def worker(module: str, *arguments: str, pack: bool, **settings: str) -> Iterator[Worker]:
    """Run ``python -m MODULE ARGUMENTS`` as a worker until the block ends."""
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "log"
        with (
            log.open("w") as said,
            subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                cwd=name,
                env=environment(pack=pack, **settings),
            ) as process,
        ):
            try:
                yield Worker(process, log)
            finally:
                if process.stdin is not None:
                    with contextlib.suppress(BrokenPipeError):
                        process.stdin.close()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
