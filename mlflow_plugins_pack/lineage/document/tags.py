"""A graph as run tags, each valid JSON within MLflow's limit; pure.

MLflow silently cuts a tag's value at 8,000 characters, which would leave broken JSON.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from mlflow_plugins_pack.lineage.document.graph import (
    SCHEMA_VERSION,
    Entry,
    Graph,
    inputs_digest,
    parent_uri,
    roll_up,
)

LIMIT_BYTES = 7_800
PREFIX = "lineage."
DOCUMENT_ONLY = frozenset({"text", "changes", "list"})
"""Keys of the facts that are too long for a tag: the code's text and the list of packages."""

# Made once: `json.dumps` would make an encoder for each of ten thousand entries.
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


def dump(value: Any) -> str:
    """Return compact JSON in ASCII, so that characters and bytes count the same."""
    return _encode(value)


def dump_entries(entries: Iterable[Entry]) -> str:
    """Return entries as one JSON list."""
    return dump([entry.to_json() for entry in entries])


def _cost(entry: Entry) -> int:
    return len(dump(entry.to_json())) + 1


def fit(entries: Iterable[Entry], limit: int = LIMIT_BYTES) -> tuple[list[Entry], int]:
    """Shorten a list until its JSON fits.

    The folder that takes most bytes is rolled up into one entry, again and again; where no folder
    holds two entries, the deepest move one folder up first. What does not fit even so is left out.

    Args:
        entries: At most one per URI and content.
        limit: Bytes of JSON.

    Returns:
        The entries, and how many files are in none of them.
    """
    folders: dict[str | None, list[Entry]] = defaultdict(list)
    sizes: dict[str | None, int] = defaultdict(int)

    def put(entry: Entry) -> int:
        cost, folder = _cost(entry), parent_uri(entry.uri)
        folders[folder].append(entry)
        sizes[folder] += cost
        return cost

    def roll(folder: str) -> int:
        """Replace a folder's entries by one; return by how many bytes the listing grows."""
        group = folders.pop(folder)
        return put(roll_up(folder, group)) - sizes.pop(folder)

    total = 2 + sum(map(put, entries))
    while total > limit:
        crowded = [f for f, group in folders.items() if f is not None and len(group) > 1]
        if crowded:
            # Ties go to the deeper folder, so that the listing stays near to the files.
            total += roll(max(crowded, key=lambda f: (sizes[f], f.count("/"), f)))
            continue
        liftable = [f for f in folders if f is not None and parent_uri(f) is not None]
        if len(folders) < 2 or not liftable:
            break
        deepest = max(f.count("/") for f in liftable)
        for folder in liftable:
            if folder.count("/") == deepest:
                total += roll(folder)
    kept = [entry for group in folders.values() for entry in group]
    left_out = 0
    while kept and total > limit:
        longest = max(kept, key=_cost)
        kept.remove(longest)
        left_out += longest.files or 1
        total -= _cost(longest)
    return sorted(kept, key=lambda e: (e.uri, e.content)), left_out


def to_tags(graph: Graph) -> dict[str, str]:
    """Return the tags of a run; every value but the two plain ones is JSON."""
    inputs, lost_inputs = fit(graph.inputs)
    outputs, lost_outputs = fit(graph.outputs)
    upstream, models = _fit_names(graph.upstream_runs), _fit_names(graph.upstream_models)
    logged = _fit_names(tuple(dict.fromkeys(e.dataset for e in graph.inputs if e.dataset)))
    truncated = {
        "inputs": lost_inputs,
        "outputs": lost_outputs,
        "upstream": len(graph.upstream_runs) - len(upstream),
        "upstream_models": len(graph.upstream_models) - len(models),
        "dropped": graph.dropped,
        "rolled_up": sum(e.files or 0 for e in (*inputs, *outputs)),
    }
    tags = {
        "schema": SCHEMA_VERSION,
        "digest": inputs_digest(graph.inputs),
        "inputs": dump_entries(inputs),
        "outputs": dump_entries(outputs),
        "upstream.runs": dump(upstream) if upstream else None,
        "upstream.models": dump(models) if models else None,
        "datasets": dump(logged) if logged else None,
        "truncated": dump({k: v for k, v in truncated.items() if v})
        if any(truncated.values())
        else None,
    }
    for fact in ("code", "env", "coverage"):
        if fact in graph.facts:
            known = graph.facts[fact]
            tags[fact] = _fit_mapping({k: v for k, v in known.items() if k not in DOCUMENT_ONLY})
    return {PREFIX + key: value for key, value in tags.items() if value is not None}


def _fit_names(names: tuple[str, ...]) -> list[str]:
    kept, size = [], 2
    for name in names:
        size += len(dump(name)) + 1
        if size > LIMIT_BYTES:
            break
        kept.append(name)
    return kept


def _fit_mapping(value: dict[str, Any]) -> str:
    text = dump(value)
    if len(text) <= LIMIT_BYTES:
        return text
    short = {k: v for k, v in value.items() if len(dump(v)) < LIMIT_BYTES // (len(value) + 2)}
    return dump({**short, "truncated": True})
