"""Connects data, runs, models, versions and aliases: nodes and edges; pure.

An edge points the way data flows: file -> run -> logged model -> model version -> alias.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
        key: Unique: a URI, a run id, ``models:/name/3``, ``models:/name@alias``.
        kind: One of `KINDS`.
        label: For people.
        facts: What else is known, as JSON can hold it.
    """

    key: str
    kind: str
    label: str
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)


@dataclass(frozen=True, order=True)
class Edge:
    """Data flows from one node to another; `kind` reads as a sentence between them."""

    source: str
    target: str
    kind: str


class Network:
    """Nodes by key, and edges, both in the order they were found."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[Edge, None] = {}
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

    def note(self, text: str) -> None:
        """Note, once, what the answer leaves out."""
        if text not in self.notes:
            self.notes.append(text)

    def merge(self, other: Network) -> None:
        """Take in another network."""
        for node in other.nodes.values():
            self.add(node)
        self.edges.update(other.edges)
        for text in other.notes:
            self.note(text)

    def of_kind(self, kind: str) -> list[Node]:
        """Return the nodes of a kind."""
        return [node for node in self.nodes.values() if node.kind == kind]

    def layers(self) -> list[list[Node]]:
        """Return the nodes in columns, each right of all that flows into it; cycles are cut."""
        depth = dict.fromkeys(self.nodes, 0)
        edges = [e for e in self.edges if e.source in depth and e.target in depth]
        for _ in range(len(depth)):
            moved = False
            for edge in edges:
                if depth[edge.target] <= depth[edge.source] < len(depth):
                    depth[edge.target] = depth[edge.source] + 1
                    moved = True
            if not moved:
                break
        used = sorted(set(depth.values()))
        return [[self.nodes[key] for key in depth if depth[key] == level] for level in used]

    def to_json(self) -> dict[str, Any]:
        """Return all of it for scripts."""
        return {
            "nodes": [
                {"key": n.key, "kind": n.kind, "label": n.label, **n.facts}
                for n in self.nodes.values()
            ],
            "edges": [{"from": e.source, "to": e.target, "kind": e.kind} for e in self.edges],
            "notes": self.notes,
        }


def joined(networks: Iterable[Network]) -> Network:
    """Return the union of networks."""
    union = Network()
    for network in networks:
        union.merge(network)
    return union
