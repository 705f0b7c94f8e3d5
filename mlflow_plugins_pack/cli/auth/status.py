"""``auth status``, ``whoami`` and ``doctor``: which profile signs in where, and whether it can."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mlflow_plugins_pack.cli.output import (
    describe_seconds,
    echo,
    json_option,
    print_json,
    print_rows,
)

if TYPE_CHECKING:
    from mlflow_plugins_pack.auth.tools.doctor import ProfileStatus


@click.command()
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
            echo("There is no profiles file: requests go out as stock MLflow sends them.")
        return
    found = statuses(get_manager())
    rows = [_row(one, as_json=as_json) for one in found]
    columns = ["profile", "hosts", "source", "credential", "who", "headers", "expires_in_seconds"]
    print_rows(rows, columns, as_json=as_json)
    problems = [one.problem for one in found if one.problem]
    for problem in problems:
        echo(problem, err=True)
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


@click.command()
@click.argument("profile", required=False)
@json_option
def whoami(profile: str | None, as_json: bool) -> None:
    """Show whom PROFILE (or each) signs in, until when, from where, and who its servers say it is.

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
            echo(_sentence(one))
            for answer in answers:
                echo(f"  {answer.host}: {answer.said}")
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


@click.command()
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
