"""A stored token, and its file."""

from __future__ import annotations

from pathlib import Path

from mlflow_plugins_pack.auth.token_store.stored_token import StoredToken
from mlflow_plugins_pack.auth.token_store.stores import FileStore

KEY = "k"
FIRST = StoredToken("token-1", 1000.0, 4600.0, "refresh-1", "alice")


def path_of(store: FileStore) -> Path:
    return Path(store._path(KEY))
