"""What the lineage page shows of a network: the part around the target, in columns; pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mlflow_plugins_pack.lineage.document import network
from mlflow_plugins_pack.lineage.document.network import Network
from mlflow_plugins_pack.lineage.document.network import Node as Found

MAX_NODES = 80
_DIGEST_CHARACTERS = 19


@dataclass(frozen=True)
class Node:
    """A run, a model, a version, a prompt, or data.

    Attributes:
        key: What can be asked about again: a run's id, ``models:/NAME/VERSION``, the URI of data.
        kind: Which of them.
        label: What people call it.
        depth: Its distance from the target: negative upstream, positive downstream.
        detail: More about it: a status, a digest, aliases and stages.
        lacks: What a run's record may lack.
    """

    key: str
    kind: str
    label: str
    depth: int
    detail: str = ""
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """What is shown.

    Attributes:
        nodes: By key, the nearest first.
        edges: From and to, in the direction in which the data went, with a verb.
        is_cut: Whether there may be more than is shown.
        hidden: How many runs were deleted, or may not be read by the visitor.
    """

    nodes: Mapping[str, Node] = field(default_factory=dict)
    edges: Mapping[tuple[str, str], str] = field(default_factory=dict)
    is_cut: bool = False
    hidden: int = 0


def view_of(found: Network) -> View:
    """Return what is shown of a network."""
    gone = {node.key for node in found.of_kind(network.RUN) if node.status is None}
    edges = [edge for edge in found.edges if not gone & {edge.source, edge.target}]
    aliases = {edge.target: edge.source for edge in edges if edge.kind == network.NAMED}
    names: dict[str, list[str]] = {}
    for alias, version in aliases.items():
        names.setdefault(version, []).append(f"@{alias.rpartition('@')[2]}")
    targets = dict.fromkeys(aliases.get(key, key) for key in found.targets)
    depths = dict.fromkeys((key for key in targets if key in found.nodes), 0)
    pairs = {(edge.source, edge.target): edge.kind for edge in edges if edge.target not in aliases}
    for direction, ways in ((1, pairs), (-1, [(b, a) for a, b in pairs])):
        reached = _distances([*targets], ways)
        depths.update(
            (key, direction * distance)
            for key, distance in reached.items()
            if key not in depths and key in found.nodes
        )
    shown = sorted(depths, key=lambda key: abs(depths[key]))[:MAX_NODES]
    nodes = {key: _node(found.nodes[key], depths[key], names.get(key, [])) for key in shown}
    kept = {pair: kind for pair, kind in pairs.items() if nodes.keys() >= {*pair}}
    return View(nodes, kept, bool(found.notes) or len(depths) > len(nodes), len(gone))


def _distances(starts: Iterable[str], ways: Iterable[tuple[str, str]]) -> dict[str, int]:
    following: dict[str, list[str]] = {}
    for source, target in ways:
        following.setdefault(source, []).append(target)
    found = dict.fromkeys(starts, 0)
    waiting = deque(found)
    while waiting:
        source = waiting.popleft()
        for target in following.get(source, ()):
            if target not in found:
                found[target] = found[source] + 1
                waiting.append(target)
    return found


def _node(found: Found, depth: int, names: Iterable[str]) -> Node:
    label, detail = found.label, ""
    if found.kind == network.VERSION:
        label = f"{found.key.removeprefix('models:/').rpartition('/')[0]} version "
        label += found.key.rpartition("/")[2]
        detail = " ".join([*names, *([found.stage] if found.stage else [])])
    elif found.kind == network.RUN:
        detail = found.status or ""
    elif found.kind == network.DATA:
        detail = (found.digest or found.version or "")[:_DIGEST_CHARACTERS]
    return Node(found.key, found.kind, label, depth, detail, found.lacks)
