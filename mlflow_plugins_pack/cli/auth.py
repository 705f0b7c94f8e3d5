"""``mlflow-pack auth``: which profile signs in where, whether it can, and what is wrong if not."""

from __future__ import annotations

from dataclasses import asdict

import click

from mlflow_plugins_pack.cli.output import json_option, print_json, print_rows


@click.group()
def auth() -> None:
    """Sign in to protected servers."""


@auth.command()
@json_option
def status(as_json: bool) -> None:
    """Show each profile, its hosts, and whether its credential can be had; never the credential.

    Ends with 1 if a credential cannot be had.
    """
    from mlflow_plugins_pack.auth.doctor import statuses
    from mlflow_plugins_pack.auth.location import find_config
    from mlflow_plugins_pack.auth.manager import get_manager

    if find_config() is None:
        if as_json:
            print_json([])
        else:
            click.echo("There is no profiles file: requests go out as stock MLflow sends them.")
        return
    found = statuses(get_manager())
    rows = [
        {
            "profile": one.name,
            "hosts": list(one.hosts) if as_json else ", ".join(one.hosts),
            "source": one.source,
            "credential": "missing" if one.problem else "there",
            "headers": list(one.headers) if as_json else ", ".join(one.headers),
            "expires_in_seconds": one.expires_in_seconds,
            "problem": one.problem,
        }
        for one in found
    ]
    columns = ["profile", "hosts", "source", "credential", "headers", "expires_in_seconds"]
    print_rows(rows, columns, as_json=as_json)
    problems = [one.problem for one in found if one.problem]
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        raise click.exceptions.Exit(1)


@auth.command()
@json_option
def doctor(as_json: bool) -> None:
    """Look for what is wrong: the file, credentials, hosts, rival settings. Ends with 1 if so."""
    from mlflow_plugins_pack.auth.doctor import check
    from mlflow_plugins_pack.cli.doctor import print_finding

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
    from mlflow_plugins_pack.errors import AuthConfigError

    manager = get_manager()
    chosen = manager.profile(profile)
    header = getattr(chosen, "header", "Authorization")
    headers = dict(manager.credential(profile).headers)
    if header not in headers:
        raise AuthConfigError(
            f"The profile {profile!r} signs in by the headers {', '.join(headers)}, not by one "
            f"token. Nothing was printed."
        )
    click.echo(headers[header].reveal().rpartition(" ")[2])
