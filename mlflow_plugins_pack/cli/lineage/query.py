"""The questions of ``mlflow-pack lineage`` about what came of what."""

from __future__ import annotations

import click

from mlflow_plugins_pack.cli.lineage.options import depth_option, server_options
from mlflow_plugins_pack.cli.lineage.printing import local_time, print_network, short, size
from mlflow_plugins_pack.cli.output import echo, json_option, print_json, print_rows


@click.command()
@click.argument("target")
@depth_option
@server_options
@json_option
def upstream(
    target: str, depth: int, tracking_uri: str | None, registry_uri: str | None, as_json: bool
) -> None:
    """Show what TARGET was made from: data, runs, models, prompts."""
    from mlflow_plugins_pack.lineage.query import api

    found = api.upstream(target, depth=depth, tracking_uri=tracking_uri, registry_uri=registry_uri)
    print_json(found.to_json()) if as_json else print_network(found)


@click.command()
@click.argument("target")
@depth_option
@server_options
@json_option
def downstream(
    target: str, depth: int, tracking_uri: str | None, registry_uri: str | None, as_json: bool
) -> None:
    """Show what came of TARGET: runs, files, models, versions, aliases."""
    from mlflow_plugins_pack.lineage.query import api

    found = api.downstream(
        target, depth=depth, tracking_uri=tracking_uri, registry_uri=registry_uri
    )
    print_json(found.to_json()) if as_json else print_network(found)


@click.command("used-by")
@click.argument("target")
@server_options
@json_option
def used_by(target: str, tracking_uri: str | None, registry_uri: str | None, as_json: bool) -> None:
    """List the runs that read or loaded TARGET, and their models.

    Of a local file, those are found that read what is in it now, wherever they read it, and those
    that read the file when something else was in it.
    """
    from mlflow_plugins_pack.lineage.document.graph import shown_uri
    from mlflow_plugins_pack.lineage.query import api

    found = api.used_by(target, tracking_uri=tracking_uri, registry_uri=registry_uri)
    if as_json:
        print_json(found.to_json())
        return
    rows = [
        {
            "run": use.run,
            "name": use.name,
            "started": local_time(use.started),
            "status": use.status,
            "read from": shown_uri(use.uri),
            "digest": short(use.digest),
            "size": size(use.size),
            "models": ", ".join(use.models),
            "notes": ", ".join(
                text
                for text, holds in (
                    ("the content differs now", use.differs),
                    ("changed while the run went on", use.changed),
                    ("incomplete record", use.lacks),
                )
                if holds
            ),
        }
        for use in found.uses
    ]
    if rows:
        print_rows(rows, list(rows[0]), as_json=False)
    for note in found.notes:
        echo(note)
    echo(f"Used by {found.summary}." if rows else "No run read it.")


@click.command()
@click.argument("target")
@depth_option
@server_options
@json_option
def affected(
    target: str, depth: int, tracking_uri: str | None, registry_uri: str | None, as_json: bool
) -> None:
    """List the models and aliases that stand on TARGET, directly or through other runs."""
    from mlflow_plugins_pack.lineage.query import api

    found = api.affected(target, depth=depth, tracking_uri=tracking_uri, registry_uri=registry_uri)
    if as_json:
        print_json(found.to_json())
        return
    rows = [
        {
            "model": model.uri,
            "aliases": ", ".join(f"@{alias}" for alias in model.aliases),
            "made": local_time(model.made),
            "run": model.run,
            "name": model.run_name,
            "runs between": max(0, len(model.through) - 1),
            "notes": ", ".join(
                text
                for text, holds in (
                    ("stands on what the file was before", model.differs),
                    ("incomplete record", model.lacks),
                    (model.stage, model.stage),
                )
                if holds and text
            ),
        }
        for model in found.models
    ]
    if rows:
        print_rows(rows, list(rows[0]), as_json=False)
    for note in found.notes:
        echo(note)
    echo(f"Affected: {found.summary}.")
