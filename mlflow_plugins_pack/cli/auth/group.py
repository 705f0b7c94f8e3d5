"""``mlflow-pack auth``: which profile signs in where, whether it can, and what is wrong if not."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mlflow_plugins_pack.cli.output import json_option, print_json, print_rows

if TYPE_CHECKING:
    from mlflow_plugins_pack.auth.manager import Manager
    from mlflow_plugins_pack.auth.tools.doctor import ProfileStatus


@click.group()
def auth() -> None:
    """Sign in to protected servers."""


@auth.command()
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
    from mlflow_plugins_pack.cli.auth.login import sign_in

    sign_in(profile, way, opens=not no_open, timeout_seconds=timeout_seconds)


@auth.command()
@click.argument("profile", required=False)
def logout(profile: str | None) -> None:
    """Forget PROFILE's tokens here, and end its sign-in at the provider where that is possible."""
    from mlflow_plugins_pack.cli.auth.login import sign_out

    sign_out(profile)


@auth.command()
@json_option
def status(as_json: bool) -> None:
    """Show each profile, its hosts, and whether its credential can be had; never the credential.

    Ends with 1 if a credential cannot be had.
    """
    from mlflow_plugins_pack.auth.manager import get_manager
    from mlflow_plugins_pack.auth.profiles.paths import find_config
    from mlflow_plugins_pack.auth.tools.doctor import statuses

    if find_config() is None:
        if as_json:
            print_json([])
        else:
            click.echo("There is no profiles file: requests go out as stock MLflow sends them.")
        return
    found = statuses(get_manager())
    rows = [_row(one, as_json=as_json) for one in found]
    columns = ["profile", "hosts", "source", "credential", "who", "headers", "expires_in_seconds"]
    print_rows(rows, columns, as_json=as_json)
    problems = [one.problem for one in found if one.problem]
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        raise click.exceptions.Exit(1)


def _row(one: ProfileStatus, *, as_json: bool) -> dict[str, object]:
    life = one.expires_in_seconds
    return {
        "profile": one.name,
        "hosts": list(one.hosts) if as_json else ", ".join(one.hosts),
        "source": one.source,
        "credential": "missing" if one.problem else "there",
        "who": one.who,
        "headers": list(one.headers) if as_json else ", ".join(one.headers),
        "expires_in_seconds": life if as_json or life is None else round(life),
        "problem": one.problem,
    }


@auth.command()
@click.argument("profile", required=False)
@json_option
def whoami(profile: str | None, as_json: bool) -> None:
    """Say who PROFILE (or each) signs in, until when, from where, and who its servers say it is.

    Ends with 1 if a credential cannot be had or a server refuses it.
    """
    from mlflow_plugins_pack.auth.manager import get_manager
    from mlflow_plugins_pack.auth.tools.doctor import statuses
    from mlflow_plugins_pack.auth.tools.whoami import ask_servers

    manager = get_manager()
    names = [profile] if profile else list(manager.profiles().by_name)
    rows, failed = [], False
    for one in statuses(manager, names):
        answers = [] if one.problem else ask_servers(manager, one.name)
        failed = failed or bool(one.problem) or any(not answer.accepted for answer in answers)
        rows.append({**_row(one, as_json=True), "servers": [asdict(answer) for answer in answers]})
        if not as_json:
            click.echo(_sentence(one))
            for answer in answers:
                click.echo(f"  {answer.host}: {answer.said}")
    if as_json:
        print_json(rows)
    if failed:
        raise click.exceptions.Exit(1)


def _sentence(one: ProfileStatus) -> str:
    if one.problem:
        return f"{one.name}: {one.problem}"
    who = one.who or "(a credential that does not say whom)"
    life = one.expires_in_seconds
    until = "no end known" if life is None else f"for {describe_seconds(life)}"
    return f"{one.name}: {who}, {until}, from {one.origin}"


def describe_seconds(seconds: float) -> str:
    """Return a span of time as people say it."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} seconds"


@auth.command()
@json_option
def doctor(as_json: bool) -> None:
    """Look for what is wrong: the file, credentials, hosts, rival settings. Ends with 1 if so."""
    from mlflow_plugins_pack.auth.tools.doctor import check
    from mlflow_plugins_pack.cli.doctor.command import print_finding

    findings = check()
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print_finding(finding)
    if any(finding.level == "error" for finding in findings):
        raise click.exceptions.Exit(1)


@auth.command()
@click.argument("profile")
def token(profile: str) -> None:
    """Print PROFILE's token, for clients that MLflow's hooks do not reach.

    For a user name and password it is the text after `Basic`. Keep it out of logs and history.
    """
    from mlflow_plugins_pack.auth.manager import get_manager

    click.echo(_token_of(get_manager(), profile))


@auth.command(context_settings={"ignore_unknown_options": True})
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
