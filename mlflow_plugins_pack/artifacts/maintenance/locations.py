"""Rewrites the locations of artifacts in MLflow's database, after a copy to another root.

A server that hands artifacts on (`mlflow-artifacts:` URIs) needs only another destination. Where
clients reach the storage themselves, each experiment, run, logged model, version and trace holds
the storage's own URI.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import sqlalchemy as sa
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack import uris

# From MLflow's schema, `mlflow.store.tracking.dbmodels.models` and its registry's; the last is the
# key of the only rows that count.
_COLUMNS = (
    ("experiments", "artifact_location", None),
    ("runs", "artifact_uri", None),
    ("logged_models", "artifact_location", None),
    ("model_versions", "source", None),
    ("model_versions", "storage_location", None),
    ("trace_tags", "value", "mlflow.artifactLocation"),
)
_ROWS_AT_ONCE = 1_000


@dataclass
class Rewritten:
    """What was rewritten.

    Attributes:
        rows: How many, by ``table.column``.
        others: Roots of other stores of the pack that experiments still name.
    """

    rows: dict[str, int] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)


def rewrite_locations(database_uri: str, source: str, target: str) -> Rewritten:
    """Replace one artifact root by another in all of MLflow's locations, or in none.

    What stands for history stays: tags of lineage and of datasets still name the old place.

    Args:
        database_uri: As in ``--backend-store-uri`` or ``--registry-store-uri``.
        source: The root as the database has it; only it and what is below it count.
        target: The other root.

    Raises:
        MlflowException: If it is not a database of MLflow's, or refused a change; then it has none.
    """
    if uris.is_pack_uri(uris.REGISTRY_WORD, database_uri):
        database_uri = uris.to_stock(uris.REGISTRY_WORD, database_uri)
    sources, target = _spellings(source.rstrip("/")), target.rstrip("/")
    done = Rewritten()
    engine = sa.create_engine(database_uri)
    try:
        with engine.begin() as connection:
            existing = set(sa.inspect(connection).get_table_names())
            for name, column, key in _COLUMNS:
                if name not in existing:
                    continue
                table = sa.Table(name, sa.MetaData(), autoload_with=connection)
                if column in table.c:
                    done.rows[f"{name}.{column}"] = _rewrite(
                        connection, table.c[column], key, sources, target
                    )
            if not done.rows:
                # SQLite makes an empty database of any name that is misspelt.
                raise MlflowException(
                    f"The database {engine.url!r} has no tables of MLflow. Nothing was changed in "
                    f"it. Give the URI that the server has."
                )
            done.others = _other_roots(connection) if "experiments" in existing else []
    except sa.exc.DBAPIError as exc:
        raise MlflowException(
            f"The database refused to change where artifacts are: {exc.orig}. Nothing was changed "
            f"in it. If approvals have set guards there, remove them first with `mlflow-pack "
            f"approvals guards remove`."
        ) from exc
    finally:
        engine.dispose()
    return done


def _spellings(root: str) -> list[str]:
    """Return how a root may stand in the database: MLflow writes ``x:///path`` as ``x:/path``."""
    parts = urlsplit(root)
    plain = parts.path.startswith("/") and not (parts.netloc or parts.query or parts.fragment)
    if not parts.scheme or not plain:
        return [root]
    return [f"{parts.scheme}:{parts.path}", f"{parts.scheme}://{parts.path}"]


def _rewrite(
    connection: sa.Connection,
    column: sa.Column[str],
    key: str | None,
    sources: list[str],
    target: str,
) -> int:
    table = column.table
    found = sa.select(*table.primary_key.columns, column).where(
        sa.or_(*(column.startswith(source, autoescape=True) for source in sources))
    )
    if key is not None:
        found = found.where(table.c.key == key)
    # Most databases compare texts without regard to case; a root is compared exactly.
    changes = [
        (*row[:-1], target + row[-1][len(source) :])
        for row in connection.execute(found)
        for source in sources
        if row[-1] == source or row[-1].startswith(f"{source}/")
    ]
    # Names that no column has: a statement's own columns may not be those of its parameters.
    names = [f"key_{number}" for number, _ in enumerate(table.primary_key.columns)]
    change = table.update().values({column: sa.bindparam("new")})
    for name, part in zip(names, table.primary_key.columns, strict=True):
        change = change.where(part == sa.bindparam(name))
    for some in _batches([dict(zip([*names, "new"], row, strict=True)) for row in changes]):
        connection.execute(change, some)
    return len(changes)


def _batches(rows: list[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield rows[start : start + _ROWS_AT_ONCE]


def _other_roots(connection: sa.Connection) -> list[str]:
    locations = connection.execute(
        sa.text("SELECT DISTINCT artifact_location FROM experiments")
    ).scalars()
    ours = [place for place in locations if place and uris.is_pack_uri(uris.ARTIFACT_WORD, place)]
    return sorted({place.rpartition("/")[0] for place in ours})
