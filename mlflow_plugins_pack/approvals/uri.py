"""The URIs of the approvals' registry store: ``approval-`` in front of a database's."""

from __future__ import annotations

from mlflow.store.db.db_types import DATABASE_ENGINES

from mlflow_plugins_pack.errors import UnsupportedUriError
from mlflow_plugins_pack.uris import (
    REGISTRY_WORD,
    is_pack_uri,
    scheme_of,
    to_stock,
    without_credentials,
)

SERVED_DATABASES = ("sqlite", "postgresql", "mysql")


def stock_uri(store_uri: str) -> str:
    """Return the database URI behind an ``approval-`` URI.

    Raises:
        UnsupportedUriError: If the store does not work with that database.
    """
    inner = to_stock(REGISTRY_WORD, store_uri)
    dialect = scheme_of(inner).partition("+")[0]
    if dialect in SERVED_DATABASES:
        return inner
    known = f"MLflow knows {dialect}, but this store does not serve it"
    why = {
        "file": "a file store has no transactions, so nothing could be enforced in it",
        "http": "a server enforces approvals itself; give clients its plain address",
        "https": "a server enforces approvals itself; give clients its plain address",
    }.get(dialect, known if dialect in DATABASE_ENGINES else "it is not a database MLflow knows")
    raise UnsupportedUriError(
        f"The registry URI {without_credentials(store_uri)!r} cannot be opened: {why}. Nothing was "
        f"opened. Use approval- in front of a {', '.join(SERVED_DATABASES)} URI, such as "
        "approval-sqlite:///mlflow.db."
    )


def plain_uri(uri: str) -> str:
    """Return the database's own URI behind an ``approval-`` or a stock URI."""
    return stock_uri(uri) if is_pack_uri(REGISTRY_WORD, uri) else uri
