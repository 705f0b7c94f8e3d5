"""Delivers events, reminds of requests and looks for drift, in one server process at a time.

A thread of each server process asks for the lease every few seconds; the one that holds it works.
When that process dies, `kill -9` included, another takes over once the lease has expired.
"""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import threading
import uuid
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.background import drift, reminders, unbacked_tags
from mlflow_plugins_pack.approvals.content.digest_jobs import DigestJobs
from mlflow_plugins_pack.approvals.database import lease
from mlflow_plugins_pack.approvals.database.tables import audit
from mlflow_plugins_pack.approvals.database.transactions import Transactions
from mlflow_plugins_pack.approvals.domain.targets import parse_target
from mlflow_plugins_pack.approvals.ledger.ledger import Ledger
from mlflow_plugins_pack.approvals.policy.models import Policy
from mlflow_plugins_pack.approvals.webhooks import outbox, sender
from mlflow_plugins_pack.approvals.webhooks.outbox import Delivery

_logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
PAUSE_SECONDS = 30.0
"""After a failure."""
LEASE_MS = 30_000
DRIFT_MS = 60_000
LEASE = "worker"
ACTOR = "system:drift"
_BATCH = 50


def is_server_process() -> bool:
    """Return whether this is a server process: its environment names the server's stores."""
    from mlflow.server.constants import BACKEND_STORE_URI_ENV_VAR

    return BACKEND_STORE_URI_ENV_VAR in os.environ


class Worker:
    """The background work of one store.

    Args:
        transactions: The store's transactions.
        policy: Gives the policy in force.
        now_ms: The clock.
        digest_jobs: The store's digest jobs; those of dead processes are taken over.
    """

    def __init__(
        self,
        transactions: Transactions,
        policy: Callable[[], Policy],
        now_ms: Callable[[], int],
        digest_jobs: DigestJobs | None = None,
    ) -> None:
        self._transactions = transactions
        self._digest_jobs = digest_jobs
        self._policy = policy
        self._now_ms = now_ms
        self._name = f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._looked_for_drift_at = 0

    def start(self) -> None:
        """Work in the background until the process ends."""
        threading.Thread(target=self._run, name="mlflow-pack-approvals-worker", daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            seconds = POLL_SECONDS
            try:
                self.step()
            except Exception:
                # The server must go on, and a database that is down for long must not fill the log.
                seconds = PAUSE_SECONDS
                _logger.warning("Delivering events and looking for drift failed", exc_info=True)
            pause.wait(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    def step(self) -> bool:
        """Do what is due, if this process may; False if another one does."""
        now = self._now_ms()
        read, write = self._transactions.read, self._transactions.write
        if not read(lambda s: lease.is_obtainable(s, LEASE, self._name, now)):
            return False
        if not write(lambda s: self._hold_lease(s)):
            return False
        if now - self._looked_for_drift_at >= DRIFT_MS:
            self._looked_for_drift_at = now
            unbacked_tags.remove(self._transactions, self._policy())
            self.record_drift()
            reminders.record(self._transactions, self._policy(), now)
        if self._digest_jobs is not None:
            self._digest_jobs.resume()
        self.deliver()
        return True

    def _hold_lease(self, session: Session) -> bool:
        return lease.acquire(session, LEASE, self._name, self._now_ms(), LEASE_MS)

    # --- events -------------------------------------------------------------------------------

    def deliver(self) -> int:
        """Attempt every delivery that is due; return how many were made."""
        made = 0
        while True:
            now = self._now_ms()
            batch = self._transactions.read(lambda s, n=now: outbox.due(s, n, _BATCH))  # type: ignore[misc]
            for delivery in batch:
                # Renewed in between: a slow receiver must not let two processes deliver.
                if not self._transactions.write(self._hold_lease):
                    return made
                made += self._attempt(delivery)
            if len(batch) < _BATCH:
                return made

    def _attempt(self, delivery: Delivery) -> bool:
        events = self._policy().file.events
        known = {receiver.key: receiver for receiver in events.receivers}
        receiver = known.get(delivery.url)
        problem: str | None = "the policy no longer names this receiver"
        if receiver is not None:
            problem = sender.send(receiver, delivery, self._now_ms(), events.mail_server)
        now, luck = self._now_ms(), random.random()  # noqa: S311 - jitter
        if problem is None:
            self._transactions.write(lambda s: outbox.note_success(s, delivery, now))
            return True
        why = problem
        self._transactions.write(lambda s: outbox.note_failure(s, delivery, now, luck, why))
        _logger.info("Event %s was not delivered: %s", delivery.id, why)
        return False

    # --- drift --------------------------------------------------------------------------------

    def record_drift(self) -> int:
        """Write new drift to the audit log; return how many findings were new."""
        policy = self._policy()
        now = self._now_ms()
        findings = self._transactions.read(lambda s: drift.find(s, policy, now))
        new = [s for s in findings if not self._transactions.read(lambda t, x=s: _is_known(t, x))]  # type: ignore[misc]
        for finding in new:
            _logger.warning("%s of '%s': %s", finding.target, finding.model, finding.why)
        if new:
            self._transactions.write(lambda s: self._record(s, policy, new))
        return len(new)

    def _record(self, session: Session, policy: Policy, findings: list[drift.DriftFinding]) -> None:
        ledger = Ledger(session, self._now_ms(), ACTOR, policy)
        for finding in findings:
            ledger.record(
                "DRIFT",
                workspace=finding.workspace,
                name=finding.model,
                version=finding.version,
                target=parse_target(finding.target).key,
                after={"kind": finding.kind.value, "why": finding.why},
            )


def _is_known(session: Session, finding: drift.DriftFinding) -> bool:
    """Return whether the newest entry about the target is this very drift."""
    target = parse_target(finding.target).key
    query = (
        sa.select(audit.c.action, audit.c.version, audit.c.after)
        .where(
            audit.c.workspace == finding.workspace,
            audit.c.name == finding.model,
            audit.c.target == target,
            audit.c.action.in_(("APPLIED", "DRIFT")),
        )
        .order_by(audit.c.seq.desc())
        .limit(20)
    )
    for row in session.execute(query):
        if row.action != "DRIFT":
            return False
        kind = json.loads(row.after or "{}").get("kind")
        if row.version == finding.version and kind == finding.kind.value:
            return True
    return False
