"""``mlflow-pack approvals events``: what webhooks were told, and what they still wait for."""

from __future__ import annotations

import click

from mlflow_plugins_pack.approvals.domain.clock import now_ms
from mlflow_plugins_pack.approvals.domain.messages import moment
from mlflow_plugins_pack.cli.approvals.arguments import Registry, registry_options
from mlflow_plugins_pack.cli.output import echo, json_option, print_rows


@click.group()
def events() -> None:
    """See and repeat what webhooks are told."""


@events.command("list")
@click.option("--state", type=click.Choice(["pending", "delivered", "failed"]), help="Only these.")
@click.option("--limit", default=100, show_default=True, help="At most so many, the newest.")
@json_option
@registry_options
def list_events(state: str | None, limit: int, as_json: bool, registry: Registry) -> None:
    """List deliveries, the newest last."""
    from mlflow_plugins_pack.approvals.reports import databases
    from mlflow_plugins_pack.approvals.webhooks import outbox

    with databases.connected(registry.database) as connection:
        found = outbox.deliveries(connection, state, limit)
    rows = [
        {
            **vars(delivery),
            "delivery": delivery.id[:8],
            "when": moment(delivery.created_at),
            "next": moment(delivery.next_attempt_at) if delivery.state == "pending" else None,
        }
        for delivery in found
    ]
    columns = ["delivery", "when", "event", "state", "attempts", "next", "url", "last_error"]
    print_rows(rows, columns, as_json=as_json, if_none="There are no such deliveries.")


@events.command()
@click.argument("delivery", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that were not delivered.")
@registry_options
def retry(delivery: tuple[str, ...], everything: bool, registry: Registry) -> None:
    """Have each DELIVERY attempted again at once; an id, or how it begins."""
    from mlflow_plugins_pack.approvals.reports import databases
    from mlflow_plugins_pack.approvals.webhooks import outbox

    if bool(delivery) == everything:
        raise click.UsageError("Name deliveries (see `events list`), or give --all.")
    now = now_ms()
    ids = None if everything else list(delivery)
    with databases.connected(registry.database) as connection:
        count = outbox.retry(connection, ids, now)
        connection.commit()
    echo(f"{count} will be attempted by a server within seconds.")
