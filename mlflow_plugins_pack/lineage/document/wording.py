"""Sentences about an answer, for the command line and the page; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mlflow_plugins_pack.lineage.document.network import (
    ALIAS,
    DATA,
    MODEL,
    PROMPT,
    RUN,
    VERSION,
    Network,
)

_PLURALS = {
    DATA: ("file or table", "files or tables"),
    PROMPT: ("prompt", "prompts"),
    RUN: ("run", "runs"),
    MODEL: ("logged model", "logged models"),
    VERSION: ("version", "versions"),
}
_NAMED = 5


def summary(network: Network) -> str:
    """Return what an answer has, such as ``3 runs, 5 versions, 1 of them @prod``."""
    counts = network.counts()
    parts = [counted(count, *_PLURALS[kind]) for kind, count in counts.items() if kind in _PLURALS]
    aliases = [node.key.rpartition("@")[2] for node in network.of_kind(ALIAS)]
    return ", ".join([*parts, *of_them(aliases)]) or "nothing"


def of_them(aliases: Iterable[str]) -> list[str]:
    """Return how many of the versions just counted have which alias."""
    return [f"{count} of them @{alias}" for alias, count in sorted(Counter(aliases).items())]


def counted(count: int, one: str, many: str) -> str:
    """Return a number with its noun."""
    return f"{count} {one if count == 1 else many}"


def incompleteness(network: Network) -> str | None:
    """Return a sentence that names the runs whose records may lack something; None if none does."""
    found = network.incomplete()
    if not found:
        return None
    total = len(network.of_kind(RUN))
    named = [f"{node.key} ({', '.join(node.lacks)})" for node in found[:_NAMED]]
    if len(found) > _NAMED:
        named.append(f"{len(found) - _NAMED} more")
    subject = (
        "the record of 1 run is" if len(found) == 1 else f"the records of {len(found)} runs are"
    )
    return f"This may not be all: {subject} incomplete, of {total}: {'; '.join(named)}."
