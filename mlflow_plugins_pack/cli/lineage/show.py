"""``lineage show``: what one run read and wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mlflow_plugins_pack.cli.lineage.options import server_options
from mlflow_plugins_pack.cli.lineage.printing import content, local_time, size
from mlflow_plugins_pack.cli.output import echo, json_option, print_json, print_rows

if TYPE_CHECKING:
    from mlflow_plugins_pack.lineage.document.graph import Entry, Graph


@click.command()
@click.argument("target")
@server_options
@json_option
def show(target: str, tracking_uri: str | None, registry_uri: str | None, as_json: bool) -> None:
    """Show what TARGET, a run or the run behind a model, read and wrote."""
    from mlflow_plugins_pack.lineage.query import api

    found = api.run_lineage(target, tracking_uri=tracking_uri, registry_uri=registry_uri)
    if as_json:
        print_json(found.to_json())
        return
    graph = found.graph
    echo(f"run        {found.run_id} ({found.name}, {found.status})")
    echo(f"digest     {found.digest}")
    for label, text in _facts(graph):
        echo(f"{label:<10} {text}")
    _print_entries("inputs", graph.inputs)
    _print_entries("outputs", graph.outputs)
    if graph.dropped:
        echo(
            "",
            f"{graph.dropped} more files were seen beyond MLFLOW_PACK_LINEAGE_MAX_INPUTS "
            f"and are not listed.",
        )


def _print_entries(title: str, entries: tuple[Entry, ...]) -> None:
    echo("", f"{title} ({len(entries)})")
    if entries:
        print_rows(
            map(_row, entries),
            ["where", "content", "size", "modified", "role", "seen", "notes"],
            as_json=False,
        )


def _row(entry: Entry) -> dict[str, Any]:
    from mlflow_plugins_pack.lineage.document.graph import shown_uri

    notes = [
        str(note)
        for note, holds in (
            ("changed since it was read", entry.changed),
            ("read before the run", entry.shared),
            (f"{entry.files} files", entry.files is not None),
            ("digest of samples", entry.coverage == "sampled"),
            (entry.version, entry.digest and entry.version),
            (f"from {shown_uri(entry.origin or '')}", entry.origin),
        )
        if holds
    ]
    return {
        "where": shown_uri(entry.uri),
        # The whole digest is in --json.
        "content": content(entry),
        "size": size(entry.size),
        "modified": local_time(None if entry.modified is None else entry.modified * 1000),
        "role": entry.role,
        "seen": entry.via,
        "notes": ", ".join(notes),
    }


def _facts(graph: Graph) -> list[tuple[str, str]]:
    from mlflow_plugins_pack.lineage.document.coverage import lacking

    code, env = graph.facts.get("code", {}), graph.facts.get("env", {})
    coverage = graph.facts.get("coverage", {})
    lines = []
    if code:
        commit = str(code.get("commit", "no commit"))[:12]
        changes = " with changes" if code.get("dirty") else ""
        lines.append(("code", f"{code.get('entry', 'no script')} ({commit}{changes})"))
    if env:
        packages = f"{env.get('packages')} packages, {str(env.get('h', ''))[:19]}"
        lines.append(("packages", f"Python {env.get('python')}, {packages}"))
    if coverage:
        lines.append(("coverage", ", ".join(coverage.get("layers", []))))
    if found := lacking(graph):
        lines.append(("incomplete", "; ".join(found)))
    if above := (*graph.upstream_runs, *graph.upstream_models):
        lines.append(("upstream", ", ".join(above)))
    return lines
