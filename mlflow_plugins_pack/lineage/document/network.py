"""Connects data, runs, models, versions and aliases: nodes and edges; pure.

An edge points the way data flows: file -> run -> logged model -> model version -> alias.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

DATA, RUN, MODEL, VERSION, ALIAS, PROMPT = "data", "run", "model", "version", "alias", "prompt"
KINDS = (DATA, PROMPT, RUN, MODEL, VERSION, ALIAS)
READ, WROTE, LOGGED, REGISTERED, NAMED, FED = (
    "read by",
    "wrote",
    "logged",
    "registered as",
    "named",
    "fed",
)


@dataclass(frozen=True)
class Node:
    """One thing.

    Attributes:
        key: Unique, and a target to ask about: a run id, ``models:/name/3``,
            ``models:/name@alias``, or a URI, with ``#`` and the start of its digest if that is
            known.
        kind: One of `KINDS`.
        label: Name for people; different things can have the same.
        time: When a run or version was made or a file was last changed, in milliseconds since
            1970; None if it is not known.
        uri: Place of data.
        digest: ``sha256:<hex>`` of data, or the digest of all that a run read.
        version: Version of data in an object store, table or repository.
        size: Bytes of data.
        status: A run's, such as ``FINISHED``.
        experiment_id: A run's or logged model's.
        stage: A version's, if it has one.
        lacks: What a run's record may lack, in words; empty if it is complete.
        differs: Whether the file that was asked about has another content by now.
    """

    key: str
    kind: str
    label: str
    time: int | None = None
    uri: str | None = None
    digest: str | None = None
    version: str | None = None
    size: int | None = None
    status: str | None = None
    experiment_id: str | None = None
    stage: str | None = None
    lacks: tuple[str, ...] = ()
    differs: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what is known, for scripts; of a run also whether its record is ``complete``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        known = {k: v for k, v in values.items() if v not in (None, (), False)}
        if self.kind == RUN:
            known["complete"] = not self.lacks
        return {**known, "lacks": list(self.lacks)} if self.lacks else known


@dataclass(frozen=True, order=True)
class Edge:
    """Data flows from one node to another; `kind` reads as a sentence between them."""

    source: str
    target: str
    kind: str


class Network:
    """Nodes by key, and edges, both in the order they were found.

    Attributes:
        targets: Keys of what was asked about.
        notes: What the answer leaves out, in sentences.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[Edge, None] = {}
        self.targets: list[str] = []
        self.notes: list[str] = []

    def add(self, node: Node) -> bool:
        """Add a node; False if it is there."""
        if node.key in self.nodes:
            return False
        self.nodes[node.key] = node
        return True

    def join(self, source: str, target: str, kind: str) -> None:
        """Add an edge, unless it leads from a node to itself."""
        if source != target:
            self.edges[Edge(source, target, kind)] = None

    def mark(self, key: str) -> None:
        """Mark a node as what was asked about."""
        if key not in self.targets:
            self.targets.append(key)

    def note(self, text: str) -> None:
        """Note, once, what the answer leaves out."""
        if text not in self.notes:
            self.notes.append(text)

    def merge(self, other: Network) -> None:
        """Take in another network."""
        for node in other.nodes.values():
            self.add(node)
        self.edges.update(other.edges)
        for key in other.targets:
            self.mark(key)
        for text in other.notes:
            self.note(text)

    def of_kind(self, kind: str) -> list[Node]:
        """Return the nodes of a kind."""
        return [node for node in self.nodes.values() if node.kind == kind]

    def layers(self) -> list[list[Node]]:
        """Return the nodes in columns, each right of all that flows into it; cycles are cut.

        Within a column the nodes are in the order of their times.
        """
        before: dict[str, set[str]] = {key: set() for key in self.nodes}
        after: dict[str, list[str]] = {key: [] for key in self.nodes}
        for edge in self.edges:
            if edge.source in before and edge.target in before:
                before[edge.target].add(edge.source)
                after[edge.source].append(edge.target)
        depth: dict[str, int] = {}
        ready = [key for key in before if not before[key]]
        while len(depth) < len(before):
            # In a cycle, what is oldest comes first.
            waiting = (key for key in before if key not in depth)
            key = ready.pop() if ready else min(waiting, key=lambda k: self.nodes[k].time or 0)
            depth[key] = 1 + max((depth[k] for k in before[key] if k in depth), default=-1)
            ready += [
                following
                for following in after[key]
                if following not in depth and before[following] <= depth.keys()
            ]
        columns: dict[int, list[Node]] = {level: [] for level in sorted(set(depth.values()))}
        for key in self.nodes:
            columns[depth[key]].append(self.nodes[key])
        return [sorted(nodes, key=lambda node: node.time or 0) for nodes in columns.values()]

    def reached(self, keys: Iterable[str]) -> dict[str, str | None]:
        """Return all that some nodes flow into, each with the node before it on a shortest way."""
        following: dict[str, list[str]] = {}
        for edge in self.edges:
            following.setdefault(edge.source, []).append(edge.target)
        before: dict[str, str | None] = dict.fromkeys(keys)
        waiting = deque(before)
        while waiting:
            source = waiting.popleft()
            for target in following.get(source, ()):
                if target not in before:
                    before[target] = source
                    waiting.append(target)
        return before

    def incomplete(self) -> list[Node]:
        """Return the runs whose records may lack something."""
        return [node for node in self.of_kind(RUN) if node.lacks]

    def counts(self) -> dict[str, int]:
        """Return how many nodes there are of each kind that is there."""
        return {kind: count for kind in KINDS if (count := len(self.of_kind(kind)))}

    def to_json(self) -> dict[str, Any]:
        """Return all of it for scripts."""
        return {
            "targets": self.targets,
            "nodes": [node.to_json() for node in self.nodes.values()],
            "edges": [{"from": e.source, "to": e.target, "kind": e.kind} for e in self.edges],
            "notes": self.notes,
            "counts": self.counts(),
            "complete": not self.incomplete(),
        }


def joined(networks: Iterable[Network]) -> Network:
    """Return the union of networks."""
    union = Network()
    for network in networks:
        union.merge(network)
    return union
