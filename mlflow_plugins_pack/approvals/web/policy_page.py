"""The page of the policy: what it asks of a model, before anyone tries."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse

from mlflow_plugins_pack.approvals.api.dependencies import ReviewOf, VisitorOf
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.domain.review_pages import ROOT
from mlflow_plugins_pack.approvals.policy.models import PolicyRule
from mlflow_plugins_pack.approvals.reports.explain import explain
from mlflow_plugins_pack.approvals.web.rendering import Pages

router = APIRouter(prefix=ROOT, include_in_schema=False)

Text = Annotated[str, Query(max_length=256)]
_LABELS = {
    "promote": "Approvals",
    "demote": "To take it away",
    "from": "Comes from",
    "checks": "Checks",
    "rollback": "To go back",
    "freeze": "Freeze windows",
    "frozen": "Frozen now",
    "break_glass": "Break-glass",
    "consume": "Consumers",
    "sources_under": "Files under",
    "require": "Files must be",
    "inherit_from": "Inherits approvals of",
    "terms": "Terms",
    "no_vote": "No vote for",
    "as": "The user",
}


@router.get("/policy")
def policy(
    request: Request,
    review: ReviewOf,
    visitor: VisitorOf,
    model: Text = "",
    kind: Literal["model", "prompt"] = "model",
    as_user: Text = "",
) -> HTMLResponse:
    """Show the policies, or what they ask of one model or prompt."""
    in_force = review.read(visitor, lambda _, policy: policy)
    rows: list[dict[str, Any]] = []
    if model:
        found = explain(
            in_force,
            visitor.workspace,
            model,
            is_prompt=kind == "prompt",
            now_ms=clock.now_ms(),
            user=as_user or visitor.user,
        )
        rows = [_row(row) for row in found]
    return Pages(request, review, visitor).page(
        "policy.html",
        section="Policy",
        sha256=in_force.sha256,
        count=len(in_force.file.policies),
        policies=[_summary(rule) for rule in in_force.file.policies],
        model=model,
        kind=kind,
        as_user=as_user,
        rows=rows,
    )


def _row(row: dict[str, Any]) -> dict[str, Any]:
    facts = [(label, row[key]) for key, label in _LABELS.items() if key in row]
    return {"target": row["target"], "policy": row["policy"], "facts": facts}


def _summary(rule: PolicyRule) -> dict[str, str]:
    match = rule.match
    parts = [("models", match.models), ("prompts", match.prompts), ("not", match.exclude)]
    if match.workspaces != ["*"]:
        parts.append(("in workspaces", match.workspaces))
    return {
        "name": rule.name,
        "matches": ", ".join(f"{what} {' '.join(names)}" for what, names in parts if names),
        "targets": ", ".join(target.tag for target in rule.all_targets()),
    }
