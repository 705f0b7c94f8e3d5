"""The page of lineage: where a version's data came from, and what was made of data."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from mlflow.exceptions import MlflowException
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import HTMLResponse

from mlflow_plugins_pack.approvals.api.dependencies import ReviewOf, VisitorOf
from mlflow_plugins_pack.approvals.api.errors import ANSWERS
from mlflow_plugins_pack.approvals.api.requests import PREFIX
from mlflow_plugins_pack.approvals.domain.review_pages import ROOT
from mlflow_plugins_pack.approvals.web.rendering import Pages, status_of
from mlflow_plugins_pack.review import graph_layout
from mlflow_plugins_pack.review.lineage_walk import Node, Walk, Walker

router = APIRouter()

Target = Annotated[str, Query(max_length=2000)]
_LABEL_CHARACTERS = 27


class NodeRow(BaseModel):
    """A run, a version or data; ``depth`` is negative upstream of the target."""

    key: str
    kind: str
    label: str
    depth: int
    detail: str


class EdgeRow(BaseModel):
    """The way that data went."""

    source: str
    to: str
    verb: str


class LineageRow(BaseModel):
    """What is around a target; ``is_cut``: there is more."""

    nodes: list[NodeRow]
    edges: list[EdgeRow]
    is_cut: bool
    hidden: int


@router.get(f"{PREFIX}/lineage", tags=["Lineage"], responses=ANSWERS)
def lineage_of(
    target: Annotated[str, Query(min_length=1, max_length=2000)],
    review: ReviewOf,
    visitor: VisitorOf,
) -> LineageRow:
    """Return what is upstream and downstream of a run, version, alias, URI or digest."""
    walk = Walker(review, visitor).around(target)
    return LineageRow(
        nodes=[NodeRow(**vars(node)) for node in walk.nodes.values()],
        edges=[EdgeRow(source=a, to=b, verb=verb) for (a, b), verb in walk.edges.items()],
        is_cut=walk.is_cut,
        hidden=walk.hidden,
    )


@router.get(f"{ROOT}/lineage", include_in_schema=False)
def lineage(
    request: Request, review: ReviewOf, visitor: VisitorOf, target: Target = ""
) -> HTMLResponse:
    """Show what is upstream and downstream of a target, as a graph and as a table."""
    walk, problem, status = Walk(), "", 200
    target = target.strip()
    if target:
        try:
            walk = Walker(review, visitor).around(target)
        except MlflowException as exc:
            problem, status = exc.message, status_of(exc)
    pages = Pages(request, review, visitor)
    nodes = sorted(walk.nodes.values(), key=lambda node: (node.depth, node.kind, node.label))
    layout = graph_layout.place({n.key: n.depth for n in nodes}, walk.edges)
    return pages.page(
        "lineage.html",
        status=status,
        section="Lineage",
        target=target,
        problem=problem,
        walk=walk,
        layout=layout,
        boxes=[_box(node, layout, pages) for node in nodes],
        rows=[_row(node, pages) for node in nodes],
        production=[_row(n, pages) for n in nodes if n.kind == "version" and n.detail],
        box=(graph_layout.BOX_WIDTH, graph_layout.BOX_HEIGHT),
    )


def _box(node: Node, layout: graph_layout.Layout, pages: Pages) -> dict[str, Any]:
    label = node.label
    if len(label) > _LABEL_CHARACTERS:
        label = f"...{label[-_LABEL_CHARACTERS + 3 :]}"
    x, y = layout.places[node.key]
    return {
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
        "href": href,
        "lineage": pages.url("/lineage", target=node.key),
    }
