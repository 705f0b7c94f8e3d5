"""``lineage run``: any program, in whatever language, as a run with lineage."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click

from mlflow_plugins_pack.cli.output import echo, tracking_options

_FORWARDED = ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
_OF_TERMINAL = ("SIGINT", "SIGQUIT")
"""Signals that a terminal sends to all processes of its foreground: to the program, too."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@tracking_options
@click.option(
    "--experiment-name",
    envvar="MLFLOW_EXPERIMENT_NAME",
    metavar="NAME",
    help="Experiment of the new run; MLFLOW_EXPERIMENT_NAME if not given.",
)
@click.option("--run-name", metavar="NAME", help="Name of the new run; COMMAND's if not given.")
@click.option(
    "--run-id",
    metavar="RUN",
    help="Continue this run instead of making one; MLFLOW_RUN_ID if not given.",
)
@click.option("--quiet", "-q", is_flag=True, help="Do not print the run's identifier.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    tracking_uri: str | None,
    experiment_name: str | None,
    run_name: str | None,
    run_id: str | None,
    quiet: bool,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND and record every file that it and its children open, in a run.

    COMMAND may be in any language: `mlflow-pack lineage run -- ./prepare raw.csv train.bin`. This
    needs Linux 5.8 or later, and no root. Where the system does not allow it, COMMAND runs all the
    same, and the run's coverage says so. Its exit code, signals and terminal are as without this
    command. The run ends FINISHED if the exit code is 0, else FAILED, and KILLED if a signal ended
    it.
    """
    from mlflow_plugins_pack.lineage.session.program import end_like, run_program

    environment = {**os.environ}
    # What MLflow prints at the end of a run would stand in the program's output.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    # With MLflow's own number a command would wait for minutes for a server that is away.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    if tracking_uri is not None:
        os.environ["MLFLOW_TRACKING_URI"] = tracking_uri
    with _begun(command, experiment_name, run_name, run_id) as begun:
        with _forwarding() as started:
            code = run_program(command, started=started, env=_same(environment))
        if begun is not None:
            begun.code = code
    if begun is not None and begun.is_recorded and not quiet:
        echo(f"mlflow-pack: recorded in run {begun.run_id}.", err=True)
    sys.stdout.flush()
    raise click.exceptions.Exit(end_like(code))


class _Run:
    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.code = 0
        self.is_recorded = True

    @property
    def status(self) -> str:
        """What MLflow is told about the end."""
        if self.code < 0:
            return "KILLED"
        return "FAILED" if self.code else "FINISHED"


@contextlib.contextmanager
def _begun(
    command: tuple[str, ...],
    experiment_name: str | None,
    run_name: str | None,
    run_id: str | None,
) -> Iterator[_Run | None]:
    """Have a run in the block; give None if none can be had: the program runs all the same."""
    import mlflow

    try:
        if experiment_name is not None and run_id is None:
            mlflow.set_experiment(experiment_name)
        run = mlflow.start_run(
            run_id=run_id,
            run_name=run_name or (None if run_id else Path(command[0]).name),
            tags=None if run_id else {"mlflow.source.name": command[0]},
        )
    except Exception as exc:  # noqa: BLE001  # whatever it is, the program runs
        echo(
            f"mlflow-pack: no run could be started ({exc}). {command[0]} runs all the same; "
            "nothing is recorded.",
            err=True,
        )
        yield None
        return
    begun = _Run(run.info.run_id)
    try:
        yield begun
    except BaseException:
        begun.code = begun.code or 1
        raise
    finally:
        try:
            mlflow.end_run(begun.status)
        except Exception as exc:  # noqa: BLE001  # the program's exit code is what counts
            begun.is_recorded = False
            echo(f"mlflow-pack: the run could not be ended ({exc}).", err=True)


def _same(environment: dict[str, str]) -> dict[str, str]:
    """Return the caller's environment, with only what captured children need added."""
    from mlflow_plugins_pack.lineage.capture import child_spool

    added = (child_spool.VARIABLE, child_spool.RANK_VARIABLE)
    return {**environment, **{name: os.environ[name] for name in added if name in os.environ}}


class _Forward:
    """Passes on to the program the signals that are sent to this process."""

    def __init__(self) -> None:
        self._process: int | None = None
        self._waiting: list[int] = []

    def __call__(self, process: int) -> None:
        """Begin to pass on what comes, and what came before the program began."""
        self._process = process
        for number in self._waiting:
            self._send(number)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if signal.Signals(number).name in _OF_TERMINAL and _is_in_foreground():
            return  # the program has got it, too
        if self._process is None:
            self._waiting.append(number)
        else:
            self._send(number)

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process or 0, number)


@contextlib.contextmanager
def _forwarding() -> Iterator[_Forward]:
    forward = _Forward()
    numbers = [getattr(signal, name) for name in _FORWARDED if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        # One that the caller ignores, as nohup does, stays ignored in the program.
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, forward.handle)
    try:
        yield forward
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)
