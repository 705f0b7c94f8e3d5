"""Lists requests for a person: those that wait for their vote, their own, all, the closed ones.

Each list takes a constant number of statements, whatever the number of requests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database.tables import comments, decisions, requests
from mlflow_plugins_pack.approvals.domain.request_states import Rule, State, Tally, due_state, tally
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.ledger.requests import Decision, Request, to_request
from mlflow_plugins_pack.approvals.policy import eligibility
from mlflow_plugins_pack.approvals.policy.models import Policy, PolicyRule

View = Literal["waiting", "mine", "open", "history"]
Sort = Literal["newest", "oldest", "model"]


@dataclass(frozen=True)
class ListedRequest:
    """A request with its votes.

    Attributes:
        request: The request, EXPIRED where its time has run out.
        votes: Its votes, oldest first.
        tally: What they count for under the policy in force; None: no policy protects the target.
        waits_for_viewer: Whether the viewer's approval would count.
    """

    request: Request
    votes: tuple[Decision, ...]
    tally: Tally | None
    waits_for_viewer: bool


@dataclass(frozen=True)
class Filters:
    """What a list is limited to.

    Attributes:
        text: Part of the name of the model or of the requester.
        target: The key of a target, such as ``alias:prod``.
        model: The exact name of a model.
        sort: The order.
    """

    text: str = ""
    target: str = ""
    model: str = ""
    sort: Sort = "newest"


_ORDER: Mapping[str, Sequence[Any]] = {
    "newest": (requests.c.updated_at.desc(), requests.c.id),
    "oldest": (requests.c.updated_at, requests.c.id),
    "model": (requests.c.name, requests.c.version.desc(), requests.c.id),
}


def find(session: Session, request_id: str) -> Request | None:
    """Return a request by its id."""
    row = session.execute(sa.select(requests).where(requests.c.id == request_id)).first()
    return None if row is None else to_request(row._mapping)


def listed(
    session: Session,
    policy: Policy,
    view: View,
    *,
    workspace: str,
    user: str | None,
    now_ms: int,
    filters: Filters,
    offset: int = 0,
    limit: int = 100,
) -> list[ListedRequest]:
    """Return a part of a list.

    Args:
        session: To read with.
        policy: In force.
        view: The list.
        workspace: Whose requests.
        user: Who looks at it.
        now_ms: Milliseconds since the epoch.
        filters: What it is limited to.
        offset: How many requests to leave out at its beginning.
        limit: At most so many.
    """
    query = sa.select(requests).where(*_conditions(view, workspace, user, filters))
    query = query.order_by(*_ORDER[filters.sort])
    if view != "waiting":  # whose turn it is, only the policy can say
        query = query.offset(offset).limit(limit)
    found = [to_request(row._mapping) for row in session.execute(query)]
    needed = _NeededApprovals(policy)
    if view == "waiting":
        found = [request for request in found if needed.is_asked(request, user)]
        asked = sa.select(requests.c.id).where(*_conditions(view, workspace, user, filters))
        cast = _votes(session, decisions.c.request_id.in_(asked))
    else:
        cast = votes_of(session, [request.id for request in found])
    rows = [_listed(needed, request, cast.get(request.id, ()), user, now_ms) for request in found]
    if view == "waiting":
        rows = [row for row in rows if row.waits_for_viewer][offset : offset + limit]
    return rows


def counts(
    session: Session, policy: Policy, *, workspace: str, user: str | None, now_ms: int
) -> dict[str, int]:
    """Return how many requests wait for a person's vote, and how many of their own are open."""
    everything: dict[str, Any] = {"workspace": workspace, "user": user, "now_ms": now_ms}
    waiting = listed(session, policy, "waiting", filters=Filters(), limit=1_000_000, **everything)
    mine = sa.select(sa.func.count()).select_from(requests)
    mine = mine.where(*_conditions("mine", workspace, user, Filters()))
    return {"waiting": len(waiting), "mine": session.execute(mine).scalar_one()}


