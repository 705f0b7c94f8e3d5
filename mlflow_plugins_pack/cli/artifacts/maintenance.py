"""``artifacts init``, ``fsck``, ``gc`` and ``rekey``: create a store and maintain it."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.cli.artifacts.opening import (
    location_of,
    open_store,
    progress,
    workers_of,
    workers_options,
)
from mlflow_plugins_pack.cli.output import echo, human_bytes, json_option, print_json, print_rows
from mlflow_plugins_pack.cli.parameters import DURATION


@click.command()
@click.argument("uri")
@click.option("--encrypt", is_flag=True, help="Encrypt it, under MLFLOW_PACK_ARTIFACT_KEYS.")
@click.option(
    "--restore",
    is_flag=True,
    help="Write the format file, .cas/format.json, of an existing store again: it is missing or "
    "damaged.",
)
@json_option
def init(uri: str, encrypt: bool, restore: bool, as_json: bool) -> None:
    """Make a store at URI.

    Stores are also made by themselves on the first write; this says beforehand whether the
    storage can be reached and written, and keeps several folders in one store. Below an existing
    store no other is made.
    """
    from mlflow_plugins_pack.artifacts.store.opening import create_store, find_store

    location = location_of(uri)
    if restore:
        from mlflow_plugins_pack.artifacts.maintenance.restore import restore_format

        restored = restore_format(location)
        if as_json:
            print_json({"uri": restored.location.uri, "store_id": restored.format.store_id})
        else:
            echo(f"Wrote the format file of the store {restored.location.uri} again")
        return
    existing = find_store(location)
    if existing is not None and existing.location.path != location.path:
        raise click.ClickException(
            f"{location.uri} is inside the store {existing.location.uri}; runs there use that "
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
    conditional = store.creates_exclusively()
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
    echo(
        f"{'Made' if existing is None else 'There already is'} "
        f"{'an encrypted' if is_encrypted else 'a'} store {store.location.uri}"
    )
    if not conditional:
        echo(
            "Note: this storage ignores conditional writes. Each call takes two more requests, "
            "and do not run two `artifacts init` at once."
            if not store.format.is_numbered
            else "Warning: this storage ignores conditional writes, and the store was made where "
            "they work. Two writers of one run may overwrite each other's calls. Copy the store "
            "into a new one with `mlflow-pack artifacts migrate` before anything is logged.",
            err=True,
        )


@click.command()
@click.argument("uri")
@click.option("--read-data", is_flag=True, help="Also read every stored byte and check its hash.")
@click.option(
    "--repair-index",
    is_flag=True,
    help="Rebuild the index from the packs; damaged copies are forgotten, so that logging the "
    "file again stores it again.",
)
@click.option(
    "--repair-manifests",
    is_flag=True,
    help="Take damaged and missing manifest segments out, so that their runs can be used again; "
    "what they held is lost, and is said.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="With --read-data: do not read again what a check that was interrupted on this host has "
    "found good.",
)
@workers_options
@json_option
def fsck(
    uri: str,
    read_data: bool,
    repair_index: bool,
    repair_manifests: bool,
    resume: bool,
    processes: int | None,
    dask: str | None,
    as_json: bool,
) -> None:
    """Check that all artifacts can be read; exit code 1 if one can not."""
    from mlflow_plugins_pack.artifacts.maintenance.fsck import check_store

    report = check_store(
        open_store(uri),
        read_data=read_data,
        repair_index=repair_index,
        repair_manifests=repair_manifests,
        workers=workers_of(processes, dask),
        resume=resume,
        progress=progress(as_json=as_json),
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
                "manifests_repaired": report.manifests_repaired,
            }
        )
    else:
        if problems:
            print_rows(problems, ["kind", "where", "what"], as_json=False)
        echo(
            f"{report.files} files, {report.chunks} chunks in {report.packs} packs: "
            f"{len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'}"
            + ("; the index was rebuilt" if report.index_repaired else "")
            + (
                f"; {report.manifests_repaired} manifests were repaired"
                if report.manifests_repaired
                else ""
            )
        )
    if report.lost:
        sys.exit(1)


@click.command()
@click.argument("uri")
@click.option(
    "--grace",
    type=DURATION,
    default="24h",
    show_default=True,
    help="Minimum age of unneeded data, and time between condemning and removing it.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@workers_options
@json_option
def gc(
    uri: str,
    grace: int,
    dry_run: bool,
    processes: int | None,
    dask: str | None,
    as_json: bool,
) -> None:
    """Free the space of deleted artifacts; meant to be run every day.

    One run condemns what no run, model or trace needs any more; the first run after the grace
    period removes it. Packs of which less than half is needed are rewritten, and many small
    ones merged. Logging and reading go on meanwhile, on any number of machines. Exit code 1
    if something was kept because it is needed and cannot be read.
    """
    from mlflow_plugins_pack.artifacts.maintenance.gc import collect

    done = collect(
        open_store(uri),
        grace,
        dry_run=dry_run,
        workers=workers_of(processes, dask),
        progress=progress(as_json=as_json),
    )
    if as_json:
        print_json({"dry_run": dry_run, **asdict(done)})
    else:
        echo(
            f"{'Would remove' if dry_run else 'Removed'}: {done.removed_packs} packs, "
            f"{human_bytes(done.removed_bytes)}, and {done.removed_segments} manifest segments; "
            f"{human_bytes(done.copied_bytes)} were still needed and copied.",
            f"{'Would condemn' if dry_run else 'Condemned'}: {done.condemned_packs} packs, "
            f"{human_bytes(done.condemned_bytes)}; {done.waiting_packs} condemned earlier wait for "
            f"the end of the grace period.",
        )
        for where, why in done.kept.items():
            echo(f"Kept {where}: {why}", err=True)
    if done.kept:
        sys.exit(1)


@click.command()
@click.argument("uri")
@click.option("--keep-old", is_flag=True, help="Let the keys that opened it before still open it.")
@click.option(
    "--reencrypt",
    is_flag=True,
    help="Also encrypt all stored data again, under a new data key; run `artifacts gc` then.",
)
@workers_options
@json_option
def rekey(
    uri: str,
    keep_old: bool,
    reencrypt: bool,
    processes: int | None,
    dask: str | None,
    as_json: bool,
) -> None:
    """Let the newest of MLFLOW_PACK_ARTIFACT_KEYS open the encrypted store at URI.

    Give the new key first and the old one after it, here and on all hosts; run this; then take
    the old key away. No data is rewritten for that, only the store's keyring. Logging and
    reading go on meanwhile. If it is interrupted, run it again.
    """
    from mlflow_plugins_pack.artifacts.maintenance.rekey import rekey as change_keys

    done = change_keys(
        open_store(uri),
        keep_old=keep_old,
        reencrypt=reencrypt,
        workers=workers_of(processes, dask),
        progress=progress(as_json=as_json),
    )
    if as_json:
        print_json(asdict(done))
        return
    echo(f"The key {done.key} opens the store.")
    if done.removed_keys:
        echo(f"Taken away: {', '.join(done.removed_keys)}.")
    if reencrypt:
        echo(
            f"Data key {done.data_keys} is in use. Encrypted again: {done.rewritten_objects} "
            f"manifest and index objects. Condemned: {done.condemned_packs} packs, "
            f"{human_bytes(done.condemned_bytes)}; `mlflow-pack artifacts gc` rewrites what is "
            f"needed of them, once its grace period is over."
        )
