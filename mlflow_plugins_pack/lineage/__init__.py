"""Plugin: run context provider that captures data lineage.

This module is imported inside ``import mlflow``, so it imports nothing itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from mlflow_plugins_pack.lineage.session.attachment import Attachment


def attach(run_id: str, *, tracking_uri: str | None = None) -> Attachment:
    """Record the lineage of a run that was created through `MlflowClient`.

    Runs of `mlflow.start_run` need no call. From here on, what this thread reads and writes belongs
    to the run, until the returned object's block or its `detach` ends it; at the latest, the end of
    the process does::

        run = client.create_run(experiment_id)
        with lineage.attach(run.info.run_id):
            frame = pandas.read_csv("train.csv")
        client.set_terminated(run.info.run_id)

    Args:
        run_id: The run, which must exist.
        tracking_uri: Where it exists; the current tracking URI if not given.

    Returns:
        A context manager with a method `detach`. It does nothing while lineage is switched off.
    """
    from mlflow_plugins_pack.lineage.session.attachment import Attachment

    return Attachment(run_id, tracking_uri)


def run_program(arguments: Sequence[str | os.PathLike[str]], **options: Any) -> int:
    """Run a program and record the files that it and all its children open, in the active run.

    The program may be written in any language; Linux shows what it opens, without root. Where the
    system does not allow that, the program runs all the same, a warning says so, and the coverage
    of the run's record names the program::

        with mlflow.start_run():
            lineage.run_program(["./prepare", "raw.csv", "train.bin"])

    Args:
        arguments: The program and its arguments, as in `subprocess.run`; no shell is used.
        options: ``cwd``, ``env``, ``stdin``, ``stdout``, ``stderr`` and the like, as in
            `subprocess.Popen`.

    Returns:
        The exit code; negative for the signal that ended the program. 127 if there is no such
        program, 126 if it cannot be executed, as of a shell.

    Raises:
        ValueError: If there are no arguments.
        OSError: If no process can be started.
    """
    from mlflow_plugins_pack.lineage.session import program

    return program.run_program(arguments, **options)


__all__ = ["attach", "run_program"]
