"""A network as one self-contained HTML page: a drawing and a table, no script, no request; pure."""

from __future__ import annotations

from html import escape

from mlflow_plugins_pack.lineage.document.network import KINDS, Network, Node

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 210, 44, 110, 18, 24
_LABEL = 27
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --paper: #fff; --line: #8795a5;
  --data: #d8ecf8; --prompt: #e8e3f7; --run: #fdebc8; --model: #dff2dd; --version: #c6e8c2;
  --alias: #f7d5d5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --paper: #12181f; --line: #6c7a89;
  --data: #173a4f; --prompt: #332a55; --run: #54411a; --model: #1d4620; --version: #1f5a24;
  --alias: #5c2626; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 2rem; }
h1 { font-size: 1.3rem; } .drawing { overflow-x: auto; border: 1px solid var(--line);
  border-radius: 6px; } svg text { font: 13px system-ui, sans-serif; fill: var(--ink); }
svg .kind { font-size: 10.5px; opacity: .7; } svg path { fill: none; stroke: var(--line);
  stroke-width: 1.4; } svg rect { stroke: var(--line); rx: 6px; }
table { border-collapse: collapse; margin-top: 1.5rem; } th, td { text-align: left;
  padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; } code { font-size: .85rem; }
.data { fill: var(--data); } .prompt { fill: var(--prompt); } .run { fill: var(--run); }
.model { fill: var(--model); } .version { fill: var(--version); } .alias { fill: var(--alias); }
"""


def html(network: Network, title: str) -> str:
    """Return the page.

    Args:
        network: What to show.
        title: Its heading.
    """
    notes = "".join(f"<p>{escape(note)}</p>" for note in network.notes)
    rows = "".join(_row(node) for kind in KINDS for node in network.of_kind(kind))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>{notes}"
        f'<div class="drawing">{_drawing(network, title)}</div>'
        "<table><thead><tr><th>what</th><th>name</th><th>details</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></body></html>\n"
    )


def _row(node: Node) -> str:
    facts = [f"{name} {value}" for name, value in node.facts.items() if value is not None]
    details = "<br>".join(escape(fact) for fact in (node.key, *facts))
    return (
        f"<tr><td>{node.kind}</td><td>{escape(node.label)}</td><td><code>{details}</code></td></tr>"
    )


def _drawing(network: Network, title: str) -> str:
    columns = network.layers()
    tallest = max((len(column) for column in columns), default=0)
    width = 2 * _MARGIN + len(columns) * (_WIDTH + _GAP_X) - (_GAP_X if columns else 0)
    height = 2 * _MARGIN + tallest * (_HEIGHT + _GAP_Y)
    places: dict[str, tuple[int, int]] = {}
    for x, column in enumerate(columns):
        offset = (tallest - len(column)) * (_HEIGHT + _GAP_Y) // 2
        for y, node in enumerate(column):
            left = _MARGIN + x * (_WIDTH + _GAP_X)
            places[node.key] = (left, _MARGIN + offset + y * (_HEIGHT + _GAP_Y))
    paths = "".join(
        _path(places[edge.source], places[edge.target], edge.kind)
        for edge in network.edges
        if edge.source in places and edge.target in places
    )
    boxes = "".join(_box(network.nodes[key], *place) for key, place in places.items())
    marker = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8"/></marker></defs>'
    )
    return (
        f'<svg role="img" aria-label="{escape(title)}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">'
        f"{marker}{paths}{boxes}</svg>"
    )


def _path(source: tuple[int, int], target: tuple[int, int], kind: str) -> str:
    x1, y1 = source[0] + _WIDTH, source[1] + _HEIGHT // 2
    x2, y2 = target[0], target[1] + _HEIGHT // 2
    bend = max(40, abs(x2 - x1) // 2)
    curve = f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
    return f'<path d="{curve}" marker-end="url(#tip)"><title>{escape(kind)}</title></path>'


def _box(node: Node, x: int, y: int) -> str:
    label = node.label if len(node.label) <= _LABEL else f"{node.label[: _LABEL - 1]}…"
    return (
        f'<g><title>{escape(node.key)}</title><rect class="{node.kind}" x="{x}" y="{y}" '
        f'width="{_WIDTH}" height="{_HEIGHT}"/><text class="kind" x="{x + 10}" y="{y + 15}">'
        f'{node.kind}</text><text x="{x + 10}" y="{y + 33}">{escape(label)}</text></g>'
    )
