"""``mlflow-pack approvals db``: the approvals' own tables in the registry's database."""

from __future__ import annotations

import click

from mlflow_plugins_pack.cli.approvals.arguments import Registry, registry_options
from mlflow_plugins_pack.cli.output import echo


@click.group()
def db() -> None:
    """Create and upgrade the approvals' tables."""


@db.command()
@click.argument("uri", required=False)
@click.option("--sql", is_flag=True, help="Print the statements instead of running them.")
@click.option(
    "--from", "revision", metavar="REVISION", help="With --sql: start here, not at nothing."
)
@registry_options
def upgrade(uri: str | None, sql: bool, revision: str | None, registry: Registry) -> None:
    """Bring the tables in the database at URI, plain or approval-, to what this version needs.

    A server does it when it starts; this is for accounts that may not create tables, and for
    looking first. MLflow's own tables are upgraded by `mlflow db upgrade`.
    """
    import sqlalchemy as sa

    from mlflow_plugins_pack.approvals.database import schema
    from mlflow_plugins_pack.approvals.reports import databases
    from mlflow_plugins_pack.approvals.uri import plain_uri

    if revision and not sql:
        raise click.UsageError("--from goes with --sql.")
    place = uri or registry.database
    plain = plain_uri(place)
    if sql:
        steps = f"{revision}:head" if revision else "head"
        schema.run_alembic(None, "upgrade", steps, sql=True, url=plain)
        return
    with databases.opened(place) as engine:
        schema.upgrade(engine)
        with engine.connect() as connection:
            found = schema.current_revision(connection)
        shown = sa.make_url(plain).render_as_string(hide_password=True)
        echo(f"The approvals tables of {shown} are at revision {found}.")
