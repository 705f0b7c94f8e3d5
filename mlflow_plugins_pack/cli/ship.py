"""``ship``: take a model version from one server to another."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from mlflow_plugins_pack.cli.output import (
    echo,
    human_bytes,
    json_option,
    print_json,
    tracking_options,
)


@click.command()
@click.argument("model")
@click.option(
    "--to",
    "target",
    required=True,
    metavar="PROFILE",
    help="Sign-in profile of the server it goes to, or the address of one without sign-in.",
)
@click.option("--workspace", metavar="NAME", help="Workspace it comes from.")
@click.option("--to-workspace", metavar="NAME", help="Workspace it goes to.")
@click.option("--as", "name", metavar="NAME", help="Name of the model there; the same by default.")
@click.option("--experiment", metavar="NAME", help="Experiment of the run there; of the same name.")
@click.option(
    "--run-artifacts", is_flag=True, help="Take all artifacts of the run along, not only lineage."
)
@click.option(
    "--storage",
    multiple=True,
    metavar="URI",
    help="Root of storage that the servers may name and that is opened from here, such as "
    "cas-s3://bucket/mlflow. May be repeated; none is needed where servers hand artifacts on.",
)
@click.option(
    "--sign",
    "key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="KEY",
    help="Ed25519 private key in PEM that signs what the source says of its approvals; the policy "
    "of the target says under attested_by whether that counts.",
)
@json_option
@tracking_options
def ship(
    model: str,
    target: str,
    workspace: str | None,
    to_workspace: str | None,
    name: str | None,
    experiment: str | None,
    run_artifacts: bool,
    storage: tuple[str, ...],
    key: Path | None,
    as_json: bool,
    tracking_uri: str | None,
) -> None:
    """Take MODEL from one server to another, with its run, logged model and files.

    MODEL is models:/NAME/VERSION or models:/NAME@ALIAS. Files are compared at both ends before the
    version is registered; aliases and stages are not set. An interrupted shipment is completed by
    the same command; if all is there already, nothing is done. Exit code 1 if it was refused.
    """
    from mlflow_plugins_pack.shipping import journey
    from mlflow_plugins_pack.shipping.ends import End, end_of
    from mlflow_plugins_pack.shipping.signing import signing_key

    if not tracking_uri:
        raise click.UsageError("From which server? Give --tracking-uri.")
    done = journey.ship(
        End(tracking_uri, workspace, storage),
        end_of(target, to_workspace, storage),
        model,
        journey.Options(name, experiment, run_artifacts, signing_key(key) if key else None),
        (lambda _: None) if as_json else (lambda step: echo(f"... {step}", err=True)),
    )
    if as_json:
        fields = asdict(done)
        print_json(fields | {"left": fields["left"]["lines"]})
        return
    if done.is_new:
        moved = done.moved
        echo(
            f"{done.source} is {done.target} at the target: {moved.files} files, "
            f"{human_bytes(moved.bytes)}, of which {human_bytes(moved.moved_bytes)} were moved; "
            f"{done.points} points of metrics.",
            f"Its files are equal at both ends, {done.digest}.",
        )
    elif done.is_attested_anew:
        echo(f"{done.source} is {done.target} at the target already; its attestation was renewed.")
    else:
        echo(f"Nothing to do: {done.source} is {done.target} at the target already.")
    for approved, people in (done.attested or {}).items():
        echo(f"Attested: approved for {approved} by {', '.join(people) or 'no one'}.")
    for line in done.left.lines:
        echo(f"Not taken along: {line}.")
