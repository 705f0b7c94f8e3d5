"""Opens the database of a registry without serving it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import sqlalchemy as sa

from mlflow_plugins_pack.approvals.database import schema
from mlflow_plugins_pack.approvals.uri import plain_uri
from mlflow_plugins_pack.errors import (
    ConfigurationError,
    NotServedYetError,
)
from mlflow_plugins_pack.uris import without_credentials


@contextlib.contextmanager
def connected(uri: str) -> Iterator[sa.Connection]:
    """Connect to the database behind an ``approval-`` or a stock URI.

    Raises:
        NotServedYetError: If it was never served with an approval- URI.
        ConfigurationError: If it cannot be reached.
    """
    with served(uri) as engine, engine.connect() as connection:
        yield connection


@contextlib.contextmanager
def served(uri: str) -> Iterator[sa.Engine]:
    """Open a database that has the approvals' tables, as this version needs them.

    Raises:
        NotServedYetError: If it was never served with an approval- URI.
        ConfigurationError: If it cannot be reached.
    """
    with opened(uri) as engine:
        with engine.connect() as connection:
            found = schema.current_revision(connection)
        if found is None:
            raise NotServedYetError(
                f"The database {without_credentials(uri)!r} has no approvals tables. Nothing "
                "was changed. Serve it once with an approval- URI; the server makes them."
            )
        if found != schema.head_revision():
            raise ConfigurationError(
                f"The approvals tables of {without_credentials(uri)!r} are at revision {found}, "
                f"and this version needs {schema.head_revision()}. Nothing was changed. Run "
                "mlflow-pack approvals db upgrade, or start the server once."
            )
        yield engine


@contextlib.contextmanager
def opened(uri: str) -> Iterator[sa.Engine]:
    """Open the database behind an ``approval-`` or a stock URI.

    Raises:
        ConfigurationError: If it cannot be reached.
    """
    try:
        engine = sa.create_engine(plain_uri(uri))
    except (sa.exc.ArgumentError, ImportError) as exc:
        raise ConfigurationError(
            f"{without_credentials(uri)!r} is not a database URI that can be opened here ({exc}). "
            "Nothing was changed. Give the registry's database, such as "
            "approval-sqlite:///mlflow.db."
        ) from exc
    try:
        if engine.dialect.name == "sqlite":
            _refuse_missing_file(engine, uri)
        yield engine
    except sa.exc.OperationalError as exc:
        raise ConfigurationError(
            f"The database {without_credentials(uri)!r} cannot be read ({exc.orig}). "
            "Nothing was changed. Check the URI and whether the database runs."
        ) from exc
    finally:
        engine.dispose()


def _refuse_missing_file(engine: sa.Engine, uri: str) -> None:
    # SQLite would make an empty file of a mistyped name.
    from pathlib import Path

    path = engine.url.database
    if path and path != ":memory:" and not Path(path).exists():
        raise NotServedYetError(
            f"There is no database file {path!r} (from {uri!r}). Nothing was changed. "
            "Check the path; a relative one starts at the current folder."
        )
