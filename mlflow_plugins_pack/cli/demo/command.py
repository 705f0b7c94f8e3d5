"""``mlflow-pack demo``: options, the working folder, and the report of a failed step."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Work in this new or empty folder and keep it; default a temporary one.",
)
@click.option("--keep-serving", is_flag=True, help="Leave the server up afterwards, until Ctrl-C.")
@click.option(
    "--open",
    "in_browser",
    is_flag=True,
    help="Open the page of the request that waits; with --keep-serving.",
)
def demo(folder: Path | None, keep_serving: bool, in_browser: bool) -> None:
    """Show a whole promotion on this machine: stock server, SQLite, local disk, loopback.

    Starts a stock MLflow server with all four plugins, trains on real data, is refused a promotion,
    has it approved, promotes, predicts, and detects tampering. Ends with 0 only if every step did
    what it says.
    """
    # Imported here: `mlflow-pack --help` need not wait for rich.
    from rich.console import Console

    from mlflow_plugins_pack.cli.demo.people import RefusedError
    from mlflow_plugins_pack.cli.demo.site import PEOPLE, DemoError, Site
    from mlflow_plugins_pack.cli.demo.story import MODEL, run_story

    if in_browser and not keep_serving:
        raise click.UsageError("--open needs --keep-serving.")

    # Output that goes into a file or a pipe gets the same width everywhere.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    with _working_folder(folder) as place:
        site = Site(place)
        try:
            seconds = run_story(site, console)
            console.print(f"\nEvery step did what it says, in {seconds:.0f} s.")
            if keep_serving:
                console.print(f"\nThe server is up at {site.url} - Ctrl-C ends it. Sign in as:")
                for name, duty in PEOPLE.items():
                    console.print(f"  {name:<7} {site.password_of(name)}  ({duty})")
                page = site.file_request(MODEL, 2, "prod")
                console.print(f"\nVersion 2 waits for approval; bob and carol may vote: {page}")
                if in_browser:
                    click.launch(page)
                site.wait_until_interrupted()
        except (DemoError, RefusedError) as exc:
            console.print(f"\nThe demo failed: {exc}", style="red", markup=False)
            if folder is not None:
                console.print(f"Its files are in {place}", markup=False)
            raise click.exceptions.Exit(1) from exc
        finally:
            site.stop()


@contextlib.contextmanager
def _working_folder(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        # Not TemporaryDirectory: a file that appears while the server ends must not be an error.
        place = Path(tempfile.mkdtemp(prefix="mlflow-pack-demo-")).resolve()
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
        return
    if folder.exists() and any(folder.iterdir()):
        raise click.UsageError(
            f"The folder {folder} is not empty; nothing was done. Name a new or empty one."
        )
    folder.mkdir(parents=True, exist_ok=True)
    yield folder.resolve()
