"""``mlflow-pack artifacts``: look into artifact stores and look after them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.cli.output import json_option, print_json, print_rows
from mlflow_plugins_pack.settings import parse_duration

if TYPE_CHECKING:
    from mlflow_plugins_pack.artifacts.maintenance.usage import Usage
    from mlflow_plugins_pack.artifacts.store.store import Store

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@click.group()
def artifacts() -> None:
    """Look after artifact stores; URI is cas-file:..., cas-s3://... or cas-wasbs://...."""


@artifacts.command()
@click.argument("uri")
@click.option("--encrypt", is_flag=True, help="Encrypt it, under MLFLOW_PACK_ARTIFACT_KEYS.")
@json_option
def init(uri: str, encrypt: bool, as_json: bool) -> None:
    """Make a store at URI.

    Stores are also made by themselves on the first write; this says beforehand whether the
    storage can be reached and written, and keeps several folders in one store. Below an existing
    store no other is made.
    """
    from mlflow_plugins_pack.artifacts.store.opening import (
        create_store,
        find_store,
        honours_conditions,
    )

    location = _location(uri)
    existing = find_store(location)
    if existing is not None and existing.location.path != location.path:
        raise click.ClickException(
            f"{location.uri} lies inside the store {existing.location.uri}; runs there use that "
            f"store. Nothing was made."
        )
    encrypt = encrypt or settings.ARTIFACT_ENCRYPT.get()
    if existing is not None and encrypt and not existing.format.is_encrypted:
        raise click.ClickException(
            f"There already is a store {location.uri}, and it is not encrypted. Nothing was "
            f"changed. Make an encrypted one elsewhere and copy this one into it with "
            f"`mlflow-pack artifacts migrate`."
        )
    store = existing or create_store(location, is_encrypted=encrypt)
    is_encrypted = store.sealer.is_secret
    conditional = honours_conditions(store)
    if as_json:
        print_json(
            {
                "uri": store.location.uri,
                "store_id": store.format.store_id,
                "created": existing is None,
                "encrypted": is_encrypted,
                "conditional_writes": conditional,
            }
        )
        return
    click.echo(
        f"{'Made' if existing is None else 'There already is'} "
        f"{'an encrypted' if is_encrypted else 'a'} store {store.location.uri}"
    )
    if not conditional:
        click.echo(
            "Note: this storage ignores conditional writes. The store works on unique names "
            "alone; do not run two `artifacts init` at once.",
            err=True,
        )


@artifacts.command()
@click.argument("uri")
@click.argument("path", required=False)
@json_option
def ls(uri: str, path: str | None, as_json: bool) -> None:
    """List what is directly in the folder PATH of URI."""
    from mlflow_plugins_pack.artifacts import repository

    location = _location(uri)
    _open(uri)
    listed = repository.list_files(location, path)
    if not listed and path:
        repository.content_digest(location, path)
    rows: list[dict[str, Any]] = [
        {"path": f.path + ("/" if f.is_dir and not as_json else ""), "size": f.file_size}
        | ({"is_dir": f.is_dir} if as_json else {})
        for f in listed
    ]
    print_rows(rows, ["size", "path"], as_json=as_json)


@artifacts.command()
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
    """Say how many bytes runs hold, and how many are stored for them.

    STORED counts equal chunks once within a line; the total counts them once in all, so that it
    is less than the sum of its lines where runs share bytes.
    """
    from mlflow_plugins_pack.artifacts.format import object_keys
    from mlflow_plugins_pack.artifacts.maintenance.usage import (
        Usage,
        usage_by_experiment,
        usage_by_scope,
    )

    store = _open(uri)
    inside = object_keys.relative_to(_location(uri).path, store.location.path) or ""
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
        row["logical"] = _human(row["logical_bytes"])
        row["stored"] = _human(row["stored_bytes"])
    print_rows(rows, ["path", "files", "logical", "stored"], as_json=False)


