"""``mlflow-pack approvals audit``, ``drift``, ``metrics``: what happened, and whether it holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from mlflow_plugins_pack.approvals.domain.basis import Basis
from mlflow_plugins_pack.approvals.domain.clock import now_ms
from mlflow_plugins_pack.approvals.domain.messages import moment
from mlflow_plugins_pack.approvals.domain.targets import parse_target
from mlflow_plugins_pack.cli.approvals.arguments import Registry, registry_options
from mlflow_plugins_pack.cli.output import echo, json_option, print_json, print_rows
from mlflow_plugins_pack.cli.parameters import MOMENT
from mlflow_plugins_pack.errors import AuditBrokenError
from mlflow_plugins_pack.settings import APPROVALS_AUDIT_KEY

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def audit() -> None:
    """Read and check the audit log."""


def _target_key(_ctx: click.Context, _param: click.Parameter, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return parse_target(text).key
    except ValueError as exc:
        raise click.BadParameter(f"{exc}; expected prod or stage:Production") from exc


def _about(command: F) -> F:
    """Add ``--model``, ``--workspace`` and ``--target``."""
    for option in (
        click.option("--target", callback=_target_key, help="prod or stage:Production."),
        click.option("--workspace", help="Of the model."),
        click.option("--model", "name", help="Name of the model or prompt."),
    ):
        command = option(command)
    return command


def _key_option(command: F) -> F:
    return click.option(
        "--key",
        envvar=APPROVALS_AUDIT_KEY.name,
        type=click.Path(dir_okay=False, path_type=Path),
        help=f"Ed25519 key (PEM), or a secret for HMAC; {APPROVALS_AUDIT_KEY.name} if not given.",
    )(command)


@audit.command("verify")
@click.option("--against", metavar="HEAD", help="A head exported before: a file or s3:// URI.")
@_key_option
@json_option
@registry_options
def audit_verify(against: str | None, key: Path | None, as_json: bool, registry: Registry) -> None:
    """Check that no entry was changed, removed or added; needs the database's URI.

    With --against also that the log goes on from an exported head, which shows a log that was
    rewritten as a whole.
    """
    from mlflow_plugins_pack.approvals.ledger import audit_log, signed_heads
    from mlflow_plugins_pack.approvals.reports import databases

    uri = registry.database
    with databases.connected(uri) as connection:
        found = audit_log.verify(connection)
    if as_json and not (found.is_intact and against):
        print_json({**vars(found), "is_intact": found.is_intact})
        if not found.is_intact:
            raise click.exceptions.Exit(1)
        return
    if not found.is_intact:
        raise AuditBrokenError(
            f"{found.problem}. {found.entries} entries before it hold, the last with hash "
            f"{found.head}. Nothing was changed. Compare with a backup."
        )
    if against is not None:
        if key is None:
            raise click.UsageError("--against needs --key: anyone can write an unsigned head.")
        head = signed_heads.read_head(against)
        with databases.connected(uri) as connection:
            signed_heads.check_head(connection, head, signed_heads.read_key(key))
        if as_json:
            print_json({**vars(found), "is_intact": True, "goes_on_from": head["seq"]})
            return
        echo(f"It goes on from entry {head['seq']}, exported {moment(head['exported_at'])}.")
    echo(f"The audit log is intact: {found.entries} entries, head {found.head}.")


@audit.command("export")
@click.argument("destination", default="-")
@_key_option
@registry_options
def audit_export_head(destination: str, key: Path | None, registry: Registry) -> None:
    """Sign the log's head and write it to DESTINATION: a file, an s3:// URI, or - for the output.

    Keep heads where who runs the database cannot write. A DESTINATION that ends in a slash gets a
    new name for each head.
    """
    from mlflow_plugins_pack.approvals.ledger import signed_heads
    from mlflow_plugins_pack.approvals.reports import databases

    if key is None:
        raise click.UsageError(f"Which key signs? Give --key or set {APPROVALS_AUDIT_KEY.name}.")
    signing = signed_heads.read_key(key)
    with databases.connected(registry.database) as connection:
        head = signed_heads.make_head(connection, signing, now_ms())
    if destination == "-":
        print_json(head)
        return
    place = signed_heads.write_head(head, destination)
    echo(f"Entry {head['seq']}, {head['hash']}, signed with {signing.id}: {place}", err=True)


@audit.command("holders")
@click.option("--at", type=MOMENT, metavar="TIME", help="When; now if not given.")
@_about
@json_option
@registry_options
def audit_holders(
    at: int | None,
    name: str | None,
    workspace: str | None,
    target: str | None,
    as_json: bool,
    registry: Registry,
) -> None:
    """Show which version held a protected alias or stage at a TIME, and who approved it."""
    from mlflow_plugins_pack.approvals.ledger import holder_history
    from mlflow_plugins_pack.approvals.reports import databases, listings

    uri = registry.database
    with databases.connected(uri) as connection:
        entries = listings.audit_entries(connection, workspace=workspace, name=name)
    found = [h for h in holder_history.holders_at(entries, at) if target in (None, h.target)]
    rows = [
        {**vars(h), "held_since": moment(h.since), "approved_by": ", ".join(h.approvers)}
        for h in found
    ]
    columns = ["workspace", "model", "target", "version", "held_since", "actor", "approved_by"]
    print_rows(rows, columns, as_json=as_json, if_none="Nothing protected was held.")


@audit.command("list")
@click.option("--limit", default=100, show_default=True, help="At most so many, the newest.")
@_about
@click.option("--version", type=int, help="Of the model.")
@click.option("--actor", help="Who did it.")
@click.option("--action", type=str.upper, help="Such as APPLIED or REFUSED.")
@click.option("--request", "request_id", help="Id of a request, or how it begins.")
@click.option("--since", type=MOMENT, metavar="TIME", help="Not before this time.")
@click.option("--until", type=MOMENT, metavar="TIME", help="Not after this time.")
@json_option
@registry_options
def audit_list(limit: int, as_json: bool, registry: Registry, **where: Any) -> None:
    """List what happened, the newest last; needs the database's URI."""
    from mlflow_plugins_pack.approvals.ledger.requests import SHORT_ID
    from mlflow_plugins_pack.approvals.reports import databases, listings

    uri = registry.database
    with databases.connected(uri) as connection:
        rows = listings.audit_entries(connection, limit, **where)
    shown = [
        {
            **row,
            "when": moment(row["created_at"]),
            "request": (row["request_id"] or "")[:SHORT_ID],
            "what": _what(row),
        }
        for row in rows
    ]
    columns = ["seq", "when", "actor", "action", "name", "version", "target", "request", "what"]
    print_rows(shown, columns, as_json=as_json, if_none="There are no such entries.")


