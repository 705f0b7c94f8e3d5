"""``lineage diff`` and ``verify``: what differs between two runs, and between a run and today."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlflow_plugins_pack.cli.lineage.options import depth_option, server_options
from mlflow_plugins_pack.cli.lineage.printing import content, named, size
from mlflow_plugins_pack.cli.output import echo, json_option, print_json, print_rows

if TYPE_CHECKING:
    from mlflow_plugins_pack.lineage.query.compare import Difference, RunFacts
    from mlflow_plugins_pack.lineage.query.difference import Step


@click.command()
@click.argument("first")
@click.argument("second")
@depth_option
@server_options
@json_option
def diff(
    first: str,
    second: str,
    depth: int,
    tracking_uri: str | None,
    registry_uri: str | None,
    as_json: bool,
) -> None:
    """Compare the runs or models FIRST and SECOND; exit code 1 if anything differs.

    Data, parameters, metrics, code and packages are compared, then those of the runs that made
    what differs, and so on back to the sources.
    """
    from mlflow_plugins_pack.lineage.query import api

    found = api.diff(
        first, second, depth=depth, tracking_uri=tracking_uri, registry_uri=registry_uri
    )
    if as_json:
        print_json(found.to_json())
    else:
        for step in found.steps:
            _print_step(step)
        for note in found.notes:
            echo(note)
        echo(found.summary)
    if found:
        raise click.exceptions.Exit(1)


def _print_step(step: Step) -> None:
    found = step.difference
    names = f"{_run(found.first)} -> {_run(found.second)}"
    echo(f"{step.made} was made by {names}" if step.made else names)
    echo("  Both read the same bytes." if found.same_data else "  They read different bytes.")
    if found.same:
        echo(f"  {found.same} inputs are alike.")
    for sign, entries in (("-", found.only_first), ("+", found.only_second)):
        for entry in entries:
            echo(f"  {sign} {named(entry)}")
    for before, after in found.changed:
        echo(f"  ~ {named(before)} -> {content(after)} {size(after.size)}".rstrip())
    for before, after in found.moved:
        echo(f"  = {named(before)} was read from {named(after)}")
    for title, pairs in (
        ("parameter", found.parameters),
        ("metric", found.metrics),
        ("package", found.packages),
        ("", found.facts),
    ):
        for key, (before, after) in pairs.items():
            name = f"{title} {key}".strip()
            echo(f"  {name}: {_value(before)} -> {_value(after)}")
    _print_code(found)
    echo("")


def _print_code(found: Difference) -> None:
    for line in found.code:
        echo(f"  | {line}")
    if found.code_note:
        echo(f"  The code differs; {found.code_note}.")


def _run(run: RunFacts) -> str:
    return f"{run.name} {run.run_id}".strip()


def _value(value: object) -> str:
    return "not set" if value is None else str(value)


@click.command()
@click.argument("target")
@server_options
@json_option
def verify(target: str, tracking_uri: str | None, registry_uri: str | None, as_json: bool) -> None:
    """Check that what TARGET, a run or model, read is still the same; exit code 1 if not."""
    from mlflow_plugins_pack.lineage.document.graph import shown_uri
    from mlflow_plugins_pack.lineage.query import api
    from mlflow_plugins_pack.lineage.query.verify import CHANGED, MISSING

    checks = api.verify(target, tracking_uri=tracking_uri, registry_uri=registry_uri)
    if as_json:
        print_json([check.to_json() for check in checks])
    elif not checks:
        echo("The run read nothing.")
    else:
        rows = [
            {
                "where": shown_uri(check.entry.uri),
                "digest": content(check.entry),
                "result": check.result,
                "reason": check.reason,
            }
            for check in checks
        ]
        print_rows(rows, list(rows[0]), as_json=False)
    if any(check.result in (CHANGED, MISSING) for check in checks):
        raise click.exceptions.Exit(1)
