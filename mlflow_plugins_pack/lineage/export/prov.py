"""A network as PROV-JSON (https://www.w3.org/submissions/prov-json/); pure.

Runs are activities; data, models, versions, aliases and prompts are entities.
"""

from __future__ import annotations

from typing import Any

from mlflow_plugins_pack.lineage.document.network import RUN, Network, Node

PREFIX = "mlflow"
_URI = "urn:mlflow-plugins-pack:lineage:"


def document(network: Network) -> dict[str, Any]:
    """Return the PROV-JSON document of a network."""
    names = {key: f"{PREFIX}:n{index}" for index, key in enumerate(network.nodes)}
    result: dict[str, Any] = {
        "prefix": {PREFIX: _URI},
        "entity": {},
        "activity": {},
        "used": {},
        "wasGeneratedBy": {},
        "wasDerivedFrom": {},
        "wasInformedBy": {},
    }
    for node in network.nodes.values():
        kind = "activity" if node.kind == RUN else "entity"
        result[kind][names[node.key]] = _attributes(node)
    for index, edge in enumerate(network.edges):
        if edge.source not in names or edge.target not in names:
            continue
        source, target = network.nodes[edge.source], network.nodes[edge.target]
        relation, values = _relation(source, target, names)
        result[relation][f"_:e{index}"] = values
    return {key: value for key, value in result.items() if value}


def _relation(source: Node, target: Node, names: dict[str, str]) -> tuple[str, dict[str, str]]:
    ends = names[source.key], names[target.key]
    if source.kind == RUN and target.kind == RUN:
        return "wasInformedBy", {"prov:informed": ends[1], "prov:informant": ends[0]}
    if target.kind == RUN:
        return "used", {"prov:activity": ends[1], "prov:entity": ends[0]}
    if source.kind == RUN:
        return "wasGeneratedBy", {"prov:entity": ends[1], "prov:activity": ends[0]}
    return "wasDerivedFrom", {"prov:generatedEntity": ends[1], "prov:usedEntity": ends[0]}


def _attributes(node: Node) -> dict[str, Any]:
    facts = node.to_json()
    values = {f"{PREFIX}:{name}": str(v) for name, v in facts.items() if v is not None}
    return {"prov:label": node.label, **values}
