"""The page for admins: what ``mlflow-pack doctor`` finds, and the webhooks that wait."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import HTMLResponse

from mlflow_plugins_pack.approvals.api.dependencies import ReviewOf, VisitorOf
from mlflow_plugins_pack.approvals.database.tables import outbox
from mlflow_plugins_pack.approvals.domain.review_pages import ROOT
from mlflow_plugins_pack.approvals.reports import doctor
from mlflow_plugins_pack.approvals.web.rendering import Pages
from mlflow_plugins_pack.findings import Finding
from mlflow_plugins_pack.uris import REGISTRY_WORD

router = APIRouter(prefix=ROOT, include_in_schema=False)


@router.get("/health")
def health(request: Request, review: ReviewOf, visitor: VisitorOf) -> HTMLResponse:
    """Show the findings to an admin of MLflow."""
    if not visitor.is_admin:
        raise MlflowException(
            "The health page is for admins of MLflow. Nothing was read. Ask an admin, or run "
            "mlflow-pack doctor where the server runs.",
            PERMISSION_DENIED,
        )
    uri = f"{REGISTRY_WORD}{review.store.db_uri}"
    findings: list[Finding] = review.now_and_then("doctor", lambda: doctor.check(uri))
    order = {"error": 0, "warning": 1, "ok": 2}
    return Pages(request, review, visitor).page(
        "health.html",
        section="Health",
        findings=[
            {"level": f.level, "subject": f.subject, "text": f.message}
            for f in sorted(findings, key=lambda f: order[f.level])
        ],
        events=review.read(visitor, lambda s, _: _events(s)),
    )


def _events(session: Session) -> list[dict[str, Any]]:
    query = (
        sa.select(
            outbox.c.state,
            sa.func.count().label("count"),
            sa.func.min(outbox.c.created_at).label("oldest"),
            sa.func.max(outbox.c.last_error).label("problem"),
        )
        .group_by(outbox.c.state)
        .order_by(outbox.c.state)
    )
    return [dict(row._mapping) for row in session.execute(query)]
