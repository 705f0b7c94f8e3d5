"""Prints the answers to questions about lineage for people."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlflow_plugins_pack.cli.output import echo, human_bytes, print_rows

if TYPE_CHECKING:
    from mlflow_plugins_pack.lineage.document.graph import Entry
    from mlflow_plugins_pack.lineage.document.network import Network, Node

_DIGITS = 16


def local_time(milliseconds: int | None) -> str:
    """Return a time in this machine's zone, to the second; empty if it is not known."""
    if milliseconds is None:
        return ""
    moment = datetime.fromtimestamp(milliseconds / 1000).astimezone()
    return moment.isoformat(sep=" ", timespec="seconds")


def short(digest: str | None) -> str:
    """Return the start of a digest, which can be asked about."""
    return digest[: len("sha256:") + _DIGITS] if digest else ""


def size(count: int | None) -> str:
    """Return a number of bytes; empty if it is not known."""
    return "" if count is None else human_bytes(count)


def content(entry: Entry) -> str:
    """Return an entry's content: its digest, or else its version."""
    return short(entry.digest) or (f"version {entry.version}" if entry.version else "")


def named(entry: Entry) -> str:
    """Return an entry's place and content."""
    from mlflow_plugins_pack.lineage.document.graph import shown_uri

    parts = (shown_uri(entry.uri), content(entry), size(entry.size))
    return " ".join(part for part in parts if part)


def print_network(network: Network) -> None:
    """Print what an answer has, each thing after all that flows into it, and a summary."""
    from mlflow_plugins_pack.lineage.document import wording

    ordered = [node for column in network.layers() for node in column]
    numbers = {node.key: number for number, node in enumerate(ordered, 1)}
    if ordered:
        columns = ["#", "what", "name", "id", "time", "digest", "size", "from", "notes"]
        print_rows([_row(node, numbers, network) for node in ordered], columns, as_json=False)
    for note in network.notes:
        echo(note)
    if incomplete := wording.incompleteness(network):
        echo(incomplete)
    echo(f"Found: {wording.summary(network)}.")


def _row(node: Node, numbers: dict[str, int], network: Network) -> dict[str, Any]:
    from mlflow_plugins_pack.lineage.document.graph import shown_uri
    from mlflow_plugins_pack.lineage.document.network import DATA, RUN

    sources = sorted({numbers[e.source] for e in network.edges if e.target == node.key})
    notes = [
        text
        for text, holds in (
            ("asked about", node.key in network.targets),
            ("the content differs now", node.differs),
            ("incomplete record", node.kind == RUN and node.lacks),
            (node.status, node.status not in (None, "FINISHED")),
            (f"version {node.version}", node.version),
            (node.stage, node.stage),
        )
        if holds
    ]
    return {
        "#": numbers[node.key],
        "what": node.kind,
        "name": node.label,
        "id": shown_uri(node.uri) if node.kind == DATA and node.uri else node.key,
        "time": local_time(node.time),
        "digest": short(node.digest) if node.kind == DATA else "",
        "size": size(node.size),
        "from": ", ".join(map(str, sources)),
        "notes": ", ".join(str(note) for note in notes),
    }
