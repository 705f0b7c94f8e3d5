"""Runs a program so that every file that it and its children open belongs to the active run."""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow_plugins_pack
from mlflow_plugins_pack import settings
from mlflow_plugins_pack.lineage import mlflow_internals, sink
from mlflow_plugins_pack.lineage.capture import usage
from mlflow_plugins_pack.lineage.capture.event import READ, WRITE
from mlflow_plugins_pack.lineage.capture.programs import launcher, seccomp, supervisor
from mlflow_plugins_pack.lineage.files import file_state
from mlflow_plugins_pack.lineage.session import session
from mlflow_plugins_pack.lineage.session.options import Options

_logger = logging.getLogger("mlflow_plugins_pack.lineage")
_START = """
import sys
sys.path.insert(0, {root!r})
from mlflow_plugins_pack.lineage.capture.programs.supervisor import main
main(sys.argv[1:])
"""
_START_SECONDS = 30
_LEFT_BEHIND_MS = 100
_ADOPTION_SECONDS = 5
_SET_SUBREAPER, _GET_SUBREAPER = 36, 37


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
    try:
        seccomp.machine()
    except seccomp.UnavailableError as exc:
        code = _run(words, options, started)
        _say_unseen(words[0], str(exc))
        return code
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


def _say_unseen(program: str, problem: str) -> None:
    """Warn that a program was not observed, and have the record say so."""
    _logger.warning(
        "Lineage: the files that %s opened were not recorded: %s. It ran all the same.",
        program,
        problem,
    )
    usage.note_unwatched(Path(program).name)


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
            exclude=(*read(settings.LINEAGE_EXCLUDE), *_trackings_own_file()),
        )
        self._handle = -1
        self._shared = os.memfd_create("mlflow-pack-lineage")
        os.ftruncate(self._shared, supervisor.SHARED.size)
        self._gaps = 0

    def run(self, started: Callable[[int], object]) -> int:
        """Run the program to its end and return its exit code."""
        control, theirs = socket.socketpair()
        try:
            with control, _adopting():
                problem, process = self._start(control, theirs)
                if process is None:
                    code = _run(self._words, self._options, started)
                else:
                    started(process)
                    code = os.waitstatus_to_exitcode(self._wait(control, process))
                    if not problem:
                        self._look_for_gaps()
        finally:
            for handle in (self._handle, self._shared):
                if handle >= 0:
                    os.close(handle)
        if problem:
            _say_unseen(self._words[0], problem)
        elif self._gaps:
            usage.note_unwatched(Path(self._words[0]).name)
        return code

    def _start(self, control: socket.socket, theirs: socket.socket) -> tuple[str, int | None]:
        """Start the observer, which starts the program.

        Returns:
            The reason why the program is not observed, empty if it is; and its process identifier,
            None if it has yet to be started.
        """
        with theirs:
            needed = (theirs.fileno(), self._shared)
            options = {**self._options}
            options["pass_fds"] = (*needed, *options.get("pass_fds", ()))
            start = [*_supervisor(*needed, self._task.encode()), *self._words]
            process = subprocess.Popen(start, **options)  # noqa: S603  # what the user asked for
            _keep(process)
        control.settimeout(_START_SECONDS)
        try:
            said, handles, _, _ = socket.recv_fds(control, 1000, 1)
            program, problem = json.loads(said or b"[]")
        except (OSError, ValueError) as exc:
            process.kill()
            process.wait()
            return f"the observing process did not start ({exc})", None
        control.settimeout(None)
        if handles:
            self._handle = handles[0]
            os.set_inheritable(self._handle, False)
        return str(problem), int(program)

    def _wait(self, control: socket.socket, program: int) -> int:
        """Wait for the program's end; return its exit status."""
        if said := control.recv(100):
            return int(json.loads(said)[0])
        # The observer was killed: without an answer no process could open a file any more.
        self._gaps += 1
        if self._handle >= 0:
            self._answer()
        return _status_of_orphan(program)

    def _answer(self) -> None:
        """Start a process that lets all calls continue."""
        handles = (self._handle, self._shared)
        _keep(
            subprocess.Popen(  # noqa: S603
                _supervisor("answer", *handles),
                pass_fds=handles,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    def _look_for_gaps(self) -> None:
        """Note what could not be seen."""
        shared = os.pread(self._shared, supervisor.SHARED.size, 0)
        self._gaps += supervisor.SHARED.unpack(shared)[1]
        poll = select.poll()
        poll.register(self._handle, 0)
        if not poll.poll(_LEFT_BEHIND_MS):
            # It left processes behind; what they open from now on belongs to no run.
            self._gaps += 1


def _trackings_own_file() -> tuple[str, ...]:
    """Return the file of a local tracking database, which Python programs may open inside."""
    uri = mlflow_internals.tracking_uri()
    path = uri.partition("?")[0].removeprefix("sqlite:///") if uri.startswith("sqlite:") else ""
    return (os.path.abspath(path),) if path else ()  # noqa: PTH100  # links are not followed


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Become the parent of processes that lose theirs: of the program, if its observer is killed.

    See PR_SET_CHILD_SUBREAPER in prctl(2).
    """
    libc = ctypes.CDLL(None)
    before = ctypes.c_int(0)
    libc.prctl(_GET_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(_SET_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_SET_SUBREAPER, before.value, 0, 0, 0)


def _status_of_orphan(program: int) -> int:
    """Wait for a process that this one adopts just now; return its exit status."""
    deadline = time.monotonic() + _ADOPTION_SECONDS
    while True:
        try:
            return os.waitpid(program, 0)[1]
        except ChildProcessError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


_running: list[subprocess.Popen[Any]] = []


def _keep(process: subprocess.Popen[Any]) -> None:
    """Keep an observer, which may live on after the program, and forget those that have ended."""
    _running[:] = [other for other in _running if other.poll() is None]
    _running.append(process)


def _supervisor(*arguments: object) -> list[str]:
    """Return how the observer is started: quickly, whatever the environment says."""
    root = str(Path(mlflow_plugins_pack.__file__).parents[1])
    code = _START.format(root=root)
    return [sys.executable, "-I", "-S", "-c", code, *map(str, arguments)]


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
