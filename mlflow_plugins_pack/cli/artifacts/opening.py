"""Opens the store that a command names, and reports the progress of long steps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from mlflow_plugins_pack.cli.output import echo

if TYPE_CHECKING:
    from mlflow_plugins_pack.artifacts.pieces import Workers
    from mlflow_plugins_pack.artifacts.store.store import Store
    from mlflow_plugins_pack.artifacts.uri.location import Location


def location_of(uri: str) -> Location:
    """Return the location that a cas- URI names."""
    from mlflow_plugins_pack.artifacts.uri.location import parse_location

    return parse_location(uri)


def open_store(uri: str) -> Store:
    """Return the store at a cas- URI, or fail: no command but ``init`` creates one."""
    from mlflow_plugins_pack.artifacts.store.opening import find_store, refuse_missing_store

    store = find_store(location_of(uri))
    if store is None:
        refuse_missing_store(location_of(uri))
        raise click.ClickException(
            f"There is no artifact store at {uri}. Nothing was made. Check the URI, or make one "
            f"with `mlflow-pack artifacts init`."
        )
    return store


def progress(*, as_json: bool) -> Callable[[str], None]:
    """Return what prints a step to a terminal's standard error, and nothing elsewhere."""

    def tell(doing: str) -> None:
        if not as_json and sys.stderr.isatty():
            echo(f"... {doing}", err=True)

    return tell


def workers_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say who does a long job."""
    processes = click.option(
        "--processes",
        type=click.IntRange(min=1),
        help="Share the work among so many processes of this machine.",
    )
    dask = click.option(
        "--dask",
        metavar="ADDRESS",
        help="Share the work among the workers of a Dask scheduler, such as tcp://host:8786, which "
        "need this package and the settings and credentials of the store.",
    )
    return processes(dask(command))


def workers_of(processes: int | None, dask: str | None) -> Workers | None:
    """Return who does a long job; None for this process."""
    if processes is None and dask is None:
        return None
    from mlflow_plugins_pack.artifacts import pieces

    return pieces.workers(processes, dask)
