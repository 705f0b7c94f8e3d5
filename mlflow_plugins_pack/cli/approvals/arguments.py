"""What a command of ``mlflow-pack approvals`` is about: a registry, a version, a target."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

from mlflow_plugins_pack.approvals.domain.targets import parse_target
from mlflow_plugins_pack.cli.output import tracking_options
from mlflow_plugins_pack.errors import ConfigurationError
from mlflow_plugins_pack.uris import scheme_of

F = TypeVar("F", bound=Callable[..., Any])


class Registry:
    """The registry that the options of a command name."""

    def __init__(self, tracking_uri: str | None, registry_store_uri: str | None) -> None:
        self._uri = registry_store_uri or tracking_uri

    @property
    def uri(self) -> str:
        """The URI of a server or a database."""
        if not self._uri:
            raise click.UsageError(
                "Which registry? Give --tracking-uri (a server) or --registry-store-uri (a "
                "database)."
            )
        return self._uri

    @property
    def is_server(self) -> bool:
        """Whether the URI is a server's, not a database's."""
        return scheme_of(self.uri) in ("http", "https")

    @property
    def database(self) -> str:
        """The URI of the registry's database.

        Raises:
            ConfigurationError: If the options name a server.
        """
        if self.is_server:
            raise ConfigurationError(
                f"This is done in the database itself, and {self.uri!r} is a server. Nothing was "
                "read. Give the registry's database: --registry-store-uri approval-postgresql://..."
            )
        return self.uri

    def client(self) -> Any:
        """Return a stock client."""
        from mlflow import MlflowClient

        return MlflowClient(
            tracking_uri=self.uri if self.is_server else None, registry_uri=self.uri
        )


def registry_options(command: F) -> F:
    """Add ``--registry-store-uri`` and ``--tracking-uri``; the command gets a `Registry`."""

    @functools.wraps(command)
    def with_registry(
        *args: Any, tracking_uri: str | None, registry_store_uri: str | None, **values: Any
    ) -> Any:
        registry = Registry(tracking_uri, registry_store_uri)
        return command(*args, registry=registry, **values)

    option = click.option(
        "--registry-store-uri",
        envvar="MLFLOW_REGISTRY_URI",
        metavar="URI",
        help="Registry server or approval- database; MLFLOW_REGISTRY_URI if not given.",
    )
    return tracking_options(option(cast(F, with_registry)))


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


def is_prompt_of(client: Any, name: str) -> bool:
    """Return whether the name is a prompt's: stock clients have separate methods for prompts."""
    return client.get_prompt(name) is not None


def version_of(client: Any, name: str, version: int) -> Any:
    """Return a version of a model or prompt."""
    if is_prompt_of(client, name):
        return client.get_prompt_version(name, version)
    return client.get_model_version(name, str(version))
