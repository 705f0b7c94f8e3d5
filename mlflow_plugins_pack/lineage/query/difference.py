"""Compares two runs and what they were made from, step by step back along what differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_plugins_pack.lineage.document import network
from mlflow_plugins_pack.lineage.document.graph import last_name, shown_uri
from mlflow_plugins_pack.lineage.document.network import Network
from mlflow_plugins_pack.lineage.document.wording import counted
from mlflow_plugins_pack.lineage.fingerprints import git
from mlflow_plugins_pack.lineage.query.compare import Difference, RunFacts, compare
from mlflow_plugins_pack.lineage.query.nodes import data_key

_STEPS = 50


@dataclass(frozen=True)
class Step:
    """Two runs that correspond to one another.

    Attributes:
        difference: What differs between them.
        made: What both made that differs in the step before, as a path, URI or model name; empty
            for the two runs that were asked about.
        depth: How many runs back they are.
    """

    difference: Difference
    made: str
    depth: int


@dataclass(frozen=True)
class Comparison:
    """What differs between two runs, and between those that they were made from.

    Attributes:
        first: The first one as it was asked about.
        second: The second one.
        steps: The two runs themselves, then those that made what differs, going back.
        notes: What the answer leaves out, in sentences.
    """

    first: str
    second: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()

    @property
    def difference(self) -> Difference:
        """What differs between the two runs themselves."""
        return self.steps[0].difference

    def __bool__(self) -> bool:
        return any(bool(step.difference) for step in self.steps)

    @property
    def summary(self) -> str:
        """What differs, in one line."""
        if not self:
            return "Nothing differs that is recorded."
        found = [step.difference for step in self.steps]
        data = sum(len(d.changed) + len(d.only_first) + len(d.only_second) for d in found)
        parts = [
            counted(count, one, many)
            for count, one, many in (
                (data, "input", "inputs"),
                (sum(len(d.parameters) for d in found), "parameter", "parameters"),
                (sum(len(d.metrics) for d in found), "metric", "metrics"),
                (sum(len(d.packages) for d in found), "package", "packages"),
            )
            if count
        ]
        if any(key.startswith("code.") for d in found for key in d.facts):
            parts.append("code")
        where = counted(sum(map(bool, found)), "pair of runs", "pairs of runs")
        return f"Different in {where}: {', '.join(parts) or 'the environment'}."

    def to_json(self) -> dict[str, Any]:
        """Return all of it for scripts; the keys of the first step also stand at the top."""
        return {
            "targets": [self.first, self.second],
            **self.difference.to_json(),
            "steps": [
                {"made": step.made, "depth": step.depth, **step.difference.to_json()}
                for step in self.steps
            ],
            "notes": list(self.notes),
            "summary": self.summary,
        }


@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes:
        run_id: The run to begin with.
        answer: All that it was made from.
        facts: Those of each run of the answer.
    """

    run_id: str
    answer: Network
    facts: Mapping[str, RunFacts]


def compare_back(
    first: Side, second: Side, names: tuple[str, str], notes: tuple[str, ...]
) -> Comparison:
    """Compare two runs, then the runs that made what differs between them, and so on.

    Args:
        first: The one before.
        second: The one after.
        names: Both as they were asked about.
        notes: What the answer leaves out.
    """
    steps: list[Step] = []
    waiting = [(first.run_id, second.run_id, "", 0)]
    seen: set[tuple[str, str]] = set()
    while waiting and len(steps) < _STEPS:
        a, b, made, depth = waiting.pop(0)
        if (a, b) in seen or a not in first.facts or b not in second.facts:
            continue
        seen.add((a, b))
        difference = compare(first.facts[a], second.facts[b], from_git)
        steps.append(Step(difference, made, depth))
        waiting += [
            (x, y, name, depth + 1) for x, y, name in _makers(first, a, second, b, difference)
        ]
    return Comparison(*names, tuple(steps), notes)


def _makers(
    first: Side, a: str, second: Side, b: str, difference: Difference
) -> list[tuple[str, str, str]]:
    """Return the pairs of runs that made what differs between two runs, with its name."""
    pairs = [*difference.changed, *_of_one_name(difference)]
    found = []
    for before, after in pairs:
        ours = _wrote(first.answer, data_key(before))
        theirs = _wrote(second.answer, data_key(after))
        found += [
            (x, y, shown_uri(after.uri)) for x, y in zip(ours, theirs, strict=False) if x != y
        ]
    ours_fed, theirs_fed = _fed(first, a), _fed(second, b)
    for name in ours_fed.keys() & theirs_fed.keys():
        if ours_fed[name] != theirs_fed[name]:
            found.append((ours_fed[name], theirs_fed[name], name))
    return found


def _of_one_name(difference: Difference) -> list[tuple[Any, Any]]:
    """Return the inputs of one side alone that are called as one of the other side alone."""
    named = {last_name(entry.uri): entry for entry in difference.only_second}
    return [
        (entry, named[last_name(entry.uri)])
        for entry in difference.only_first
        if last_name(entry.uri) in named
    ]


def _wrote(answer: Network, key: str) -> list[str]:
    return [e.source for e in answer.edges if e.target == key and e.kind == network.WROTE]


def _fed(side: Side, run_id: str) -> dict[str, str]:
    """Return the runs that fed a run, by the name of what they gave."""
    found: dict[str, str] = {}
    for edge in side.answer.edges:
        if edge.target != run_id or edge.kind != network.FED:
            continue
        source = edge.source
        if source in side.facts:
            found[side.facts[source].name or source] = source
            continue
        name = source.removeprefix("models:/").rpartition("/")[0] or source
        made = [e.source for e in side.answer.edges if e.target == source]
        runs = [key for key in made if key in side.facts] or [
            e.source for e in side.answer.edges if e.target in made and e.source in side.facts
        ]
        if runs:
            found[name] = runs[0]
    return found


def from_git(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the difference of two commits, if this folder's repository has both."""
    commits = [str(one.get("commit", "")) for one in (first, second)]
    if not all(commits) or any(not commit.isalnum() for commit in commits):
        return None
    text = git.run(str(Path.cwd()), "diff", "--no-ext-diff", "--no-color", "-U2", *commits, "--")
    return None if text is None else tuple(text.decode("utf-8", "replace").splitlines())
