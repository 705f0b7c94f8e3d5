"""What differs between two records; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mlflow_plugins_pack.lineage.document.graph import (
    CONFIG,
    DATA,
    MODEL,
    Entry,
    Graph,
    inputs_digest,
)


@dataclass(frozen=True)
class Difference:
    """The differences of the second of two runs from the first.

    Attributes:
        only_first: Inputs of the first alone, by place and content.
        only_second: Inputs of the second alone.
        changed: Pairs with the same place and another content.
        moved: Pairs with the same content in another place.
        same: How many inputs are alike in place and content.
        facts: What differs of code and packages, as key to both values.
        same_data: Whether both read the same bytes, wherever they lay.
    """

    only_first: tuple[Entry, ...]
    only_second: tuple[Entry, ...]
    changed: tuple[tuple[Entry, Entry], ...]
    moved: tuple[tuple[Entry, Entry], ...]
    same: int
    facts: dict[str, tuple[Any, Any]]
    same_data: bool

    def __bool__(self) -> bool:
        return bool(self.only_first or self.only_second or self.changed or self.facts)

    def to_json(self) -> dict[str, Any]:
        """Return all of it for scripts."""
        return {
            "same_data": self.same_data,
            "same": self.same,
            "only_first": [entry.to_json() for entry in self.only_first],
            "only_second": [entry.to_json() for entry in self.only_second],
            "changed": [[a.to_json(), b.to_json()] for a, b in self.changed],
            "moved": [[a.to_json(), b.to_json()] for a, b in self.moved],
            "facts": {key: list(values) for key, values in self.facts.items()},
        }


def compare(first: Graph, second: Graph) -> Difference:
    """Compare what two runs read, and their code and packages."""
    a, b = _inputs(first.inputs), _inputs(second.inputs)
    same = a.keys() & b.keys()
    left = {key: entry for key, entry in a.items() if key not in same}
    right = {key: entry for key, entry in b.items() if key not in same}
    changed = _pair(left, right, lambda entry: entry.uri)
    moved = _pair(left, right, lambda entry: entry.digest or "")
    facts = {}
    for group in ("code", "env"):
        ours, theirs = first.facts.get(group, {}), second.facts.get(group, {})
        for key in sorted({*ours, *theirs}):
            if ours.get(key) != theirs.get(key):
                facts[f"{group}.{key}"] = (ours.get(key), theirs.get(key))
    return Difference(
        only_first=tuple(left.values()),
        only_second=tuple(right.values()),
        changed=changed,
        moved=moved,
        same=len(same),
        facts=facts,
        same_data=inputs_digest(first.inputs) == inputs_digest(second.inputs),
    )


def _inputs(entries: Iterable[Entry]) -> dict[tuple[str, str], Entry]:
    return {(e.uri, e.content): e for e in entries if e.role in (DATA, MODEL, CONFIG)}


def _pair(
    left: dict[tuple[str, str], Entry], right: dict[tuple[str, str], Entry], by: Any
) -> tuple[tuple[Entry, Entry], ...]:
    """Take those out of both sides that agree in something; what is empty agrees with nothing."""
    found = []
    keys = {by(entry): key for key, entry in right.items()}
    for key, entry in list(left.items()):
        other = keys.pop(by(entry), None) if by(entry) else None
        if other is not None:
            found.append((left.pop(key), right.pop(other)))
    return tuple(found)
