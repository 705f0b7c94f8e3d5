"""Writes votes on requests."""

from __future__ import annotations

import sqlalchemy as sa

from mlflow_plugins_pack.approvals.database.tables import decisions
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.ledger.requests import Request


def cast(ledger: Ledger, request: Request, verdict: str, comment: str | None) -> bool:
    """Record the actor's vote; False if it was there already."""
    if ledger.actor is None:
        raise AssertionError("a vote needs a person")
    mine = [v for v in ledger.votes(request) if v.approver == ledger.actor]
    if mine and mine[0].verdict == verdict:
        return False
    values = {"verdict": verdict, "comment": comment, "decided_at": ledger.now_ms}
    key = {"request_id": request.id, "approver": ledger.actor}
    if mine:
        ledger.session.execute(
            sa.update(decisions)
            .where(*(decisions.c[name] == value for name, value in key.items()))
            .values(values)
        )
    else:
        ledger.session.execute(sa.insert(decisions).values(**key, **values))
    ledger.forget_votes(request)
    ledger.record_request("VOTED", request, after={"verdict": verdict, "comment": comment})
    return True


def withdraw(ledger: Ledger, request: Request, comment: str | None) -> bool:
    """Withdraw the actor's vote; False if they have not voted."""
    gone = ledger.session.execute(
        sa.delete(decisions).where(
            decisions.c.request_id == request.id, decisions.c.approver == ledger.actor
        )
    )
    if gone.rowcount == 0:  # type: ignore[attr-defined]
        return False
    ledger.forget_votes(request)
    ledger.record_request("VOTE_WITHDRAWN", request, after={"comment": comment})
    return True
