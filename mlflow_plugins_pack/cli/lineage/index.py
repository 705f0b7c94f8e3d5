"""``lineage index``: indexes of MLflow's database for servers with very many runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from mlflow_plugins_pack.cli.output import echo, json_option, print_rows

if TYPE_CHECKING:
    from sqlalchemy import Engine


@click.group()
def index() -> None:
    """Create or drop indexes of MLflow's tables, for servers with very many runs.

    URI is the server's own --backend-store-uri. An index changes no table and no answer.
    """


@contextmanager
def _engine(uri: str) -> Iterator[Engine]:
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = sqlalchemy.create_engine(uri)
        try:
            yield engine
        finally:
            engine.dispose()
    except SQLAlchemyError as exc:
        raise click.ClickException(
            f"The database did not do it: {exc.__class__.__name__}: {str(exc).splitlines()[0]} "
            f"What was done before stays done. Give the URI that `mlflow server` has as "
            f"--backend-store-uri, with a user who may create indexes."
        ) from exc


@index.command()
@click.argument("uri")
def install(uri: str) -> None:
    """Create the indexes that are missing in the database at URI; servers can go on meanwhile."""
    from mlflow_plugins_pack.lineage.query import indexes

    with _engine(uri) as engine:
        made = indexes.install(engine)
    lines = [f"Created {one.name} on {one.table}.{one.column}." for one in made]
    echo(*(lines or ["All indexes exist already."]))


@index.command()
@click.argument("uri")
def remove(uri: str) -> None:
    """Drop these indexes in the database at URI."""
    from mlflow_plugins_pack.lineage.query import indexes

    with _engine(uri) as engine:
        dropped = indexes.remove(engine)
    echo(*([f"Dropped {one.name}." for one in dropped] or ["None of the indexes exists."]))


@index.command()
@click.argument("uri")
@json_option
def status(uri: str, as_json: bool) -> None:
    """List the indexes and whether the database at URI has them; exit code 1 if not all."""
    from mlflow_plugins_pack.lineage.query import indexes

    with _engine(uri) as engine:
        found = indexes.existing(engine)
    rows = [
        {"index": one.name, "column": f"{one.table}.{one.column}", "exists": is_there}
        for one, is_there in found.items()
    ]
    print_rows(rows, list(rows[0]), as_json=as_json)
    if not all(found.values()):
        raise click.exceptions.Exit(1)
