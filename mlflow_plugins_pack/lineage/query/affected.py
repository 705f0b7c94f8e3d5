"""Lists the models of an answer that stand on what was asked about; pure."""

from __future__ import annotations

from mlflow_plugins_pack.lineage.document.network import (
    MODEL,
    NAMED,
    REGISTERED,
    RUN,
    VERSION,
    Network,
    Node,
)
from mlflow_plugins_pack.lineage.query.answers import Affected, AffectedModel


def models_in(answer: Network, target: str, notes: tuple[str, ...]) -> Affected:
    """Return the registered versions of an answer, and the logged models that none was made of.

    Args:
        answer: What came of the target.
        target: As it was asked about.
        notes: What the answer leaves out.
    """
    nodes = answer.nodes
    current = [key for key in answer.targets if key in nodes and not nodes[key].differs]
    before = answer.reached(current)
    earlier = answer.reached(answer.targets)
    registered = {edge.source for edge in answer.edges if edge.kind == REGISTERED}
    found = []
    for node in (*answer.of_kind(VERSION), *answer.of_kind(MODEL)):
        is_listed = node.kind == VERSION or node.key not in registered
        if is_listed and node.key in earlier and node.key not in answer.targets:
            way = before if node.key in before else earlier
            found.append(_affected(answer, node, way, differs=node.key not in before))
    found.sort(key=lambda model: (not model.aliases, not model.is_registered, -(model.made or 0)))
    return Affected(target, tuple(found), notes)


def _affected(
    answer: Network, node: Node, before: dict[str, str | None], *, differs: bool
) -> AffectedModel:
    way: list[Node] = []
    key: str | None = node.key
    while key is not None:
        if (passed := answer.nodes.get(key)) is not None and passed.kind == RUN:
            way.insert(0, passed)
        key = before[key]
    maker = way[-1] if way else None
    aliases = [
        edge.target.rpartition("@")[2]
        for edge in answer.edges
        if edge.source == node.key and edge.kind == NAMED
    ]
    return AffectedModel(
        uri=node.key,
        aliases=tuple(sorted(aliases)),
        stage=node.stage,
        made=node.time,
        run=maker.key if maker else "",
        run_name=maker.label if maker else "",
        through=tuple(run.key for run in way),
        differs=differs,
        lacks=tuple(dict.fromkeys(text for run in way for text in run.lacks)),
    )