def _conditions(view: View, workspace: str, user: str | None, filters: Filters) -> list[Any]:
    where: list[Any] = [requests.c.workspace == workspace]
    if view == "history":
        where.append(requests.c.open_key.is_(None))
    else:
        where.append(requests.c.open_key.is_not(None))
    if view == "waiting":
        where.append(requests.c.state == State.PENDING.value)
    if view == "mine":
        where.append(requests.c.requester == (user or ""))
    if filters.text:
        where.append(
            sa.or_(
                requests.c.name.icontains(filters.text, autoescape=True),
                requests.c.requester.icontains(filters.text, autoescape=True),
            )
        )
    if filters.target:
        where.append(requests.c.target == filters.target)
    if filters.model:
        where.append(requests.c.name == filters.model)
    return where


def votes_of(session: Session, ids: Sequence[str]) -> dict[str, list[Decision]]:
    """Return the votes on a few requests, oldest first, by request."""
    return _votes(session, decisions.c.request_id.in_(ids)) if ids else {}


def _votes(session: Session, condition: sa.ColumnElement[bool]) -> dict[str, list[Decision]]:
    query = sa.select(decisions).where(condition)
    found: dict[str, list[Decision]] = defaultdict(list)
    for row in session.execute(query.order_by(decisions.c.decided_at, decisions.c.approver)):
        vote = Decision(row.approver, row.verdict, row.comment, row.decided_at)
        found[row.request_id].append(vote)
    return found


class _NeededApprovals:
    """What requests need and have, worked out once where many requests are alike."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._rules: dict[tuple[str, str, Target, str], tuple[Rule, ...] | None] = {}
        self._tallies: dict[tuple[tuple[Rule, ...], frozenset[str]], Tally] = {}

    def of(self, request: Request) -> tuple[Rule, ...] | None:
        """Return the approvals that a request needs; None: no policy protects its target."""
        key = (request.workspace, request.name, request.target, request.action)
        if key not in self._rules:
            self._rules[key] = rules_of(self.policy, request)
        return self._rules[key]

    def tally(self, rules: tuple[Rule, ...], people: Iterable[str]) -> Tally:
        """Return what the approvals of people count for."""
        key = (rules, frozenset(people))
        if key not in self._tallies:
            self._tallies[key] = tally(*key)
        return self._tallies[key]

    def is_asked(self, request: Request, user: str | None) -> bool:
        """Return whether a user is among those whose approval can count."""
        return any(user in rule.members for rule in self.of(request) or ())


def _listed(
    needed: _NeededApprovals,
    request: Request,
    cast: Iterable[Decision],
    user: str | None,
    now_ms: int,
) -> ListedRequest:
    votes, policy = tuple(cast), needed.policy
    state = due_state(request.state, now_ms, request.expires_at, request.valid_until)
    rules = needed.of(request)
    if rules is None:
        return ListedRequest(_in_state(request, state), votes, None, False)
    people = eligibility.approvers(policy.defaults, request, votes)
    have = needed.tally(rules, people)
    waits = (
        state is State.PENDING
        and user is not None
        and needed.is_asked(request, user)
        and eligibility.ban(policy.defaults, request, user) is None
        and needed.tally(rules, [*people, user]).have > have.have
    )
    return ListedRequest(_in_state(request, state), votes, have, waits)


def _in_state(request: Request, state: State) -> Request:
    return request if request.state is state else replace(request, state=state)


def policy_rule_of(policy: Policy, request: Request) -> PolicyRule | None:
    """Return the policy that decides about a request, as far as its row says."""
    rules = policy.rules_that_may(request.workspace, request.name)
    return next((rule for rule in rules if rule.protected(request.target)), None)


def rules_of(policy: Policy, request: Request) -> tuple[Rule, ...] | None:
    """Return the approvals that a request needs; rollbacks and inherited ones may need fewer."""
    rule = policy_rule_of(policy, request)
    return None if rule is None else policy.rules_of(rule, request.action)


def find_comment(session: Session, comment_id: str) -> dict[str, Any] | None:
    """Return a comment by its id."""
    row = session.execute(sa.select(comments).where(comments.c.id == comment_id)).first()
    return None if row is None else dict(row._mapping)
