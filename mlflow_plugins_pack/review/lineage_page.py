"""The page of lineage: where a version's data came from, and what was made of data."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import HTMLResponse

from mlflow_plugins_pack.approvals.api.dependencies import ReviewOf, VisitorOf
from mlflow_plugins_pack.approvals.api.errors import ANSWERS
from mlflow_plugins_pack.approvals.api.requests import PREFIX
from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.domain.review_pages import ROOT
from mlflow_plugins_pack.approvals.web.rendering import Pages, status_of
from mlflow_plugins_pack.lineage.query import api
from mlflow_plugins_pack.review import graph_layout
from mlflow_plugins_pack.review.lineage_view import MAX_NODES, Node, View, view_of
from mlflow_plugins_pack.review.visitor_client import VisitorClient

router = APIRouter()

Target = Annotated[str, Query(max_length=2000)]
Depth = Annotated[int, Query(ge=1, le=api.DEPTH)]
_LABEL_CHARACTERS = 27
_MAX_RUNS = 100
"""Most runs that one search finds."""
_FIRST_DEPTH, _FIRST_RUNS = 2, 25
"""What the page does at first, until it is asked for more: each run takes MLflow some milliseconds,
and each step a search."""
_ASKABLE = re.compile(r"[^'\"\x00-\x1f]{1,2000}")


class NodeRow(BaseModel):
    """A run, version, model, prompt or data; ``depth`` is negative upstream of the target."""

    key: str
    kind: str
    label: str
    depth: int
    detail: str
    lacks: tuple[str, ...]


class EdgeRow(BaseModel):
    """The way that data went."""

    source: str
    to: str
    verb: str


class LineageRow(BaseModel):
    """What is around a target; ``is_cut``: there may be more."""

    nodes: list[NodeRow]
    edges: list[EdgeRow]
    is_cut: bool
    hidden: int


@router.get(f"{PREFIX}/lineage", tags=["Lineage"], responses=ANSWERS)
def lineage_of(
    target: Annotated[str, Query(min_length=1, max_length=2000)],
    review: ReviewOf,
    visitor: VisitorOf,
    depth: Depth = api.DEPTH,
) -> LineageRow:
    """Return what is upstream and downstream of a run, version, alias, URI or digest.

    ``depth`` is the number of runs that are followed in each direction.
    """
    walk = _around(review, visitor, target, depth, _MAX_RUNS)
    return LineageRow(
        nodes=[
            NodeRow(**{**vars(node), "lacks": list(node.lacks)}) for node in walk.nodes.values()
        ],
        edges=[EdgeRow(source=a, to=b, verb=verb) for (a, b), verb in walk.edges.items()],
        is_cut=walk.is_cut,
        hidden=walk.hidden,
    )


@router.get(f"{ROOT}/lineage", include_in_schema=False)
def lineage(
    request: Request,
    review: ReviewOf,
    visitor: VisitorOf,
    target: Target = "",
    depth: Depth = _FIRST_DEPTH,
) -> HTMLResponse:
    """Show what is upstream and downstream of a target, as a graph and as a table."""
    walk, problem, status = View(), "", 200
    target = target.strip()
    if target:
        try:
            runs = _FIRST_RUNS if depth <= _FIRST_DEPTH else _MAX_RUNS
            walk = _around(review, visitor, target, depth, runs)
        except MlflowException as exc:
            problem, status = exc.message, status_of(exc)
    pages = Pages(request, review, visitor)
    nodes = sorted(walk.nodes.values(), key=lambda node: (node.depth, node.kind, node.label))
    numbers = {node.key: number for number, node in enumerate(nodes)}
    layout = graph_layout.place({n.key: n.depth for n in nodes}, walk.edges)
    return pages.page(
        "lineage.html",
        status=status,
        section="Lineage",
        target=target,
        problem=problem,
        walk=walk,
        further=pages.url("/lineage", target=target, depth=api.DEPTH) if depth < api.DEPTH else "",
        layout=layout,
        lines=[
            (numbers[a], numbers[b], line)
            for (a, b), line in zip(walk.edges, layout.lines, strict=True)
        ],
        boxes=[_box(node, numbers[node.key], layout, pages) for node in nodes],
        rows=[_row(node, pages) for node in nodes],
        production=[_row(n, pages) for n in nodes if n.kind == "version" and n.detail],
        box=(graph_layout.BOX_WIDTH, graph_layout.BOX_HEIGHT),
    )


def _around(review: Review, visitor: Visitor, target: str, depth: int, runs: int) -> View:
    """Return what is around a target, as far as MLflow lets the visitor read it."""
    if not _ASKABLE.fullmatch(target):
        raise MlflowException(
            "This cannot be searched for: it has a quote or a control character. Nothing was read.",
            INVALID_PARAMETER_VALUE,
        )
    client = VisitorClient(review, visitor)
    return view_of(api.around_for(client, target, runs=runs, most_nodes=MAX_NODES, depth=depth))


def _box(node: Node, number: int, layout: graph_layout.Layout, pages: Pages) -> dict[str, Any]:
    label = node.label
    if len(label) > _LABEL_CHARACTERS:
        label = f"...{label[-_LABEL_CHARACTERS + 3 :]}"
    x, y = layout.places[node.key]
    return {
        "number": number,
        "depth": node.depth,
        "x": x,
        "y": y,
        "label": label,
        "title": f"{node.kind} {node.key}",
        "under": f"{node.kind} {node.detail}"[:34],
        "href": pages.url("/lineage", target=node.key),
        "is_focus": node.depth == 0,
    }


def _row(node: Node, pages: Pages) -> dict[str, Any]:
    where = "target" if node.depth == 0 else "upstream" if node.depth < 0 else "downstream"
    href = ""
    if node.kind == "version":
        href = pages.url("/models/model", name=node.key.removeprefix("models:/").rpartition("/")[0])
    return {
        "where": f"{where} {abs(node.depth)}" if node.depth else where,
        "kind": node.kind,
        "label": node.label,
        "key": node.key,
        "detail": node.detail,
        "lacks": node.lacks,
        "href": href,
        "lineage": pages.url("/lineage", target=node.key),
    }
