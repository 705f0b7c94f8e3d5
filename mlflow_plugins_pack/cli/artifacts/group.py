"""``mlflow-pack artifacts``: the group, assembled from the modules next to it."""

from __future__ import annotations

import click

from mlflow_plugins_pack.cli.artifacts.contents import du, ls, stats
from mlflow_plugins_pack.cli.artifacts.copying import COPY_COMMANDS
from mlflow_plugins_pack.cli.artifacts.maintenance import fsck, gc, init, rekey


@click.group()
def artifacts() -> None:
    """Manage artifact stores; URI is cas-file:..., cas-s3://..., cas-gs://... or cas-wasbs://...."""


for _command in (init, ls, du, stats, fsck, gc, *COPY_COMMANDS, rekey):
    artifacts.add_command(_command)
