"""``artifacts ls``, ``du`` and ``stats``: what a store holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import click

from mlflow_plugins_pack.cli.artifacts.opening import location_of, open_store
from mlflow_plugins_pack.cli.output import human_bytes, json_option, print_json, print_rows


@click.command()
@click.argument("uri")
@click.argument("path", required=False)
@json_option
def ls(uri: str, path: str | None, as_json: bool) -> None:
    """List what is directly in the folder PATH of URI."""
    from mlflow_plugins_pack.artifacts import reading

    location = location_of(uri)
    open_store(uri)
    listed = reading.list_files(location, path)
    if not listed and path:
        reading.content_digest(location, path)
    rows: list[dict[str, Any]] = [
        {"path": f.path + ("/" if f.is_dir and not as_json else ""), "size": f.file_size}
        | ({"is_dir": f.is_dir} if as_json else {})
        for f in listed
    ]
    print_rows(rows, ["size", "path"], as_json=as_json)


@click.command()
@click.argument("uri")
@click.option(
    "--by",
    type=click.Choice(["run", "experiment"]),
    default="run",
    show_default=True,
    help="Add up runs, models and traces singly or by experiment.",
)
@json_option
def du(uri: str, by: str, as_json: bool) -> None:
    """Show how many bytes runs hold, and how many are stored for them.

    STORED counts equal chunks once within a line; the total counts them once in all, so that it
    is less than the sum of its lines where runs share bytes.
    """
    from mlflow_plugins_pack.artifacts.format import object_keys
    from mlflow_plugins_pack.artifacts.maintenance.usage import (
        Usage,
        usage_by_experiment,
        usage_by_scope,
    )

    store = open_store(uri)
    inside = object_keys.relative_to(location_of(uri).path, store.location.path) or ""
    total = Usage("total")
    usages: Iterable[Usage] = list(usage_by_scope(store, inside))
    for usage in usages:
        total.add(usage)
    if by == "experiment":
        usages = usage_by_experiment(usages)
    rows: list[dict[str, Any]] = [
        {
            "path": usage.path or ".",
            "files": usage.files,
            "logical_bytes": usage.logical_bytes,
            "stored_bytes": usage.stored_bytes,
        }
        for usage in (*usages, total)
    ]
    if as_json:
        print_json({by + "s": rows[:-1], "total": rows[-1]})
        return
    for row in rows:
        row["logical"] = human_bytes(row["logical_bytes"])
        row["stored"] = human_bytes(row["stored_bytes"])
    print_rows(rows, ["path", "files", "logical", "stored"], as_json=False)


@click.command()
@click.argument("uri")
@json_option
def stats(uri: str, as_json: bool) -> None:
    """Count a store's objects and say what deduplication saves."""
    from mlflow_plugins_pack.artifacts.maintenance.usage import statistics

    result = statistics(open_store(uri))
    values = {**asdict(result), "stored_bytes": result.stored_bytes, "ratio": result.ratio}
    if as_json:
        print_json(values)
        return
    rows = [
        {"what": name.replace("_", " "), "value": _shown(name, value)}
        for name, value in values.items()
    ]
    print_rows(rows, ["what", "value"], as_json=False)


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.endswith("_bytes"):
        return f"{human_bytes(value)} ({value})"
    return str(value)
