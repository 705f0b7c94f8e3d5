"""``auth login`` and ``logout``."""

from __future__ import annotations

import click


@click.command()
@click.argument("profile", required=False)
@click.option("--browser", "way", flag_value="browser", help="Sign in with a browser here.")
@click.option("--device", "way", flag_value="device", help="Sign in elsewhere, with a code.")
@click.option("--no-open", is_flag=True, help="Show the address and open no browser.")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(1, 3600),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait.",
)
def login(profile: str | None, way: str | None, no_open: bool, timeout_seconds: float) -> None:
    """Sign in to PROFILE's provider, for all that you run on this machine.

    Opens a browser; over SSH, or with --device, shows a code to enter on any device instead.
    PROFILE may be left out where only one profile needs a person.
    """
    from mlflow_plugins_pack.cli.auth.dialogue import sign_in

    sign_in(profile, way, opens=not no_open, timeout_seconds=timeout_seconds)


@click.command()
@click.argument("profile", required=False)
def logout(profile: str | None) -> None:
    """Forget PROFILE's tokens here, and end its sign-in at the provider where that is possible."""
    from mlflow_plugins_pack.cli.auth.dialogue import sign_out

    sign_out(profile)
