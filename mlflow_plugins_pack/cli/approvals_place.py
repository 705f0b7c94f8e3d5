"""Which registry a command of ``mlflow-pack approvals`` is about: a server or a database."""

from __future__ import annotations

import click

from mlflow_plugins_pack.errors import ConfigurationError
from mlflow_plugins_pack.uris import scheme_of


def registry_of(tracking_uri: str | None, registry_store_uri: str | None) -> str:
    """Return the URI of the registry that the options name."""
    uri = registry_store_uri or tracking_uri
    if not uri:
        raise click.UsageError(
            "Which registry? Give --tracking-uri (a server) or --registry-store-uri (a database)."
        )
    return uri


def is_server(uri: str) -> bool:
    """Tell whether the URI is a server's, not a database's."""
    return scheme_of(uri) in ("http", "https")


def database_of(tracking_uri: str | None, registry_store_uri: str | None) -> str:
    """Return the URI of the registry's database; a server does not do.

    Raises:
        ConfigurationError: If it is a server's.
    """
    uri = registry_of(tracking_uri, registry_store_uri)
    if is_server(uri):
        raise ConfigurationError(
            f"This is done in the database itself, and {uri!r} is a server. Nothing "
            "was read. Give the registry's database: --registry-store-uri approval-postgresql://..."
        )
    return uri
