"""``lineage export``: the lineage of a target for other tools and for people."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import click

from mlflow_plugins_pack.cli.lineage.options import depth_option, server_options
from mlflow_plugins_pack.cli.output import echo
from mlflow_plugins_pack.lineage.export import FORMATS


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
@depth_option
@server_options
def export(
    target: str,
    form: str,
    out: Path | None,
    depth: int,
    tracking_uri: str | None,
    registry_uri: str | None,
) -> None:
    """Write the lineage of TARGET for another tool, or as a page for people."""
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
        event = api.openlineage_event(target, tracking_uri=tracking_uri, registry_uri=registry_uri)
        return json.dumps(event, indent=2)
    network = api.around(target, depth=depth, tracking_uri=tracking_uri, registry_uri=registry_uri)
    if form == "prov":
        return json.dumps(prov.document(network), indent=2)
    if form == "html":
        from mlflow.tracking import get_tracking_uri

        server = tracking_uri or get_tracking_uri()
        return page.html(network, target, server=server, made=datetime.now(timezone.utc))
    return text.mermaid(network) if form == "mermaid" else text.dot(network)
