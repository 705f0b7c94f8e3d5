"""Plugin: run context provider that captures data lineage.

This module is imported inside ``import mlflow``, so it imports nothing itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


__all__ = ["attach"]
