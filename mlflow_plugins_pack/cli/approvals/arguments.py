"""What a command of ``mlflow-pack approvals`` is about: a registry, a version, a target."""

from __future__ import annotations

import re
from typing import Any

import click

from mlflow_plugins_pack.approvals.domain.targets import parse_target
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
    """Return whether the URI is a server's, not a database's."""
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


_MODEL_VERSION = re.compile(r"(?:models:/|prompts:/)?(?P<name>[^/:@]+)/(?P<version>[1-9]\d*)")


def parse_version(_ctx: click.Context, _param: click.Parameter, text: str) -> tuple[str, int]:
    """Read ``models:/NAME/VERSION``; a click callback."""
    match = _MODEL_VERSION.fullmatch(text)
    if match is None:
        raise click.BadParameter("expected models:/NAME/VERSION, such as models:/fraud-eu/7")
    return match["name"], int(match["version"])


def target_argument(_ctx: click.Context, _param: click.Parameter, text: str | None) -> str | None:
    """Read ``prod`` or ``stage:Production``; a click callback."""
    try:
        return None if text is None else parse_target(text).tag
    except ValueError as exc:
        raise click.BadParameter(f"{exc}; expected prod or stage:Production") from exc


def client_of(uri: str) -> Any:
    """Return a stock client of a server or a database."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri if is_server(uri) else None, registry_uri=uri)


def is_prompt_of(client: Any, name: str) -> bool:
    """Return whether the name is a prompt's: stock clients have separate methods for prompts."""
    return client.get_prompt(name) is not None


def version_of(client: Any, name: str, version: int) -> Any:
    """Return a version of a model or prompt."""
    if is_prompt_of(client, name):
        return client.get_prompt_version(name, version)
    return client.get_model_version(name, str(version))
