"""A network as Mermaid and as Graphviz DOT; pure. Every label is quoted: names may be hostile."""

from __future__ import annotations

from mlflow_plugins_pack.lineage.document.network import (
    ALIAS,
    DATA,
    MODEL,
    PROMPT,
    RUN,
    VERSION,
    Network,
)

_MERMAID = {
    DATA: ("[(", ")]"),
    PROMPT: ("[/", "/]"),
    RUN: ("([", "])"),
    MODEL: ("[", "]"),
    VERSION: ("[[", "]]"),
    ALIAS: ("{{", "}}"),
}
_DOT = {
    DATA: "cylinder",
    PROMPT: "note",
    RUN: "ellipse",
    MODEL: "box",
    VERSION: "box3d",
    ALIAS: "hexagon",
}


def mermaid(network: Network) -> str:
    """Return a Mermaid flowchart, left to right."""
    names = {key: f"n{index}" for index, key in enumerate(network.nodes)}
    lines = ["flowchart LR"]
    for node in network.nodes.values():
        left, right = _MERMAID[node.kind]
        lines.append(f'  {names[node.key]}{left}"{_escaped(node.label)}"{right}')
    lines += [
        f'  {names[edge.source]} -- "{edge.kind}" --> {names[edge.target]}'
        for edge in network.edges
        if edge.source in names and edge.target in names
    ]
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    """Return a label with all that is special to Mermaid as character codes."""
    return "".join(
        letter if letter.isalnum() or letter in " ._-/@:" else f"#{ord(letter)};"
        for letter in label
    )


def dot(network: Network) -> str:
    """Return a Graphviz graph, left to right."""
    names = {key: f"n{index}" for index, key in enumerate(network.nodes)}
    lines = ["digraph lineage {", "  rankdir=LR;", '  node [fontname="sans-serif"];']
    for node in network.nodes.values():
        label, tooltip = _quoted(node.label), _quoted(node.key)
        shape = _DOT[node.kind]
        lines.append(f"  {names[node.key]} [label={label}, tooltip={tooltip}, shape={shape}];")
    for edge in network.edges:
        if edge.source in names and edge.target in names:
            label = _quoted(edge.kind)
            lines.append(f"  {names[edge.source]} -> {names[edge.target]} [label={label}];")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
