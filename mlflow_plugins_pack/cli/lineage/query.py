"""The questions of ``mlflow-pack lineage``, from upstream to export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlflow_plugins_pack.cli.output import (
    echo,
    json_option,
    print_json,
    print_rows,
    tracking_options,
)
from mlflow_plugins_pack.lineage.export import FORMATS

if TYPE_CHECKING:
    from mlflow_plugins_pack.lineage.document.graph import Entry
    from mlflow_plugins_pack.lineage.document.network import Network

F = TypeVar("F", bound=Callable[..., Any])


def _servers(command: F) -> F:
    """Add ``--tracking-uri`` and ``--registry-uri``, as stock clients know them."""
    with_registry = click.option(
        "--registry-uri",
        envvar="MLFLOW_REGISTRY_URI",
        metavar="URI",
        help="Registry server or database; the tracking server if not given.",
    )(command)
    return tracking_options(with_registry)


_depth = click.option(
    "--depth", type=click.IntRange(1, 50), default=5, show_default=True, help="How many runs far."
)


@click.command()
@click.argument("target")
@_depth
@_servers
@json_option
def upstream(
    target: str, depth: int, tracking_uri: str | None, registry_uri: str | None, as_json: bool
) -> None:
    """Show what TARGET was made from: data, runs, models, prompts.

    TARGET is a run id, models:/NAME/VERSION, models:/NAME@ALIAS, models:/m-..., or a file.
    """
    from mlflow_plugins_pack.lineage.query import api

    _print_network(
        api.upstream(target, depth=depth, tracking_uri=tracking_uri, registry_uri=registry_uri),
        as_json=as_json,
    )


@click.command()
@click.argument("target")
@_depth
@_servers
@json_option
def downstream(
    target: str, depth: int, tracking_uri: str | None, registry_uri: str | None, as_json: bool
) -> None:
    """Show what came of TARGET: runs, files, models, versions, aliases.

    TARGET is a local file, a URI, a digest (sha256:...), a run id or a models:/ URI.
    """
    from mlflow_plugins_pack.lineage.query import api

    _print_network(
        api.downstream(target, depth=depth, tracking_uri=tracking_uri, registry_uri=registry_uri),
        as_json=as_json,
    )


@click.command("who-used")
@click.argument("target")
@_servers
@json_option
def who_used(
    target: str, tracking_uri: str | None, registry_uri: str | None, as_json: bool
) -> None:
    """List the runs that read TARGET, a local file, a URI or a digest, and their models."""
    from mlflow_plugins_pack.lineage.query import api

    rows = api.who_used(target, tracking_uri=tracking_uri, registry_uri=registry_uri)
    if as_json:
        print_json(rows)
        return
    if not rows:
        echo("No run read it.")
        return
    shown = [{**row, "models": ", ".join(row["models"])} for row in rows]
    print_rows(shown, ["run", "name", "status", "models"], as_json=False)


@click.command()
@click.argument("first")
@click.argument("second")
@tracking_options
@json_option
def diff(first: str, second: str, tracking_uri: str | None, as_json: bool) -> None:
    """Compare what the runs FIRST and SECOND read; exit code 1 if anything differs."""
    from mlflow_plugins_pack.lineage.query import api

    found = api.diff(first, second, tracking_uri=tracking_uri)
    if as_json:
        print_json(found.to_json())
    else:
        same = found.same_data
        echo("Both read the same bytes." if same else "They read different bytes.")
        echo(f"{found.same} inputs are alike.")
        for sign, entries in (("-", found.only_first), ("+", found.only_second)):
            for entry in entries:
                echo(f"{sign} {_named(entry)}")
        for before, after in found.changed:
            echo(f"~ {_named(before)} -> {_content(after)}")
        for before, after in found.moved:
            echo(f"= {_named(before)} was read from {_named(after)}")
        for key, (before, after) in found.facts.items():
            echo(f"  {key}: {before} -> {after}")
    if found:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("run")
@tracking_options
@json_option
def verify(run: str, tracking_uri: str | None, as_json: bool) -> None:
    """Check that what RUN read is still the same; exit code 1 if anything is not."""
    from mlflow_plugins_pack.cli.output import print_rows
    from mlflow_plugins_pack.lineage.document.graph import shown_uri
    from mlflow_plugins_pack.lineage.query import api
    from mlflow_plugins_pack.lineage.query.verify import CHANGED, MISSING

    checks = api.verify(run, tracking_uri=tracking_uri)
    if as_json:
        print_json([check.to_json() for check in checks])
    elif not checks:
        echo("The run read nothing.")
    else:
        rows = [
            {"where": shown_uri(c.entry.uri), "result": c.result, "reason": c.reason}
            for c in checks
        ]
        print_rows(rows, ["where", "result", "reason"], as_json=False)
    if any(check.result in (CHANGED, MISSING) for check in checks):
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("target")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    required=True,
    help="openlineage: one run as an event; the others: all that hangs together with TARGET.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@_depth
@_servers
def export(
    target: str,
    form: str,
    out: Path | None,
    depth: int,
    tracking_uri: str | None,
    registry_uri: str | None,
) -> None:
    """Write the lineage of TARGET, a run, model, file, URI or digest, for another tool."""
    text = _exported(target, form, depth, tracking_uri, registry_uri)
    if out is None:
        echo(*text.removesuffix("\n").split("\n"))
    else:
        out.write_text(text, encoding="utf-8")
        echo(f"Wrote {out}.")


def _exported(
    target: str, form: str, depth: int, tracking_uri: str | None, registry_uri: str | None
) -> str:
    from mlflow_plugins_pack.lineage.export import page, prov, text
    from mlflow_plugins_pack.lineage.query import api

    if form == "openlineage":
        return json.dumps(api.openlineage_event(target, tracking_uri=tracking_uri), indent=2)
    network = api.around(target, depth=depth, tracking_uri=tracking_uri, registry_uri=registry_uri)
    if form == "prov":
        return json.dumps(prov.document(network), indent=2)
    if form == "html":
        return page.html(network, f"Lineage of {target}")
    return text.mermaid(network) if form == "mermaid" else text.dot(network)


def _print_network(network: Network, *, as_json: bool) -> None:
    if as_json:
        print_json(network.to_json())
        return
    labels = {key: f"{node.kind} {_label(key, node.label)}" for key, node in network.nodes.items()}
    if not network.edges:
        echo("Nothing was found.")
    rows = [
        {
            "from": labels.get(edge.source, edge.source),
            "": edge.kind,
            "to": labels.get(edge.target, edge.target),
        }
        for edge in network.edges
    ]
    if rows:
        print_rows(rows, ["from", "", "to"], as_json=False)
    for note in network.notes:
        echo(note)


def _label(key: str, label: str) -> str:
    # A run's name alone does not say which run.
    return f"{label} ({key[:12]})" if len(key) == 32 and label != key else label


def _named(entry: Entry) -> str:
    from mlflow_plugins_pack.lineage.document.graph import shown_uri

    return f"{shown_uri(entry.uri)} {_content(entry)}".rstrip()


def _content(entry: Entry) -> str:
    if entry.digest:
        return entry.digest.removeprefix("sha256:")[:12]
    return f"version {entry.version}" if entry.version else ""
