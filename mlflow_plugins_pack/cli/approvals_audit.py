"""``mlflow-pack approvals audit`` and ``drift``: what happened, and whether it can be believed."""

from __future__ import annotations

import click

from mlflow_plugins_pack.approvals.messages import moment
from mlflow_plugins_pack.cli.approvals_place import database_of
from mlflow_plugins_pack.cli.output import json_option, print_json, print_rows, registry_options
from mlflow_plugins_pack.errors import AuditBrokenError


@click.group()
def audit() -> None:
    """Read and check the audit log."""


@audit.command("verify")
@json_option
@registry_options
def audit_verify(as_json: bool, tracking_uri: str | None, registry_store_uri: str | None) -> None:
    """Check that no entry was changed, removed or added; needs the database's URI."""
    from mlflow_plugins_pack.approvals import inspection

    uri = database_of(tracking_uri, registry_store_uri)
    found = inspection.verify_audit(uri)
    if as_json:
        print_json({**vars(found), "is_intact": found.is_intact})
    elif found.is_intact:
        click.echo(f"The audit log is intact: {found.entries} entries, head {found.head}.")
    else:
        raise AuditBrokenError(
            f"{found.problem}. {found.entries} entries before it hold, the last with hash "
            f"{found.head}. Nothing was changed. Compare with a backup."
        )
    if not found.is_intact:
        raise click.exceptions.Exit(1)


@audit.command("list")
@click.option("--limit", default=100, show_default=True, help="At most so many, the newest.")
@json_option
@registry_options
def audit_list(
    limit: int, as_json: bool, tracking_uri: str | None, registry_store_uri: str | None
) -> None:
    """List what happened, the newest last; needs the database's URI."""
    from mlflow_plugins_pack.approvals import inspection

    uri = database_of(tracking_uri, registry_store_uri)
    with inspection.connected(uri) as connection:
        rows = inspection.audit_entries(connection, limit)
    for row in rows:
        row["when"] = moment(row["ts"])
    columns = ["seq", "when", "actor", "action", "name", "version", "target", "request_id"]
    print_rows(rows, columns, as_json=as_json)


@click.command()
@json_option
@registry_options
def drift(as_json: bool, tracking_uri: str | None, registry_store_uri: str | None) -> None:
    """List protected holders that no approval put there; needs the database's URI."""
    from sqlalchemy.orm import Session

    from mlflow_plugins_pack.approvals import inspection
    from mlflow_plugins_pack.approvals.policy_source import policy_path, read_policy

    uri = database_of(tracking_uri, registry_store_uri)
    in_force = read_policy(policy_path())
    with inspection.connected(uri) as connection, Session(bind=connection) as session:
        strays = inspection.drift(session, in_force)
    if strays or as_json:
        print_rows(strays, ["workspace", "model", "version", "target"], as_json=as_json)
    else:
        click.echo("Every protected holder was approved.")
    if strays:
        raise click.exceptions.Exit(1)