@artifacts.command()
@click.argument("uri")
@json_option
def stats(uri: str, as_json: bool) -> None:
    """Count a store's objects and say what deduplication saves."""
    from mlflow_plugins_pack.artifacts.maintenance.usage import statistics

    result = statistics(_open(uri))
    values = {**asdict(result), "stored_bytes": result.stored_bytes, "ratio": result.ratio}
    if as_json:
        print_json(values)
        return
    rows = [
        {"what": name.replace("_", " "), "value": _shown(name, value)}
        for name, value in values.items()
    ]
    print_rows(rows, ["what", "value"], as_json=False)


@artifacts.command()
@click.argument("uri")
@click.option("--read-data", is_flag=True, help="Also read every stored byte and check its hash.")
@click.option(
    "--repair-index",
    is_flag=True,
    help="Write the index anew from the packs; damaged copies are forgotten, so that logging the "
    "file again stores it again.",
)
@json_option
def fsck(uri: str, read_data: bool, repair_index: bool, as_json: bool) -> None:
    """Check that all artifacts can be read; exit code 1 if one can not."""
    from mlflow_plugins_pack.artifacts.maintenance.fsck import check_store

    report = check_store(
        _open(uri), read_data=read_data, repair_index=repair_index, progress=_progress(as_json)
    )
    problems = [asdict(problem) for problem in report.problems]
    if as_json:
        print_json(
            {
                "problems": problems,
                "packs": report.packs,
                "chunks": report.chunks,
                "files": report.files,
                "bytes_read": report.bytes_read,
                "index_repaired": report.index_repaired,
            }
        )
    else:
        if problems:
            print_rows(problems, ["kind", "where", "what"], as_json=False)
        click.echo(
            f"{report.files} files, {report.chunks} chunks in {report.packs} packs: "
            f"{len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'}"
            + ("; the index was written anew" if report.index_repaired else "")
        )
    if report.lost:
        sys.exit(1)


