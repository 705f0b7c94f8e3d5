"""``mlflow-pack lineage``: the group, assembled from the modules next to it."""

from __future__ import annotations

import click

from mlflow_plugins_pack.cli.lineage.query import (
    diff,
    downstream,
    export,
    upstream,
    verify,
    who_used,
)
from mlflow_plugins_pack.cli.lineage.recording import early, push
from mlflow_plugins_pack.cli.lineage.show import show


@click.group()
def lineage() -> None:
    """Query data lineage."""


for _command in (show, upstream, downstream, who_used, diff, verify, export, push, early):
    lineage.add_command(_command)
