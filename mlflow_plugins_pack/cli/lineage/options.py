"""The options that the questions of ``mlflow-pack lineage`` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mlflow_plugins_pack.cli.output import tracking_options

F = TypeVar("F", bound=Callable[..., Any])


def server_options(command: F) -> F:
    """Add ``--tracking-uri`` and ``--registry-uri``, as stock clients know them."""
    with_registry = click.option(
        "--registry-uri",
        envvar="MLFLOW_REGISTRY_URI",
        metavar="URI",
        help="Registry server or database; the tracking server if not given.",
    )(command)
    return tracking_options(with_registry)


depth_option = click.option(
    "--depth", type=click.IntRange(1, 50), default=10, show_default=True, help="How many runs far."
)
