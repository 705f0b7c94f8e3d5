"""A network as one self-contained HTML page: a drawing and a table, no script, no request; pure."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timezone
from html import escape
from urllib.parse import quote

from mlflow_plugins_pack.lineage.document import wording
from mlflow_plugins_pack.lineage.document.graph import last_name, without_secrets
from mlflow_plugins_pack.lineage.document.network import (
    ALIAS,
    DATA,
    KINDS,
    MODEL,
    RUN,
    VERSION,
    Network,
    Node,
)

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
svg rect.target { stroke: var(--ink); stroke-width: 3; } svg rect.incomplete {
  stroke-dasharray: 6 4; } tr.target td { font-weight: 600; } p.incomplete {
  border-left: 4px solid #c77700; padding-left: .8rem; }
.model { fill: var(--model); } .version { fill: var(--version); } .alias { fill: var(--alias); }
"""


def html(network: Network, target: str, *, server: str, made: datetime) -> str:
    """Return the page.

    Args:
        network: What to show.
        target: What was asked about.
        server: Tracking URI that the answer came from; the page links to it if it is a server's.
        made: When the question was asked.
    """
    title = f"Lineage of {target}"
    names = distinct_labels(network)
    links = {key: _link(node, server) for key, node in network.nodes.items()}
    notes = "".join(f"<p>{escape(note)}</p>" for note in network.notes)
    lacking = wording.incompleteness(network)
    warning = f'<p class="incomplete">{escape(lacking)}</p>' if lacking else ""
    origin = (
        f"<p>{escape(wording.summary(network))}. Made on {made:%Y-%m-%d %H:%M:%S %Z} from "
        f"{escape(without_secrets(server))}.</p>"
    )
    rows = "".join(
        _row(node, network, names, links) for kind in KINDS for node in network.of_kind(kind)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>{origin}{warning}{notes}"
        f'<div class="drawing">{_drawing(network, title, names, links)}</div>'
        "<table><thead><tr><th>what</th><th>name</th><th>time</th><th>details</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></body></html>\n"
    )


def distinct_labels(network: Network) -> dict[str, str]:
    """Return a name for each node, by its key, that no other node of the same kind has."""
    same: dict[tuple[str, str], list[Node]] = defaultdict(list)
    for node in network.nodes.values():
        same[node.kind, node.label].append(node)
    names = {}
    for nodes in same.values():
        for node in nodes:
            names[node.key] = (
                node.label if len(nodes) == 1 else f"{node.label} {_tell(node, nodes)}"
            )
    return names


def _tell(node: Node, others: list[Node]) -> str:
    """Return what tells a node from others of its name."""
    if node.kind != DATA:
        return f"({node.key[:8]})"
    folders = {other.key: (other.uri or "").rpartition("/")[0] for other in others}
    if len(set(folders.values())) == len(others):
        return f"in {last_name(folders[node.key])}/"
    return f"({(node.digest or node.version or node.key).removeprefix('sha256:')[:8]})"


def _link(node: Node, server: str) -> str | None:
    """Return the address of a run's or model's page in the stock UI."""
    if not server.startswith(("http://", "https://")):
        return None
    base = f"{without_secrets(server).rstrip('/')}/#"
    if node.kind == RUN and node.experiment_id:
        return f"{base}/experiments/{quote(node.experiment_id)}/runs/{quote(node.key)}"
    name = node.key.removeprefix("models:/")
    if node.kind == MODEL and node.experiment_id:
        return f"{base}/experiments/{quote(node.experiment_id)}/models/{quote(name)}"
    if node.kind == VERSION:
        model, _, version = name.rpartition("/")
        return f"{base}/models/{quote(model, safe='')}/versions/{quote(version)}"
    if node.kind == ALIAS:
        return f"{base}/models/{quote(name.rpartition('@')[0], safe='')}"
    return None


def _row(node: Node, network: Network, names: dict[str, str], links: dict[str, str | None]) -> str:
    marks = [
        text
        for text, holds in (
            ("asked about", node.key in network.targets),
            ("the content differs now", node.differs),
            (f"incomplete: {'; '.join(node.lacks)}", node.kind == RUN and node.lacks),
        )
        if holds
    ]
    facts = [
        f"{name} {value}"
        for name, value in node.to_json().items()
        if name in ("uri", "digest", "version", "size", "status", "stage")
    ]
    details = "<br>".join(escape(fact) for fact in dict.fromkeys((node.key, *facts)))
    name = escape(names[node.key])
    if link := links[node.key]:
        name = f'<a href="{escape(link)}">{name}</a>'
    marked = "".join(f"<br><strong>{escape(mark)}</strong>" for mark in marks)
    kind = ' class="target"' if node.key in network.targets else ""
    return (
        f"<tr{kind}><td>{node.kind}</td><td>{name}{marked}</td><td>{_time(node.time)}</td>"
        f"<td><code>{details}</code></td></tr>"
    )


def _time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return ""
    return f"{datetime.fromtimestamp(milliseconds / 1000, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def _drawing(
    network: Network, title: str, names: dict[str, str], links: dict[str, str | None]
) -> str:
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
    boxes = "".join(
        _box(network.nodes[key], place, names[key], links[key], is_target=key in network.targets)
        for key, place in places.items()
    )
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


def _box(
    node: Node, place: tuple[int, int], name: str, link: str | None, *, is_target: bool
) -> str:
    x, y = place
    label = name if len(name) <= _LABEL else f"{name[: _LABEL - 1]}…"
    kind, classes = node.kind, node.kind
    if is_target:
        kind, classes = f"{kind}, asked about", f"{classes} target"
    if node.differs:
        kind = f"{kind}, differs now"
    if node.lacks:
        kind, classes = f"{kind}, incomplete", f"{classes} incomplete"
    box = (
        f'<g><title>{escape(node.key)}</title><rect class="{classes}" x="{x}" y="{y}" '
        f'width="{_WIDTH}" height="{_HEIGHT}"/><text class="kind" x="{x + 10}" y="{y + 15}">'
        f'{kind}</text><text x="{x + 10}" y="{y + 33}">{escape(label)}</text></g>'
    )
    return f'<a href="{escape(link)}">{box}</a>' if link else box
