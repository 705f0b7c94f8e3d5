"""``auth token`` and ``exec``: credentials for clients that MLflow's hooks do not reach."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from mlflow_plugins_pack.cli.output import echo

if TYPE_CHECKING:
    from mlflow_plugins_pack.auth.manager import Manager


@click.command()
@click.argument("profile")
def token(profile: str) -> None:
    """Print PROFILE's token, for clients that MLflow's hooks do not reach.

    For a user name and password it is the text after `Basic`. Keep it out of logs and history.
    """
    from mlflow_plugins_pack.auth.manager import get_manager

    echo(_token_of(get_manager(), profile))


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("profile")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec(profile: str, command: tuple[str, ...]) -> None:  # noqa: A001 - the command's name
    """Run COMMAND signed in as PROFILE, by MLFLOW_TRACKING_TOKEN (or user and password).

    For clients that MLflow's hooks do not reach (R, Java, the OTLP exporter), as
    `mlflow-pack auth exec PROFILE -- Rscript train.R`. COMMAND takes this process's place, so
    signals reach it and its exit code is the command's. The token is not renewed while it runs.
    MLFLOW_TRACKING_URI becomes PROFILE's first host if it is not set, and must be one of its hosts;
    OTLP endpoints at these hosts get their header too.
    """
    from mlflow_plugins_pack.auth.manager import get_manager
    from mlflow_plugins_pack.auth.tools.exec_environment import child_environment

    manager = get_manager()
    found = manager.profile(profile)
    headers = manager.credential(profile).headers
    environment = child_environment(profile, found, headers, os.environ)
    sys.stdout.flush()
    try:
        os.execvpe(command[0], list(command), environment)  # noqa: S606 - what the person typed
    except OSError as exc:
        raise click.ClickException(f"{command[0]} cannot be started: {exc.strerror}") from None


def _token_of(manager: Manager, profile: str) -> str:
    from mlflow_plugins_pack.errors import AuthConfigError

    header = getattr(manager.profile(profile), "header", "Authorization")
    headers = dict(manager.credential(profile).headers)
    if header not in headers:
        raise AuthConfigError(
            f"The profile {profile!r} signs in by the headers {', '.join(headers) or '(signed)'}, "
            f"not by one token. Nothing was printed."
        )
    return headers[header].reveal().rpartition(" ")[2]
