"""What differs between two runs: data, parameters, metrics, code and packages; pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlflow_plugins_pack.lineage.document.coverage import lacking
from mlflow_plugins_pack.lineage.document.graph import (
    CONFIG,
    DATA,
    MODEL,
    Entry,
    Graph,
    inputs_digest,
)
from mlflow_plugins_pack.lineage.document.tags import DOCUMENT_ONLY

_TEXT_LINES = 2_000
"""Most lines of a difference of code."""

Pairs = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class RunFacts:
    """What is compared of one run.

    Attributes:
        run_id: The run.
        name: Its name.
        graph: Its record; empty if it has none.
        params: Its parameters.
        metrics: Its metrics, the last value of each.
        lacks: What its record may lack.
    """

    run_id: str
    name: str
    graph: Graph
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()

    @classmethod
    def of(cls, run: Any, record: Graph | None) -> RunFacts:
        """Return the facts of a run as MLflow gives it.

        Args:
            run: The run.
            record: Its record; None if it has none.
        """
        return cls(
            run.info.run_id,
            run.info.run_name or "",
            record or Graph(),
            dict(run.data.params),
            dict(run.data.metrics),
            lacking(record),
        )


@dataclass(frozen=True)
class Difference:
    """The differences of the second of two runs from the first.

    Attributes:
        first: The first run.
        second: The second run.
        only_first: Inputs of the first alone, by place and content.
        only_second: Inputs of the second alone.
        changed: Pairs with the same place and another content.
        moved: Pairs with the same content in another place.
        same: How many inputs are alike in place and content.
        parameters: Those that differ, as name to both values; None where one is not set.
        metrics: The same for metrics.
        packages: The same for installed packages, as name to both versions.
        facts: What else differs of code and environment, as key to both values.
        code: Lines of a unified difference of the code, as far as its text is known.
        code_note: Why the code's text is not compared although the code differs; empty if it is.
        same_data: Whether both read the same bytes, wherever they lay.
    """

    first: RunFacts
    second: RunFacts
    only_first: tuple[Entry, ...]
    only_second: tuple[Entry, ...]
    changed: tuple[tuple[Entry, Entry], ...]
    moved: tuple[tuple[Entry, Entry], ...]
    same: int
    parameters: Pairs
    metrics: Pairs
    packages: Pairs
    facts: Pairs
    code: tuple[str, ...]
    code_note: str
    same_data: bool

    def __bool__(self) -> bool:
        data = self.only_first or self.only_second or self.changed
        return bool(data or self.parameters or self.metrics or self.packages or self.facts)

    def to_json(self) -> dict[str, Any]:
        """Return all of it for scripts."""
        return {
            "first": {"run": self.first.run_id, "name": self.first.name},
            "second": {"run": self.second.run_id, "name": self.second.name},
            "same_data": self.same_data,
            "same": self.same,
            "only_first": [entry.to_json() for entry in self.only_first],
            "only_second": [entry.to_json() for entry in self.only_second],
            "changed": [[a.to_json(), b.to_json()] for a, b in self.changed],
            "moved": [[a.to_json(), b.to_json()] for a, b in self.moved],
            "parameters": _listed(self.parameters),
            "metrics": _listed(self.metrics),
            "packages": _listed(self.packages),
            "facts": _listed(self.facts),
            "code": list(self.code),
            "code_note": self.code_note,
            "lacks": {run.run_id: list(run.lacks) for run in (self.first, self.second)},
        }


def _listed(pairs: Pairs) -> dict[str, list[Any]]:
    return {key: list(values) for key, values in pairs.items()}


CodeReader = Callable[[Mapping[str, Any], Mapping[str, Any]], "tuple[str, ...] | None"]


def compare(first: RunFacts, second: RunFacts, from_git: CodeReader | None = None) -> Difference:
    """Compare two runs.

    Args:
        first: The one before.
        second: The one after.
        from_git: Returns the lines of the difference of two versions of the code, given the facts
            of both, where these do not have its text; None if it does not know them.
    """
    a, b = _inputs(first.graph.inputs), _inputs(second.graph.inputs)
    same = a.keys() & b.keys()
    left = {key: entry for key, entry in a.items() if key not in same}
    right = {key: entry for key, entry in b.items() if key not in same}
    changed = _pair(left, right, lambda entry: entry.uri)
    moved = _pair(left, right, lambda entry: entry.digest or "")
    ours, theirs = first.graph.facts, second.graph.facts
    facts: Pairs = {}
    for group in ("code", "env"):
        before, after = (_plain(one.get(group)) for one in (ours, theirs))
        facts.update((f"{group}.{key}", pair) for key, pair in pairs(before, after).items())
    code, note = _code(ours.get("code") or {}, theirs.get("code") or {}, from_git)
    return Difference(
        first=first,
        second=second,
        only_first=tuple(left.values()),
        only_second=tuple(right.values()),
        changed=changed,
        moved=moved,
        same=len(same),
        parameters=pairs(first.params, second.params),
        metrics=pairs(first.metrics, second.metrics),
        packages=pairs(_packages(ours), _packages(theirs)),
        facts=facts,
        code=code,
        code_note=note,
        same_data=inputs_digest(first.graph.inputs) == inputs_digest(second.graph.inputs),
    )


def pairs(first: Mapping[str, Any], second: Mapping[str, Any]) -> Pairs:
    """Return the keys of two mappings whose values differ, with both values."""
    return {
        key: (first.get(key), second.get(key))
        for key in sorted({*first, *second})
        if first.get(key) != second.get(key)
    }


def _plain(facts: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (facts or {}).items() if key not in DOCUMENT_ONLY}


def _packages(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions of the packages, by their names."""
    listed = (facts.get("env") or {}).get("list") or ()
    split = (str(package).rpartition("-") for package in listed)
    return {name or version: version if name else "" for name, _, version in split}


def _code(
    first: Mapping[str, Any], second: Mapping[str, Any], from_git: CodeReader | None
) -> tuple[tuple[str, ...], str]:
    """Return the difference of the code as lines, or why there are none though it differs."""
    alike = ("h", "commit", "diff")
    if all(first.get(key) == second.get(key) for key in alike):
        return (), ""
    texts = [str(one.get("text", "")) + str(one.get("changes", "")) for one in (first, second)]
    if all(texts):
        lines = difflib.unified_diff(
            texts[0].splitlines(),
            texts[1].splitlines(),
            str(first.get("entry", "")),
            str(second.get("entry", "")),
            lineterm="",
            n=2,
        )
        return tuple(lines)[:_TEXT_LINES], ""
    if from_git is not None and (found := from_git(first, second)) is not None:
        changed = any(one.get("dirty") for one in (first, second))
        note = "changes that were not committed are not in it" if changed else ""
        return found[:_TEXT_LINES], note
    return (), (
        "its text was not kept (MLFLOW_PACK_LINEAGE_CODE=true keeps it), and this folder is not "
        "in a git repository that has the commits of both runs"
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
