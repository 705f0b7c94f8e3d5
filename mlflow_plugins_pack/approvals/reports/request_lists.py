"""Lists requests for a person: those that wait for their vote, their own, all, the closed ones.

Each list takes a constant number of statements, whatever the number of requests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database.tables import comments, decisions, requests
from mlflow_plugins_pack.approvals.domain.request_states import Rule, State, Tally, due_state, tally
from mlflow_plugins_pack.approvals.domain.targets import parse_target
from mlflow_plugins_pack.approvals.ledger.requests import Decision, Request, to_request
from mlflow_plugins_pack.approvals.policy import eligibility
from mlflow_plugins_pack.approvals.policy.models import Policy

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
        version: The number of a version; 0: any.
        sort: The order.
    """

    text: str = ""
    target: str = ""
    model: str = ""
    version: int = 0
    sort: Sort = "newest"


_ORDER: Mapping[str, Sequence[Any]] = {
    "newest": (requests.c.updated_at.desc(), requests.c.id),
    "oldest": (requests.c.updated_at, requests.c.id),
    "model": (requests.c.name, requests.c.version.desc(), requests.c.id),
}
# What tells whose turn it is. Whole rows of 10,000 requests take three times as long to read.
_IN_BRIEF = ("id", "workspace", "name", "version", "target", "action", "requester", "creator")
_BRIEF = sa.select(*(requests.c[name] for name in (*_IN_BRIEF, "run_user", "policy", "updated_at")))


def find(session: Session, request_id: str) -> Request | None:
    """Return a request by its id."""
    row = session.execute(sa.select(requests).where(requests.c.id == request_id)).first()
    return None if row is None else to_request(row._mapping)


