"""Everything that commands print: lines and tables for people, JSON for scripts.

Names, comments and answers of servers are other people's text. None of its characters acts on a
terminal, and none of it passes for a line of ours: `echo` takes one argument a line and spells out
the rest.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def json_option(command: F) -> F:
    """Add ``--json`` to a command, as the parameter ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")(command)


def tracking_options(command: F) -> F:
    """Add ``--tracking-uri``, which reads MLFLOW_TRACKING_URI as stock does."""
    return click.option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        metavar="URI",
        help="Tracking server or database; MLFLOW_TRACKING_URI if not given.",
    )(command)


# Controls, invisible format characters such as changes of direction, line and paragraph separators,
# halves of characters, and those that only a private font knows.
_SPELLED_OUT = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Co"})


def escaped(text: str) -> str:
    r"""Return text in which each character that is not visible is spelled out, as ``\x1b``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escape(character) if unicodedata.category(character) in _SPELLED_OUT else character
        for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def quoted(text: str) -> str:
    """Return what a user wrote as one line in double quotes, in which it cannot end them."""
    return '"' + escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def echo(*lines: str, lead: str = "", err: bool = False, **style: Any) -> None:
    """Print lines for people.

    Args:
        lines: One argument per line, so that a line break inside is not one of ours.
        lead: Text of ours before the first line, which may be styled.
        err: Print to standard error.
        style: As `click.style` takes it.
    """
    shown = "\n".join(escaped(line) for line in lines)
    click.echo(lead + (click.style(shown, **style) if style else shown), err=err)


def print_json(value: Any) -> None:
    """Write one JSON document to standard output."""
    is_unicode = "utf" in (sys.stdout.encoding or "utf-8").lower()
    text = json.dumps(value, indent=2, sort_keys=False, default=str, ensure_ascii=not is_unicode)
    # JSON itself escapes the lower controls; the others, in its own way.
    click.echo("\n".join(map(_json_escaped, text.split("\n"))))


def _json_escaped(text: str) -> str:
    if text.isascii():
        return text
    return "".join(
        json.dumps(character)[1:-1]
        if unicodedata.category(character) in _SPELLED_OUT
        else character
        for character in text
    )


def print_rows(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    *,
    as_json: bool,
    if_none: str | None = None,
) -> None:
    """Print a listing.

    Args:
        rows: One mapping per row; with ``as_json`` printed whole, else only ``columns``.
        columns: Keys to show, in order; the keys are the headings.
        as_json: Print a JSON list instead of a table.
        if_none: A sentence in place of an empty table.
    """
    listed = list(rows)
    if as_json:
        print_json([dict(row) for row in listed])
        return
    if not listed and if_none is not None:
        echo(if_none)
        return
    # Imported here: rich takes 30 ms that a --json caller need not wait for.
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in listed:
        table.add_row(*("" if row.get(c) is None else escaped(str(row.get(c))) for c in columns))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        # What reads a pipe wants whole words: a folded path cannot be searched for.
        boundless = console.options.update(max_width=1_000_000)
        console.width = max(console.width, console.measure(table, options=boundless).maximum)
    console.print(table)


def human_bytes(count: int) -> str:
    """Return a number of bytes with a binary unit."""
    value = float(count)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def describe_seconds(seconds: float) -> str:
    """Return a span of time in its largest unit of which there are at least two."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} seconds"
