"""``mlflow-pack approvals guards``: triggers that keep other database clients off."""

from __future__ import annotations

from typing import Any

import click

from mlflow_plugins_pack.approvals.domain.clock import now_ms
from mlflow_plugins_pack.approvals.domain.messages import moment
from mlflow_plugins_pack.cli.approvals.arguments import Registry, registry_options
from mlflow_plugins_pack.cli.output import echo, json_option, print_json


@click.group()
def guards() -> None:
    """Have the database itself refuse other clients what the policy protects."""


@guards.command()
@registry_options
def install(registry: Registry) -> None:
    """Install the guards for the policy in force, or put them back after a migration."""
    from mlflow_plugins_pack.approvals.guards import install as database_guards
    from mlflow_plugins_pack.approvals.policy.source import policy_path, read_policy
    from mlflow_plugins_pack.approvals.reports import databases

    policy = read_policy(policy_path())
    uri = registry.database
    with databases.served(uri) as engine:
        database_guards.install(engine, policy, now_ms())
    echo(
        f"The guards are installed, for the policy {policy.sha256}. Every server of this "
        "database needs its approval- URI from now on: a stock one is refused what is protected."
    )


@guards.command()
@registry_options
def remove(registry: Registry) -> None:
    """Take the guards away; servers go on to check their own calls."""
    from mlflow_plugins_pack.approvals.guards import install as database_guards
    from mlflow_plugins_pack.approvals.reports import databases

    with databases.served(registry.database) as engine:
        database_guards.remove(engine)
    echo("The guards are gone: the database refuses other clients nothing.")


@guards.command()
@json_option
@registry_options
def status(as_json: bool, registry: Registry) -> None:
    """Show whether the guards are installed and complete; ends with 1 if they are incomplete."""
    from mlflow_plugins_pack.approvals.guards import install as database_guards
    from mlflow_plugins_pack.approvals.reports import databases

    with databases.connected(registry.database) as connection:
        found = database_guards.status(connection)
    problems = found.problems(_policy_here())
    if as_json:
        print_json({**vars(found), "is_installed": found.is_installed, "problems": problems})
    elif found.installed_at is None:
        echo("The guards are not installed.")
    else:
        echo(
            f"The guards are installed since {moment(found.installed_at)}, "
            f"for the policy {found.policy_sha256}."
        )
    if problems:
        if not as_json:
            for problem in problems:
                echo(f"But {problem}.")
        raise click.exceptions.Exit(1)


def _policy_here() -> Any:
    """Return the policy in force here, None if there is no policy to compare with."""
    from mlflow_plugins_pack.approvals.policy.source import policy_path, read_policy
    from mlflow_plugins_pack.settings import APPROVALS_POLICY

    return read_policy(policy_path()) if APPROVALS_POLICY.is_set() else None