def listed(
    session: Session,
    policy: Policy,
    view: Literal["mine", "open", "history"],
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
    where = [*_conditions(view, workspace, user), *_limits(filters)]
    query = sa.select(requests).where(*where).order_by(*_ORDER[filters.sort])
    return _read(session, policy, query.offset(offset).limit(limit), user, now_ms)


def with_ids(
    session: Session, policy: Policy, ids: Sequence[str], *, user: str | None, now_ms: int
) -> list[ListedRequest]:
    """Return a few requests by their ids, in the order of these."""
    if not ids:
        return []
    query = sa.select(requests).where(requests.c.id.in_(ids))
    found = {row.request.id: row for row in _read(session, policy, query, user, now_ms)}
    return [found[key] for key in ids if key in found]


def _read(
    session: Session, policy: Policy, query: sa.Select[Any], user: str | None, now_ms: int
) -> list[ListedRequest]:
    found = [to_request(row._mapping) for row in session.execute(query)]
    cast = votes_of(session, [request.id for request in found])
    needs = _Needs(policy, user)
    return [_listed(needs, request, cast.get(request.id, ()), user, now_ms) for request in found]


def waiting(
    session: Session, policy: Policy, *, workspace: str, user: str | None, now_ms: int
) -> list[Any]:
    """Return the requests for which a person's approval would count, newest first.

    Only the policy knows whose turn it is, so all open requests are looked at; their rows have the
    columns that this takes, and those that `chosen` asks.
    """
    if user is None:
        return []
    where = [*_conditions("open", workspace, user), requests.c.state == State.PENDING.value]
    where.append(sa.or_(requests.c.expires_at.is_(None), requests.c.expires_at > now_ms))
    rows = session.execute(_BRIEF.where(*where).order_by(*_ORDER["newest"])).all()
    needs = _Needs(policy, user)
    asked = [(row, need) for row in rows if (need := needs.of(row)).asks_viewer]
    if not asked:
        return []
    approved: dict[str, tuple[str, ...]] = {}
    query = sa.select(decisions.c.request_id, decisions.c.approver).where(
        decisions.c.verdict == "approve",
        decisions.c.request_id.in_(sa.select(requests.c.id).where(*where)),
    )
    for request_id, approver in session.execute(query).all():
        approved[request_id] = (*approved.get(request_id, ()), approver)
    return [row for row, need in asked if needs.waits(need, row, approved.get(row.id, ()), user)]


def chosen(rows: Iterable[Any], filters: Filters) -> list[Any]:
    """Return those of `waiting` that filters leave, in their order."""
    text = filters.text.casefold()
    found = [
        row
        for row in rows
        if (not text or text in row.name.casefold() or text in row.requester.casefold())
        and filters.target in ("", row.target)
        and filters.model in ("", row.name)
        and filters.version in (0, row.version)
    ]
    if filters.sort == "oldest":
        found.sort(key=lambda row: (row.updated_at, row.id))
    elif filters.sort == "model":
        found.sort(key=lambda row: (row.name, -row.version, row.id))
    return found


def count_of_own(session: Session, *, workspace: str, user: str | None) -> int:
    """Return how many of a person's requests are open."""
    query = sa.select(sa.func.count()).select_from(requests)
    return session.execute(query.where(*_conditions("mine", workspace, user))).scalar_one()


def _conditions(view: View, workspace: str, user: str | None) -> list[Any]:
    where: list[Any] = [requests.c.workspace == workspace]
    is_closed = view == "history"
    where.append(requests.c.open_key.is_(None) if is_closed else requests.c.open_key.is_not(None))
    if view == "mine":
        where.append(requests.c.requester == (user or ""))
    return where


def _limits(filters: Filters) -> list[Any]:
    where: list[Any] = []
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
    if filters.version:
        where.append(requests.c.version == filters.version)
    return where


def votes_of(session: Session, ids: Sequence[str]) -> dict[str, list[Decision]]:
    """Return the votes on a few requests, oldest first, by request."""
    if not ids:
        return {}
    query = sa.select(decisions).where(decisions.c.request_id.in_(ids))
    found: dict[str, list[Decision]] = defaultdict(list)
    for row in session.execute(query.order_by(decisions.c.decided_at, decisions.c.approver)):
        vote = Decision(row.approver, row.verdict, row.comment, row.decided_at)
        found[row.request_id].append(vote)
    return found


@dataclass
class _Need:
    """What requests that are alike need.

    Attributes:
        rules: The approvals; None: no policy protects the target.
        asks_viewer: Whether the viewer is among those whose approval can count.
        tallies: What the approvals of some people count for.
        waits: Whether the viewer's approval would count, by the people behind a request and those
            who approved it.
    """

    rules: tuple[Rule, ...] | None
    asks_viewer: bool
    tallies: dict[frozenset[str], Tally] = field(default_factory=dict)
    waits: dict[tuple[str | None, ...], bool] = field(default_factory=dict)

    def tally(self, people: Iterable[str]) -> Tally:
        """Return what the approvals of people count for."""
        key = frozenset(people)
        if key not in self.tallies:
            self.tallies[key] = tally(self.rules or (), key)
        return self.tallies[key]


class _Needs:
    """What requests need and have, worked out once where many requests are alike.

    Args:
        policy: In force.
        viewer: Who looks at them.
    """

    def __init__(self, policy: Policy, viewer: str | None) -> None:
        self.policy = policy
        self._viewer = viewer
        self._known: dict[tuple[str, ...], _Need] = {}

    def of(self, request: Any) -> _Need:
        """Return what a request needs, given as itself or as a row of its columns."""
        key = (request.workspace, request.name, str(request.target), request.action, request.policy)
        found = self._known.get(key)
        if found is None:
            rules = rules_of(self.policy, request)
            asks = any(self._viewer in rule.members for rule in rules or ())
            found = self._known[key] = _Need(rules, asks)
        return found

    def waits(self, need: _Need, request: Any, approved: Iterable[str], user: str) -> bool:
        """Return whether a user's approval would count for a pending request.

        Args:
            need: What it needs.
            request: The request, or a row of its columns.
            approved: Who approved it.
            user: The viewer.
        """
        if not need.asks_viewer:
            return False
        people = (request.requester, request.creator, request.run_user, *approved)
        found = need.waits.get(people)
        if found is None:
            found = need.waits[people] = self._would_count(need, request, people[3:], user)
        return found

    def _would_count(
        self, need: _Need, request: Any, approved: Iterable[str | None], user: str
    ) -> bool:
        defaults = self.policy.defaults
        if eligibility.ban(defaults, request, user) is not None:
            return False
        people = [
            name for name in approved if name and eligibility.ban(defaults, request, name) is None
        ]
        return need.tally([*people, user]).have > need.tally(people).have


def _listed(
    needs: _Needs, request: Request, cast: Iterable[Decision], user: str | None, now_ms: int
) -> ListedRequest:
    votes = tuple(cast)
    state = due_state(request.state, now_ms, request.expires_at, request.valid_until)
    need = needs.of(request)
    shown = request if request.state is state else replace(request, state=state)
    if need.rules is None:
        return ListedRequest(shown, votes, None, False)
    people = eligibility.approvers(needs.policy.defaults, request, votes)
    approved = [vote.approver for vote in votes if vote.verdict == "approve"]
    waits = (
        state is State.PENDING and user is not None and needs.waits(need, request, approved, user)
    )
    return ListedRequest(shown, votes, need.tally(people), waits)


def rules_of(policy: Policy, request: Any) -> tuple[Rule, ...] | None:
    """Return the approvals that a request needs; rollbacks and inherited ones may need fewer.

    Args:
        policy: In force.
        request: The request, or a row of its columns.
    """
    target = request.target
    target = parse_target(target) if isinstance(target, str) else target
    governing = policy.rules_that_may(request.workspace, request.name)
    protecting = [rule for rule in governing if rule.protected(target)]
    # Whether it is a prompt or a model is not known here: the policy it was filed under is.
    own = (rule for rule in protecting if rule.name == request.policy)
    rule = next(own, protecting[0] if protecting else None)
    return None if rule is None else policy.rules_of(rule, request.action)


def find_comment(session: Session, comment_id: str) -> dict[str, Any] | None:
    """Return a comment by its id."""
    row = session.execute(sa.select(comments).where(comments.c.id == comment_id)).first()
    return None if row is None else dict(row._mapping)
