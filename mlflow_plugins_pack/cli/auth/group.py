"""``mlflow-pack auth``: the group, assembled from the modules next to it."""

from __future__ import annotations

import click

from mlflow_plugins_pack.cli.auth.login import login, logout
from mlflow_plugins_pack.cli.auth.status import doctor, status, whoami
from mlflow_plugins_pack.cli.auth.tokens import exec as exec_command
from mlflow_plugins_pack.cli.auth.tokens import token


@click.group()
def auth() -> None:
    """Sign in to protected servers."""


for _command in (login, logout, status, whoami, doctor, token, exec_command):
    auth.add_command(_command)
