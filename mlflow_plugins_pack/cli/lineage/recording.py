"""``lineage early`` and ``push``: start capture with Python, and send records kept locally."""

from __future__ import annotations

import click

from mlflow_plugins_pack.cli.output import echo, json_option, print_rows, tracking_options


@click.group()
def early() -> None:
    """Capture from the start of Python, for programs that read before they import mlflow."""


@early.command("install")
def early_install() -> None:
    """Write a one-line .pth file into this environment; it acts where the setting is on."""
    from mlflow_plugins_pack.lineage.session import early_start as starter

    echo(f"Wrote {starter.install()}.")
    echo(
        "Programs of this environment capture from their start if MLFLOW_PACK_LINEAGE_EARLY=true, "
        "and so do the Python programs that a captured one starts."
    )


@early.command("uninstall")
def early_uninstall() -> None:
    """Remove that file."""
    from mlflow_plugins_pack.lineage.session import early_start as starter

    was_there = starter.uninstall()
    echo(f"Removed {starter.path()}." if was_there else "It was not installed.")


@click.command()
@tracking_options
@json_option
def push(tracking_uri: str | None, as_json: bool) -> None:
    """Write the records that were kept locally while a server was away."""
    from mlflow_plugins_pack.lineage.delivery.push import push_kept

    rows = push_kept(tracking_uri=tracking_uri)
    if not rows and not as_json:
        echo("No records are waiting.")
        return
    print_rows(rows, ["run", "tracking_uri", "result"], as_json=as_json)
    if any(row["result"] != "written" for row in rows):
        raise click.exceptions.Exit(1)
