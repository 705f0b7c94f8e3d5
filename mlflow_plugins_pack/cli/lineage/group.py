"""``mlflow-pack lineage``: the group, assembled from the modules next to it."""

from __future__ import annotations

import os

import click

from mlflow_plugins_pack.cli.lineage.comparing import diff, verify
from mlflow_plugins_pack.cli.lineage.exporting import export
from mlflow_plugins_pack.cli.lineage.index import index
from mlflow_plugins_pack.cli.lineage.query import affected, downstream, upstream, used_by
from mlflow_plugins_pack.cli.lineage.recording import early, push
from mlflow_plugins_pack.cli.lineage.running import run
from mlflow_plugins_pack.cli.lineage.show import show


@click.group()
def lineage() -> None:
    """Query data lineage.

    A TARGET is a run id, models:/NAME/VERSION, NAME@ALIAS, models:/m-..., a local file or folder, a
    URI, or a digest (sha256: and 8 or more digits): all that the answers print.
    """
    # MLflow's bars would stand in the middle of an answer.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


for _command in (
    show,
    upstream,
    downstream,
    used_by,
    affected,
    diff,
    verify,
    export,
    run,
    push,
    early,
    index,
):
    lineage.add_command(_command)