def _what(entry: dict[str, Any]) -> str:
    """Return what an entry says besides its columns, in a few words."""
    after = json.loads(entry["after"] or "{}")
    if "tag" in after:
        return f"{after['tag']}={after['value']}" if after["value"] is not None else after["tag"]
    if entry["action"] == "APPLIED":
        by = ", ".join(after.get("approvers") or ())
        return Basis.from_fields(after.get("basis")).text or (f"approved by {by}" if by else "")
    named = ("code", "verdict", "reason", "kind", "name", "comment")
    words = [str(after[key]) for key in named if after.get(key)]
    return ": ".join(words)


@click.command()
@json_option
@registry_options
def drift(as_json: bool, registry: Registry) -> None:
    """List what holds a protected target without approval, or lost it; needs the database's URI."""
    from sqlalchemy.orm import Session

    from mlflow_plugins_pack.approvals.background import drift as drift_check
    from mlflow_plugins_pack.approvals.policy.source import policy_path, read_policy
    from mlflow_plugins_pack.approvals.reports import databases

    uri = registry.database
    in_force = read_policy(policy_path())
    with databases.connected(uri) as connection, Session(bind=connection) as session:
        findings = drift_check.find(session, in_force)
    if findings or as_json:
        rows = [finding.as_row() for finding in findings]
        columns = ["workspace", "model", "target", "version", "kind", "why"]
        print_rows(rows, columns, as_json=as_json)
    else:
        echo("Every protected holder was approved.")
    if findings:
        raise click.exceptions.Exit(1)


@click.command()
@registry_options
def metrics(registry: Registry) -> None:
    """Print figures for Prometheus in its text format; needs the database's URI.

    For node_exporter's textfile collector. Where Prometheus reaches the review app, it can read the
    same at /approvals/api/v1/metrics.
    """
    from sqlalchemy.orm import Session

    from mlflow_plugins_pack.approvals.background import drift as drift_check
    from mlflow_plugins_pack.approvals.policy.source import policy_path, read_policy
    from mlflow_plugins_pack.approvals.reports import databases
    from mlflow_plugins_pack.approvals.reports import metrics as figures

    uri = registry.database
    in_force = read_policy(policy_path())
    with databases.connected(uri) as connection, Session(bind=connection) as session:
        findings = drift_check.find(session, in_force)
        found = figures.read(session, figures.RefusalCounts(), findings)
    echo(*figures.as_text(found).decode().splitlines())
