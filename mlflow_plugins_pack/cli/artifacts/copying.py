"""``artifacts export``, ``import`` and ``migrate``: verified copies between artifact URIs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict

import click

from mlflow_plugins_pack.cli.artifacts.opening import workers_of, workers_options
from mlflow_plugins_pack.cli.output import echo, human_bytes, json_option, print_json


def _copy_command(
    name: str, help_text: str, check: Callable[[str, str], str | None]
) -> click.Command:
    @click.command(name, help=help_text)
    @click.argument("source")
    @click.argument("target")
    @click.option(
        "--checksum",
        is_flag=True,
        help="Compare files that are there already by their bytes, not only by their size.",
    )
    @click.option(
        "--rewrite-locations",
        "databases",
        multiple=True,
        metavar="DATABASE",
        help="If all was copied, replace SOURCE by TARGET in the locations of experiments, runs, "
        "models, versions and traces of this MLflow database, all or none; implies --checksum. "
        "Stop the server before. May be repeated, for a registry's own database.",
    )
    @workers_options
    @json_option
    def copy(
        source: str,
        target: str,
        checksum: bool,
        databases: tuple[str, ...],
        processes: int | None,
        dask: str | None,
        as_json: bool,
    ) -> None:
        from mlflow.utils.file_utils import ArtifactProgressBar
        from mlflow.utils.uri import resolve_uri_if_local

        from mlflow_plugins_pack.artifacts.maintenance.migrate import copy_artifacts

        if problem := check(source, target):
            raise click.UsageError(f"{problem} Nothing was copied.")
        bar = ArtifactProgressBar.files(desc="Copying artifacts", total=0)

        def begin(count: int) -> None:
            if bar.pbar is not None:
                bar.pbar.reset(total=count)

        with bar:
            done = copy_artifacts(
                source,
                target,
                checksum=checksum or bool(databases),
                workers=workers_of(processes, dask),
                begin=begin,
                file_done=bar.update,
            )
        rewritten = {} if done.failed else _rewrite(databases, source, resolve_uri_if_local(target))
        if as_json:
            print_json(asdict(done) | ({"rewritten": rewritten} if databases else {}))
        else:
            echo(
                f"Copied and read back: {done.files} files, {human_bytes(done.bytes)}; "
                f"{done.skipped} were there already; {len(done.failed)} failed."
            )
            for path, why in done.failed.items():
                echo(f"{path}: {why}", err=True)
            for place, count in rewritten.items():
                echo(f"{place}: {count} rewritten.")
            if databases and done.failed:
                echo("No location was rewritten. Correct what failed and repeat the command.")
        if done.failed:
            sys.exit(1)

    return copy


def _rewrite(databases: tuple[str, ...], source: str, target: str) -> dict[str, int]:
    from mlflow_plugins_pack.artifacts.maintenance.locations import rewrite_locations

    rows: Counter[str] = Counter()
    for database in databases:
        done = rewrite_locations(database, source, target)
        rows.update(done.rows)
        if not any(done.rows.values()) and done.others:
            echo(
                f"No location in this database is in {source}. Experiments name "
                f"{', '.join(done.others)}: give the root as it stands there.",
                err=True,
            )
    return dict(rows)


def _must_be_ours(which: str, uri: str) -> str | None:
    from mlflow_plugins_pack.artifacts.maintenance.migrate import is_ours

    return None if is_ours(uri) else f"The {which} {uri!r} must be a cas- URI."


_RESUMES = (
    "A copy that was interrupted goes on where it stopped. Every file is read back from TARGET "
    "and compared before it counts. Exit code 1 if one failed."
)
COPY_COMMANDS = (
    _copy_command(
        "export",
        f"Copy all artifacts of the store SOURCE to the stock artifact URI TARGET.\n\n{_RESUMES}",
        lambda source, _: _must_be_ours("SOURCE", source),
    ),
    _copy_command(
        "import",
        f"Copy all artifacts of the stock artifact URI SOURCE into the store TARGET.\n\n{_RESUMES}",
        lambda _, target: _must_be_ours("TARGET", target),
    ),
    _copy_command(
        "migrate",
        "Copy all artifacts from any artifact URI to any other, such as between clouds.\n\n"
        + _RESUMES,
        lambda _source, _target: None,
    ),
)
