"""Runs a program so that every file that it and its children open belongs to the active run."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow_plugins_pack
from mlflow_plugins_pack import settings
from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture import usage
from mlflow_plugins_pack.lineage.capture.event import READ, WRITE
from mlflow_plugins_pack.lineage.capture.programs import launcher, supervisor
from mlflow_plugins_pack.lineage.files import file_state
from mlflow_plugins_pack.lineage.session import session
from mlflow_plugins_pack.lineage.session.options import Options

_logger = logging.getLogger("mlflow_plugins_pack.lineage")
_START = """
import sys
sys.path.insert(0, {root!r})
from mlflow_plugins_pack.lineage.capture.programs.{module} import main
main(sys.argv[1:])
"""
_START_SECONDS = 30
_WRITING_SECONDS = 10
"""Time for the last reports after the program has ended."""
_LEFT_BEHIND_MS = 100
_RESTARTS = 5


def run_program(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    started: Callable[[int], object] = lambda _: None,
    **options: Any,
) -> int:
    """Run a program and record the files that it and its children open, in the active run.

    The program may be written in any language. Where the system does not allow it, the program runs
    all the same, a warning says so, and the record's coverage names the program.

    Args:
        arguments: The program and its arguments, as in `subprocess.run`; no shell is used.
        started: Called with the process identifier once the program is about to begin.
        options: ``cwd``, ``env``, ``stdin``, ``stdout``, ``stderr`` and the like, as in
            `subprocess.Popen`.

    Returns:
        The exit code; negative for the signal that ended it. 127 if there is no such program, 126
        if it cannot be executed, as of a shell.

    Raises:
        ValueError: If there are no arguments.
        OSError: If no process can be started.
    """
    words = [os.fspath(word) for word in arguments]
    if not words:
        raise ValueError("no program was named")
    current = session.current()
    current.start()
    reports = current.child_reports()
    if reports is None:
        return _run(words, options, started)
    _record_inherited(options)
    with current.muted():
        return _Observed(words, options, *reports).run(started)


def _record_inherited(options: Mapping[str, Any]) -> None:
    """Record the files that a shell has opened for the program: ``< raw.csv > train.csv``."""
    current = sink.current()
    for name, handle, kind in (("stdin", 0, READ), ("stdout", 1, WRITE), ("stderr", 2, WRITE)):
        if options.get(name) is not None:
            continue
        with contextlib.suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115
            state = file_state(path) if path.startswith("/") else None
            if state is None or not current.is_data(path):
                continue
            claimed = current.claim(path, kind == WRITE)
            if claimed is not None:
                current.emit_file(claimed, kind, path, state, via=supervisor.VIA)


def _run(words: list[str], options: Mapping[str, Any], started: Callable[[int], object]) -> int:
    try:
        process = subprocess.Popen(words, **options)  # noqa: S603  # what the user asked for
    except (FileNotFoundError, PermissionError) as exc:
        missing = isinstance(exc, FileNotFoundError)
        sys.stderr.write(f"mlflow-pack: {words[0]}: {exc.strerror}\n")
        return launcher.NOT_FOUND if missing else launcher.NOT_EXECUTABLE
    started(process.pid)
    return process.wait()


class _Observed:
    """One program, the process that observes it, and what both need."""

    def __init__(
        self, words: list[str], options: Mapping[str, Any], folder: str, owners: tuple[str, ...]
    ) -> None:
        self._words = words
        self._options = dict(options)
        read = Options().get
        self._task = supervisor.Task(
            folder=folder,
            owners=owners,
            interpreter=tuple({sys.prefix, sys.base_prefix, sys.exec_prefix}),
            home=str(Path.home()),
            include=read(settings.LINEAGE_INCLUDE),
            exclude=read(settings.LINEAGE_EXCLUDE),
        )
        self._handle = -1
        self._shared = -1
        self._ready = -1
        self._gaps = 0

    def run(self, started: Callable[[int], object]) -> int:
        """Run the program to its end and return its exit code."""
        try:
            process, problem = self._launch()
            if process is None:
                code = _run(self._words, self._options, started)
            else:
                started(process.pid)
                if not problem:
                    self._attend(process.pid)
                code = process.wait()
                if not problem:
                    self._finish()
        finally:
            for handle in (self._handle, self._shared, self._ready):
                if handle >= 0:
                    os.close(handle)
        if problem:
            _logger.warning(
                "Lineage: the files that %s opened were not recorded: %s. It ran all the same.",
                self._words[0],
                problem,
            )
        if problem or self._gaps:
            usage.note_unwatched(Path(self._words[0]).name)
        return code

    def _launch(self) -> tuple[subprocess.Popen[Any] | None, str]:
        """Start the program and its observer.

        Returns:
            The program, None if it has yet to be started without an observer; and the reason why it
            is not observed, empty if it is.
        """
        here, there = socket.socketpair()
        with here, there:
            options = {**self._options}
            options["pass_fds"] = (there.fileno(), *options.get("pass_fds", ()))
            start = [*_start("launcher"), str(there.fileno())]
            process = subprocess.Popen([*start, *self._words], **options)  # noqa: S603
            there.close()
            here.settimeout(_START_SECONDS)
            try:
                said, handles, _, _ = socket.recv_fds(here, 400, 1)
                if said and not handles:
                    return process, said.decode(errors="replace")
                if not handles:
                    raise ChildProcessError("it ended at once")
                self._handle = handles[0]
                os.set_inheritable(self._handle, False)
                self._shared = os.memfd_create("mlflow-pack-lineage")
                os.ftruncate(self._shared, supervisor.SHARED.size)
                self._observe(process.pid)
                here.sendall(b"+")
            except OSError as exc:
                # The program has not begun: until the answer it is this package's own code.
                process.kill()
                process.wait()
                return None, f"the observing process did not start ({exc})"
            return process, ""

    def _observe(self, process: int) -> None:
        """Start the observer and wait until it answers.

        Raises:
            OSError: If it cannot be started.
        """
        ready, theirs = os.pipe()
        arguments = [self._handle, self._shared, theirs, process, self._task.encode()]
        try:
            subprocess.Popen(  # noqa: S603
                [*_start("supervisor"), *map(str, arguments)],
                pass_fds=(self._handle, self._shared, theirs),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        self._ready = ready
        if not select.select([ready], [], [], _START_SECONDS)[0] or not os.read(ready, 1):
            raise OSError("the process that observes the program did not start")

    def _attend(self, process: int) -> None:
        """Wait until the program ends; replace the observer if something kills it."""
        try:
            program = os.pidfd_open(process)
        except OSError:
            return  # it has ended
        try:
            for _ in range(_RESTARTS):
                if self._is_over(program):
                    return
                self._gaps += 1
                os.close(self._ready)
                self._ready = -1
                try:
                    self._observe(process)
                except OSError:
                    break
            supervisor.let_all_continue(self._handle, self._shared, program)
        finally:
            os.close(program)

    def _is_over(self, program: int) -> bool:
        """Wait; return True if the program has ended, False if its observer died before it."""
        poll = select.poll()
        poll.register(program, select.POLLIN)
        poll.register(self._ready, select.POLLIN)
        return program in dict(poll.poll()) or supervisor.has_ended(program)

    def _finish(self) -> None:
        """Wait for the last reports, and note what could not be seen."""
        deadline = time.monotonic() + _WRITING_SECONDS
        while self._ready >= 0:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._ready], [], [], left)[0]:
                self._gaps += 1
                break
            if not os.read(self._ready, 64):
                break
        self._gaps += supervisor.SHARED.unpack(os.pread(self._shared, supervisor.SHARED.size, 0))[1]
        poll = select.poll()
        poll.register(self._handle, 0)
        if not poll.poll(_LEFT_BEHIND_MS):
            # It left processes behind; what they open from now on belongs to no run.
            self._gaps += 1


def _start(module: str) -> list[str]:
    """Return how a process of this package is started: quickly, whatever the environment says."""
    root = str(Path(mlflow_plugins_pack.__file__).parents[1])
    return [sys.executable, "-I", "-S", "-c", _START.format(root=root, module=module)]


def end_like(code: int) -> int:
    """End this process by the signal that ended a program, or return the exit code.

    Args:
        code: As `run_program` returns it.
    """
    if code >= 0:
        return code
    number = -code
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    return 128 + number
