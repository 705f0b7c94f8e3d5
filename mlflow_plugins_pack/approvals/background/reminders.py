"""Reminds of requests and approvals that expire soon, if the policy says how long before."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database.tables import audit, requests
from mlflow_plugins_pack.approvals.database.transactions import Transactions
from mlflow_plugins_pack.approvals.domain.request_states import State
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.ledger.requests import Request, to_request
from mlflow_plugins_pack.approvals.policy.models import Policy

ACTOR = "system:reminder"
ACTION = "REMINDED"
_AT_ONCE = 100
# A request waits until one time, and its approval is good until the other.
_ends = sa.case(
    (requests.c.state == State.APPROVED.value, requests.c.valid_until),
    else_=requests.c.expires_at,
)


def record(transactions: Transactions, policy: Policy, now_ms: int) -> int:
    """Write reminders to the audit log, from which they are delivered; return how many.

    Each state of a request is reminded of once: its approval may expire as well as itself.
    """
    before = policy.file.events.remind_before
    if before is None:
        return 0
    until = now_ms + before * 1000
    due = transactions.read(lambda s: _due(s, now_ms, until))
    if due:
        transactions.write(lambda s: _record(s, policy, now_ms, due))
    return len(due)


def _due(session: Session, now_ms: int, until_ms: int) -> list[Request]:
    reminded = sa.exists().where(
        audit.c.request_id == requests.c.id,
        audit.c.action == ACTION,
        audit.c.created_at >= requests.c.updated_at,
    )
    query = (
        sa.select(requests)
        .where(
            requests.c.state.in_((State.PENDING.value, State.APPROVED.value)),
            requests.c.action != "review",
            _ends > now_ms,
            _ends <= until_ms,
            ~reminded,
        )
        .order_by(requests.c.created_at, requests.c.id)
        .limit(_AT_ONCE)
    )
    return [to_request(row._mapping) for row in session.execute(query)]


def _record(session: Session, policy: Policy, now_ms: int, due: list[Request]) -> None:
    ledger = Ledger(session, now_ms, ACTOR, policy)
    for request in due:
        is_approved = request.state is State.APPROVED
        ends = request.valid_until if is_approved else request.expires_at
        after = {"action": request.action, "state": request.state.value, "expires_at": ends}
        ledger.record_request(ACTION, request, after=after)
