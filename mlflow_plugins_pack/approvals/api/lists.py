"""Pages of lists of requests, without those on models that the visitor may not read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.policy.models import Policy
from mlflow_plugins_pack.approvals.reports import request_lists
from mlflow_plugins_pack.approvals.reports.request_lists import Filters, ListedRequest, View

PAGE_SIZE = 25
_MAX_MODELS = 200
"""About so many models MLflow is asked for one page; the next page goes on from there."""
_LATER_BATCH = 200

_Reader = Callable[[Session, Policy, int, int], list[ListedRequest]]
"""Reads so many requests of a list, after leaving out so many."""


@dataclass(frozen=True)
class Page:
    """A part of a list.

    Attributes:
        rows: The requests.
        next_offset: Where the next part begins; None: this is the last one.
    """

    rows: list[ListedRequest]
    next_offset: int | None


class RequestLists:
    """The lists of one visitor, at one moment.

    Args:
        review: The review app's parts.
        visitor: Who asks.
    """

    def __init__(self, review: Review, visitor: Visitor) -> None:
        self._review, self._visitor = review, visitor
        self._now = clock.now_ms()
        self._who: dict[str, Any] = {"workspace": visitor.workspace, "user": visitor.user}

    @functools.cached_property
    def _waiting(self) -> list[Any]:
        return self._review.read(
            self._visitor,
            lambda s, policy: request_lists.waiting(s, policy, now_ms=self._now, **self._who),
        )

    def counts(self) -> dict[str, int]:
        """Return how many requests wait for the visitor, and how many of their own are open."""
        own = self._review.read(
            self._visitor, lambda s, _: request_lists.count_of_own(s, **self._who)
        )
        return {"waiting": len(self._waiting), "mine": own}

    def page(self, view: View, filters: Filters, offset: int, size: int) -> Page:
        """Return a part of a list."""
        read, limit = self._reader(view, filters), size + 1
        rows: list[ListedRequest] = []
        asked: set[str] = set()
        while True:
            start, count = offset, limit
            batch = self._review.read(self._visitor, lambda s, p: read(s, p, start, count))  # noqa: B023 - called at once
            readable = self._review.readable(self._visitor, {row.request.name for row in batch})
            for row in batch:
                if len(rows) == size or len(asked) > _MAX_MODELS:
                    return Page(rows, offset)
                offset += 1
                asked.add(row.request.name)
                if row.request.name in readable:
                    rows.append(row)
            if len(batch) < limit:
                return Page(rows, None)
            limit = _LATER_BATCH

    def _reader(self, view: View, filters: Filters) -> _Reader:
        if view == "waiting":
            ids = [row.id for row in request_lists.chosen(self._waiting, filters)]

            def read(s: Session, policy: Policy, start: int, count: int) -> list[ListedRequest]:
                some = ids[start : start + count]
                user = self._visitor.user
                return request_lists.with_ids(s, policy, some, user=user, now_ms=self._now)

            return read
        return lambda s, policy, start, count: request_lists.listed(
            s,
            policy,
            view,
            now_ms=self._now,
            filters=filters,
            offset=start,
            limit=count,
            **self._who,
        )
