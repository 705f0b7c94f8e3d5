"""``mlflow-pack approvals policy``: check a policy, ask it, try it on what has happened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_plugins_pack.approvals.domain.clock import now_ms
from mlflow_plugins_pack.approvals.domain.targets import parse_target
from mlflow_plugins_pack.cli.approvals.arguments import Registry, registry_options, target_argument
from mlflow_plugins_pack.cli.output import echo, json_option, print_json, print_rows

if TYPE_CHECKING:
    from mlflow_plugins_pack.approvals.policy.models import Policy

_FILE = click.argument("file", type=click.Path(), required=False)


@click.group()
def policy() -> None:
    """Validate, explain and test the policy file."""


def _read(file: str | None) -> tuple[Path, Policy]:
    from mlflow_plugins_pack.approvals.policy.source import policy_path, read_policy

    path = Path(file).absolute() if file else policy_path()
    return path, read_policy(path)


@policy.command("validate")
@_FILE
def policy_validate(file: str | None) -> None:
    """Check FILE, or the policy file set here; name every mistake with its line.

    A webhook whose secret cannot be read here is a warning: the server may have it.
    """
    from mlflow_plugins_pack.approvals.webhooks import secret_values

    path, found = _read(file)
    for problem in secret_values.problems(found.file.events.secrets()):
        echo(f"Warning: {problem}. Events for it wait until the server has it.", err=True)
    count = len(found.file.policies)
    policies = "1 policy" if count == 1 else f"{count} policies"
    echo(f"{path} is valid: {policies}, sha256 {found.sha256}.")


@policy.command("activate")
@_FILE
@registry_options
def policy_activate(file: str | None, registry: Registry) -> None:
    """Put FILE, or the policy file set here, into force for every server of the database.

    Needs the database's URI. A server whose file differs from the policy in force decides by the
    one in force; give all servers the same file.
    """
    import getpass

    from mlflow_plugins_pack.approvals.database import policies, schema
    from mlflow_plugins_pack.approvals.ledger import policy_changes
    from mlflow_plugins_pack.approvals.reports import databases

    path, found = _read(file)
    with databases.served(registry.database) as engine, schema.exclusive(engine) as connection:
        before = policies.in_force(connection)
        if before is not None and before[0] == found.sha256:
            echo(f"{path} is in force already, sha256 {found.sha256}.")
            return
        replaces = before[0] if before is not None else None
        policy_changes.activate(connection, found, replaces, f"system:{getpass.getuser()}")
    echo(f"{path} is in force, sha256 {found.sha256}; it replaces {replaces or 'none'}.")


@policy.command("explain")
@click.argument("model")
@click.option("--target", callback=target_argument, help="Only about this alias or stage.")
@click.option("--as", "user", help="Also say what this person may do.")
@click.option("--prompt", "is_prompt", is_flag=True, help="MODEL is a prompt.")
@click.option("--workspace", default="default", show_default=True, help="Where MODEL is.")
@click.option("--file", type=click.Path(), help="A policy file; else the one in force here.")
@json_option
def policy_explain(
    model: str,
    target: str | None,
    user: str | None,
    is_prompt: bool,
    workspace: str,
    file: str | None,
    as_json: bool,
) -> None:
    """Show what a change of MODEL's aliases and stages would need."""
    from mlflow_plugins_pack.approvals.reports.explain import explain

    _, found = _read(file)
    name = model.removeprefix("models:/").removeprefix("prompts:/")
    rows = explain(
        found,
        workspace,
        name,
        is_prompt=is_prompt,
        now_ms=now_ms(),
        target=parse_target(target) if target else None,
        user=user,
    )
    if as_json:
        print_json(rows)
        return
    if not rows:
        about = f" {target}" if target else ""
        echo(f"No policy protects{about} of '{name}': every user may change it.")
    for row in rows:
        echo(f"{row.pop('target')} of '{name}', by policy '{row.pop('policy')}':")
        for key, value in row.items():
            for line in value if isinstance(value, list) else [value]:
                echo(f"  {key.replace('_', '-'):<13}{line}")


@policy.command("test")
@click.argument("file", type=click.Path())
@click.option("--all", "also_allowed", is_flag=True, help="Also list what would be allowed.")
@json_option
@registry_options
def policy_test(file: str, also_allowed: bool, as_json: bool, registry: Registry) -> None:
    """Try the policy in FILE on every approved change so far: what would it have refused?

    Needs the database's URI. It judges what is recorded: votes, their times and who had them,
    rollbacks, freezes, check tags, and where a version was before; at the end it says what is not.
    Ends with 1 if the policy would have refused something that was done.
    """
    from mlflow_plugins_pack.approvals.reports import databases, past_changes
    from mlflow_plugins_pack.approvals.reports.replay import not_judged, replay

    _, found = _read(file)
    with databases.connected(registry.database) as connection:
        changes, known_claims = (
            past_changes.past_changes(connection),
            past_changes.known_claims(connection),
        )
    verdicts = replay(found, changes, known_claims)
    rows: list[dict[str, Any]] = [
        {
            "when": _moment(verdict.change.ts),
            "model": verdict.change.name,
            "version": verdict.change.version,
            "action": verdict.change.action,
            "target": verdict.change.target.tag,
            "outcome": verdict.outcome,
            "policy": verdict.policy,
            "why": "; ".join(verdict.reasons),
        }
        for verdict in verdicts
        if also_allowed or verdict.outcome != "allowed"
    ]
    refused = sum(verdict.outcome == "refused" for verdict in verdicts)
    if rows or as_json:
        columns = ["when", "model", "version", "action", "target", "outcome", "policy", "why"]
        print_rows(rows, columns, as_json=as_json)
    if not as_json:
        unknown = sum(verdict.outcome == "unknown" for verdict in verdicts)
        echo(
            f"Of {len(verdicts)} approved changes it would have refused {refused}; "
            f"{unknown} cannot be told."
        )
        unknown_parts = "; ".join(["changes of what no policy protected then", *not_judged(found)])
        echo(f"Not recorded, so not judged: {unknown_parts}.")
    if refused:
        raise click.exceptions.Exit(1)


def _moment(ms: int) -> str:
    from mlflow_plugins_pack.approvals.domain.messages import moment

    return moment(ms)
