"""Optional indexes of MLflow's own tables, by which a server finds datasets quickly.

MLflow searches datasets by digest and name, and model versions by run, but has an index for
neither. An index changes no table and no answer; stock MLflow works with it as without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine


@dataclass(frozen=True)
class TableIndex:
    """An index of one column.

    Attributes:
        name: Its name in the database.
        table: MLflow's table.
        column: The column.
    """

    name: str
    table: str
    column: str


INDEXES = (
    TableIndex("mpp_datasets_digest", "datasets", "digest"),
    TableIndex("mpp_datasets_name", "datasets", "name"),
    TableIndex("mpp_inputs_source_id", "inputs", "source_id"),
    TableIndex("mpp_model_versions_run_id", "model_versions", "run_id"),
)


def existing(engine: Engine) -> dict[TableIndex, bool]:
    """Return which indexes a database has.

    Args:
        engine: An engine of MLflow's database.

    Raises:
        SQLAlchemyError: If it cannot be reached, or has not MLflow's tables.
    """
    import sqlalchemy

    inspector = sqlalchemy.inspect(engine)
    names = {
        table: {index["name"] for index in inspector.get_indexes(table)}
        for table in {index.table for index in INDEXES}
    }
    return {index: index.name in names[index.table] for index in INDEXES}


def install(engine: Engine) -> list[TableIndex]:
    """Create the indexes that are missing; return them.

    On PostgreSQL, servers can write meanwhile.
    """
    return _change(engine, [index for index, is_there in existing(engine).items() if not is_there])


def remove(engine: Engine) -> list[TableIndex]:
    """Drop the indexes that exist; return them."""
    there = [index for index, is_there in existing(engine).items() if is_there]
    return _change(engine, there, drops=True)


def _change(engine: Engine, indexes: list[TableIndex], *, drops: bool = False) -> list[TableIndex]:
    import sqlalchemy

    # PostgreSQL creates an index without locking its table only outside of a transaction.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for index in indexes:
            table = sqlalchemy.Table(index.table, sqlalchemy.MetaData(), autoload_with=connection)
            made = sqlalchemy.Index(index.name, table.c[index.column], postgresql_concurrently=True)
            if drops:
                made.drop(connection)
            else:
                made.create(connection)
    return indexes
