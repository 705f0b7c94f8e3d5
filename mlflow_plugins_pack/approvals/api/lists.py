"""A page of a list of requests, without those on models that the visitor may not read."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.reports import request_lists
from mlflow_plugins_pack.approvals.reports.request_lists import Filters, ListedRequest, View

PAGE_SIZE = 25
_MAX_MODELS = 200
"""About so many models MLflow is asked for one page; the next page goes on from there."""


@dataclass(frozen=True)
class Page:
    """A part of a list.

    Attributes:
        rows: The requests.
        next_offset: Where the next part begins; None: this is the last one.
    """

    rows: list[ListedRequest]
    next_offset: int | None


def page_of(
    review: Review, visitor: Visitor, view: View, filters: Filters, offset: int, size: int
) -> Page:
    """Return a part of a list of requests."""
    rows: list[ListedRequest] = []
    asked: set[str] = set()
    now = clock.now_ms()
    while True:
        start, limit = offset, size + 1
        batch = review.read(
            visitor,
            lambda s, policy: request_lists.listed(
                s,
                policy,
                view,
                workspace=visitor.workspace,
                user=visitor.user,
                now_ms=now,
                filters=filters,
                offset=start,  # noqa: B023 - called at once
                limit=limit,  # noqa: B023
            ),
        )
        for row in batch:
            if len(rows) == size or len(asked) > _MAX_MODELS:
                return Page(rows, offset)
            offset += 1
            asked.add(row.request.name)
            if review.may_read(visitor, row.request.name):
                rows.append(row)
        if len(batch) < limit:
            return Page(rows, None)
