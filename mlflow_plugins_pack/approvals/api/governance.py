"""Endpoints of what governs models: policy, holders of targets, audit log, and their metrics."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from pydantic import BaseModel

from mlflow_plugins_pack.approvals.api import audit
from mlflow_plugins_pack.approvals.api.audit import AuditFilters
from mlflow_plugins_pack.approvals.api.dependencies import ReviewOf, VisitorOf
from mlflow_plugins_pack.approvals.api.errors import ANSWERS
from mlflow_plugins_pack.approvals.api.requests import PREFIX
from mlflow_plugins_pack.approvals.background import drift
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.domain.targets import parse_target
from mlflow_plugins_pack.approvals.reports import holders, metrics
from mlflow_plugins_pack.approvals.reports.explain import explain

router = APIRouter(prefix=PREFIX, tags=["Governance"], responses=ANSWERS)

Name = Annotated[str, Query(min_length=1, max_length=256)]
Text = Annotated[str, Query(max_length=256)]


class TenureRow(BaseModel):
    """A time during which a version held a target; ``until`` is null while it lasts."""

    target: str
    version: int | None
    since: int
    until: int | None
    actor: str | None
    approvers: list[str]
    basis: str
    request_id: str | None


class AuditEntry(BaseModel):
    """An entry of the audit log; ``before`` and ``after`` are JSON texts, as they are hashed."""

    seq: int
    created_at: int
    actor: str | None
    action: str
    workspace: str | None
    name: str | None
    version: int | None
    target: str | None
    request_id: str | None
    before: str | None
    after: str | None
    policy_sha256: str | None
    prev_hash: str
    hash: str


class AuditPage(BaseModel):
    """Entries, newest first; ``next_page_token`` is empty at the end."""

    entries: list[AuditEntry]
    next_page_token: str


class VerificationRow(BaseModel):
    """Whether each entry's hash follows from the one before."""

    is_intact: bool
    entries: int
    head: str
    broken_at: int | None
    problem: str | None


@router.get("/policy/explain")
def explain_policy(
    model: Name,
    review: ReviewOf,
    visitor: VisitorOf,
    kind: Literal["model", "prompt"] = "model",
    user: Text = "",
) -> list[dict[str, Any]]:
    """Return what each protected target of a model or prompt needs; empty: nothing is protected."""
    policy = review.read(visitor, lambda _, policy: policy)
    return explain(
        policy,
        visitor.workspace,
        model,
        is_prompt=kind == "prompt",
        now_ms=clock.now_ms(),
        user=user or visitor.user,
    )


@router.get("/holders")
def list_holders(model: Name, review: ReviewOf, visitor: VisitorOf) -> list[TenureRow]:
    """Return which versions held each protected alias and stage of a model, newest first."""
    review.require_read(visitor, model)
    found = review.read(visitor, lambda s, _: holders.timelines(s, visitor.workspace, model))
    return [
        TenureRow(target=parse_target(key).tag, **vars(tenure))
        for key, tenures in found.items()
        for tenure in tenures
    ]


@router.get("/audit")
def list_audit(
    review: ReviewOf,
    visitor: VisitorOf,
    model: Text = "",
    actor: Text = "",
    action: Text = "",
    request_id: Annotated[str, Query(pattern=r"^[0-9a-f]{0,32}$")] = "",
    page_token: Annotated[str, Query(pattern=r"^[0-9]{0,18}$")] = "",
    page_size: Annotated[int, Query(ge=1, le=500)] = 100,
) -> AuditPage:
    """List the entries about models that the caller may read."""
    filters = AuditFilters(model, actor, action, request_id)
    before = int(page_token) if page_token else None
    entries, rest = audit.page_of(review, visitor, filters, before, page_size)
    return AuditPage(
        entries=[AuditEntry(**entry) for entry in entries],
        next_page_token="" if rest is None else str(rest),
    )


@router.get("/audit/verification")
def verify_audit(review: ReviewOf, visitor: VisitorOf) -> VerificationRow:
    """Return whether the whole log holds; it is read at most twice a minute."""
    found = audit.verification(review, visitor)
    return VerificationRow(is_intact=found.is_intact, **vars(found))


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def read_metrics(review: ReviewOf, visitor: VisitorOf) -> Response:
    """Return figures of all workspaces for Prometheus, to admins of MLflow."""
    if not visitor.is_admin:
        raise MlflowException(
            "Metrics are for admins of MLflow. Nothing was read. Give Prometheus the credentials "
            "of one, or run mlflow-pack approvals metrics where the server runs.",
            PERMISSION_DENIED,
        )
    findings = review.now_and_then("drift", lambda: review.read(visitor, drift.find))
    figures = review.read(visitor, lambda s, _: metrics.read(s, review.refusals, findings))
    return Response(metrics.as_text(figures), media_type=metrics.CONTENT_TYPE)