class _Duration(click.ParamType[int]):
    """A duration such as 24h, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Read the text."""
        try:
            return value if isinstance(value, int) else parse_duration(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


@artifacts.command()
@click.argument("uri")
@click.option(
    "--grace",
    type=_Duration(),
    default="24h",
    show_default=True,
    help="How old what nobody needs must be, and how long it stays condemned before it goes.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@json_option
def gc(uri: str, grace: int, dry_run: bool, as_json: bool) -> None:
    """Free the space of deleted artifacts; meant to be run every day.

    One run condemns what no run, model or trace needs any more; the first run after the grace
    period removes it. Packs of which less than half is needed are written anew, and many small
    ones put together. Logging and reading go on meanwhile, on any number of machines. Exit code 1
    if something was kept because it is needed and cannot be read.
    """
    from mlflow_plugins_pack.artifacts.maintenance.gc import collect

    done = collect(_open(uri), grace, dry_run=dry_run, progress=_progress(as_json))
    if as_json:
        print_json({"dry_run": dry_run, **asdict(done)})
    else:
        click.echo(
            f"{'Would remove' if dry_run else 'Removed'}: {done.removed_packs} packs, "
            f"{_human(done.removed_bytes)}, and {done.removed_segments} manifest segments; "
            f"{_human(done.copied_bytes)} were still needed and copied.\n"
            f"{'Would condemn' if dry_run else 'Condemned'}: {done.condemned_packs} packs, "
            f"{_human(done.condemned_bytes)}; {done.waiting_packs} were condemned before and wait."
        )
        for where, why in done.kept.items():
            click.echo(f"Kept {where}: {why}", err=True)
    if done.kept:
        sys.exit(1)


@artifacts.command()
@click.argument("uri")
@click.option("--keep-old", is_flag=True, help="Let the keys that opened it before still open it.")
@click.option(
    "--reencrypt",
    is_flag=True,
    help="Also encrypt all that is stored anew, under a new data key; needs `artifacts gc` after.",
)
@json_option
def rekey(uri: str, keep_old: bool, reencrypt: bool, as_json: bool) -> None:
    """Let the newest of MLFLOW_PACK_ARTIFACT_KEYS open the encrypted store at URI.

    Give the new key first and the old one after it, here and on all hosts; run this; then take
    the old key away. No data is written anew for that: only the store's keyring is. Logging and
    reading go on meanwhile. If it is interrupted, run it again.
    """
    from mlflow_plugins_pack.artifacts.maintenance.rekey import rekey as change_keys

    done = change_keys(
        _open(uri), keep_old=keep_old, reencrypt=reencrypt, progress=_progress(as_json)
    )
    if as_json:
        print_json(asdict(done))
        return
    click.echo(f"The key {done.key} opens the store.")
    if done.removed_keys:
        click.echo(f"Taken away: {', '.join(done.removed_keys)}.")
    if reencrypt:
        click.echo(
            f"Data key {done.data_keys} is in use. Sealed anew: {done.rewritten_objects} manifest "
            f"and index objects. Condemned: {done.condemned_packs} packs, "
            f"{_human(done.condemned_bytes)}; `mlflow-pack artifacts gc` writes anew what is "
            f"needed of them, once its grace period is over."
        )


def _copy_command(name: str, help_text: str, check: Callable[[str, str], str | None]) -> None:
    @artifacts.command(name, help=help_text)
    @click.argument("source")
    @click.argument("target")
    @click.option(
        "--checksum",
        is_flag=True,
        help="Compare files that are there already by their bytes, not only by their size.",
    )
    @json_option
    def copy(source: str, target: str, checksum: bool, as_json: bool) -> None:
        from mlflow.utils.file_utils import ArtifactProgressBar

        from mlflow_plugins_pack.artifacts.maintenance.migrate import copy_artifacts

        if problem := check(source, target):
            raise click.UsageError(f"{problem} Nothing was copied.")
        bar = ArtifactProgressBar.files(desc="Copying artifacts", total=0)

        def begin(count: int) -> None:
            if bar.pbar is not None:
                bar.pbar.reset(total=count)

        with bar:
            done = copy_artifacts(
                source, target, checksum=checksum, begin=begin, file_done=bar.update
            )
        if as_json:
            print_json(asdict(done))
        else:
            click.echo(
                f"Copied and read back: {done.files} files, {_human(done.bytes)}; "
                f"{done.skipped} were there already; {len(done.failed)} failed."
            )
            for path, why in done.failed.items():
                click.echo(f"{path}: {why}", err=True)
        if done.failed:
            sys.exit(1)


def _must_be_ours(which: str, uri: str) -> str | None:
    from mlflow_plugins_pack.artifacts.maintenance.migrate import is_ours

    return None if is_ours(uri) else f"The {which} {uri!r} must be a cas- URI."


_RESUMES = (
    "A copy that was interrupted goes on where it stopped. Every file is read back from TARGET "
    "and compared before it counts. Exit code 1 if one failed."
)
_copy_command(
    "export",
    f"Copy all artifacts of the store SOURCE to the stock artifact URI TARGET.\n\n{_RESUMES}",
    lambda source, _: _must_be_ours("SOURCE", source),
)
_copy_command(
    "import",
    f"Copy all artifacts of the stock artifact URI SOURCE into the store TARGET.\n\n{_RESUMES}",
    lambda _, target: _must_be_ours("TARGET", target),
)
_copy_command(
    "migrate",
    f"Copy all artifacts from any artifact URI to any other, such as between clouds.\n\n{_RESUMES}",
    lambda _source, _target: None,
)


def _progress(as_json: bool) -> Callable[[str], None]:
    def tell(doing: str) -> None:
        if not as_json and sys.stderr.isatty():
            click.echo(f"... {doing}", err=True)

    return tell


def _location(uri: str) -> Any:
    from mlflow_plugins_pack.artifacts.uri.location import parse_location

    return parse_location(uri)


def _open(uri: str) -> Store:
    from mlflow_plugins_pack.artifacts.store.opening import find_store

    store = find_store(_location(uri))
    if store is None:
        raise click.ClickException(
            f"There is no artifact store at {uri}. Nothing was made. Check the URI, or make one "
            f"with `mlflow-pack artifacts init`."
        )
    return store


def _human(count: int) -> str:
    value = float(count)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.endswith("_bytes"):
        return f"{_human(value)} ({value})"
    return str(value)
