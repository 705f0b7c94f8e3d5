"""The one loop in which every change and command is decided.

1. Preview: read what the call is about, without a lock.
2. Gather: hash the version's files and read its run, outside any transaction.
3. Decide: lock the model in a write transaction, plan the change again, decide and record.

Where the third step finds that the evidence does not fit what it sees, the loop starts over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals import caller
from mlflow_plugins_pack.approvals.content import allowed_places, digest, evidence
from mlflow_plugins_pack.approvals.content.digest_jobs import DigestJobs
from mlflow_plugins_pack.approvals.content.evidence import Evidence
from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.database.transactions import Transactions
from mlflow_plugins_pack.approvals.domain import messages
from mlflow_plugins_pack.approvals.domain.request_states import State
from mlflow_plugins_pack.approvals.enforcement.change import (
    Absent,
    EvidenceOutdatedError,
    Outcome,
    Plan,
    Preview,
    ProposedChange,
)
from mlflow_plugins_pack.approvals.enforcement.file_locks import FileLocks
from mlflow_plugins_pack.approvals.ledger import snapshot
from mlflow_plugins_pack.approvals.ledger.requests import Request, find_requests, open_request
from mlflow_plugins_pack.errors import (
    DigestUnavailableError,
    RegistryBusyError,
    SourceNotAllowedError,
    SourceNotPinnedError,
)

MAX_ATTEMPTS = 8

Gather = Callable[[Preview, bool], "Evidence | None"]
"""Gathers the evidence about a preview; True: the decision has asked for it in full."""
Decide = Callable[[Session, "ProposedChange | Absent | None", "Evidence | None"], Outcome[Any]]
"""Decides under the lock."""


class DecisionLoop:
    """Previews, gathers and decides until the evidence fits the decision.

    Args:
        transactions: The store's transactions.
        workspace: Returns the active workspace.
        digest_jobs: Computes the digests of versions' files.
        file_locks: Locks the files of approved versions.
    """

    def __init__(
        self,
        transactions: Transactions,
        workspace: Callable[[], str],
        digest_jobs: DigestJobs,
        file_locks: FileLocks,
    ) -> None:
        self._transactions = transactions
        self._file_locks = file_locks
        self._workspace = workspace
        self._digest_jobs = digest_jobs

    def run(
        self, name: str, plan: Plan, gather: Gather, decide: Decide
    ) -> tuple[Preview, Evidence | None, Outcome[Any]]:
        """Run the three steps, up to `MAX_ATTEMPTS` times.

        Args:
            name: The model's name.
            plan: Reads what the call would do.
            gather: Gathers evidence.
            decide: Decides in a write transaction, with the model locked.

        Returns:
            The last preview, its evidence and the outcome.

        Raises:
            RegistryBusyError: If the model changed between the steps every time.
        """
        for attempt in range(MAX_ATTEMPTS):
            preview = self._transactions.read(lambda s: self._preview(s, plan))
            found = gather(preview, attempt > 0)
            try:
                outcome: Outcome[Any] = self._transactions.write(
                    lambda s, e=found: self._decide(s, name, plan, e, decide)  # type: ignore[misc]
                )
            except EvidenceOutdatedError:
                continue
            return preview, found, outcome
        raise RegistryBusyError(messages.kept_changing(name))

    def _preview(self, session: Session, plan: Plan) -> Preview:
        change = plan(snapshot.snapshot_reader(session, self._workspace(), under_lock=False))
        if not isinstance(change, ProposedChange) or change.action == "demote":
            return Preview(change)
        is_prompt = change.version.is_prompt
        tags = mlflow_tables.version_tags(session, change.version) if is_prompt else {}
        return Preview(change, tags)

    def _decide(
        self,
        session: Session,
        name: str,
        plan: Plan,
        found: Evidence | None,
        decide: Decide,
    ) -> Outcome[Any]:
        mlflow_tables.lock_model(session, self._workspace(), name)
        change = plan(snapshot.snapshot_reader(session, self._workspace(), under_lock=True))
        if isinstance(change, ProposedChange) and found is not None:
            if found.uid != change.version.uid:
                raise EvidenceOutdatedError
            if found.digest is None:
                found = self._digest_jobs.by_now(session, change.version, found)
                if found is None:
                    raise EvidenceOutdatedError
        return decide(session, change, found)

    def evidence_for(
        self, change: ProposedChange, preview: Preview, *, insist: bool
    ) -> Evidence | None:
        """Gather what applying a change needs; None where the decision needs no files.

        Args:
            change: The change.
            preview: The preview of the change.
            insist: Whether a decision has asked for the evidence already.
        """
        if change.action == "demote":
            return None
        files = digest.Files(change.version)
        if files.is_quick:
            # Only filing a request needs the run's user; the loop then comes here again.
            return self._gather(change, preview, files, with_user=insist)
        request = self._transactions.read(lambda s: open_request(s, change.version, change.target))
        is_waiting = (
            request is not None and request.state is State.PENDING and not request.awaits_digest
        )
        if is_waiting and not insist and change.rule.approvals:
            return None
        # A change is applied by files that were read after it was approved.
        is_approved = request is not None and request.state is State.APPROVED
        since_ms = request.updated_at if request is not None and is_approved else 0
        with_user = insist or request is None
        return self._gather(change, preview, files, since_ms, with_user=with_user)

    def vote_evidence(
        self, change: ProposedChange, preview: Preview, *, is_last: bool
    ) -> Evidence | None:
        """Gather what a vote needs; None: the files are those of the request, as far as is known.

        Args:
            change: The change, whose open request is voted on.
            preview: The preview of the change.
            is_last: Whether the vote may be the one that has the change made.
        """
        request = self._transactions.read(lambda s: _open_request(s, change))
        if request is None or (request.digest is None and not request.awaits_digest):
            return None  # it takes a target away, which is about no files
        files = digest.Files(change.version)
        may_differ = not files.is_quick and files.marks_differ(request.file_marks) is True
        is_needed = request.awaits_digest or (is_last and request.action == "promote")
        if not (is_needed or files.is_quick or may_differ):
            return None
        try:
            found = self._gather(change, preview, files, with_user=False)
        except DigestUnavailableError as exc:
            is_read_here = (
                is_needed or caller.in_server() or exc.code != DigestUnavailableError.code
            )
            if is_read_here:
                raise
            # A review app without the server's stores. The call that applies reads the files.
            return None
        return replace(found, may_differ=may_differ)

    def whole_evidence(self, change: ProposedChange, preview: Preview) -> Evidence:
        """Gather a version's digest and run; slow, so never inside a transaction."""
        return self._gather(change, preview, digest.Files(change.version))

    def _gather(
        self,
        change: ProposedChange,
        preview: Preview,
        files: digest.Files,
        since_ms: int = 0,
        *,
        with_user: bool = True,
    ) -> Evidence:
        allowed = change.rule.sources_under
        if files.place is not None and not allowed_places.is_allowed(files.place, allowed):
            raise SourceNotAllowedError(
                messages.source_not_allowed(
                    name=change.version.name,
                    version=change.version.version,
                    location=files.place,
                    policy=change.rule.name,
                    allowed=allowed,
                )
            )
        if change.rule.require == "pinned" and not files.is_pinned:
            raise SourceNotPinnedError(
                messages.not_pinned_by_its_store(
                    name=change.version.name,
                    version=change.version.version,
                    location=files.place or "",
                    policy=change.rule.name,
                )
            )
        locked_for = self._lock(change, files)
        found = evidence.gather(
            change.version,
            preview.tags,
            change.rule.checks,
            change.holder,
            lambda tags: self._digest_jobs.digest_of(files, tags, since_ms),
            with_user=with_user,
        )
        return replace(found, since_ms=since_ms, can_lock=files.can_lock, locked_for=locked_for)

    def _lock(self, change: ProposedChange, files: digest.Files) -> str | None:
        """Lock the files for an approved request, before they are read; return its id."""
        if change.action != "promote" or not files.can_lock:
            return None
        request = self._transactions.read(lambda s: open_request(s, change.version, change.target))
        if request is None or request.action != "promote" or request.state is not State.APPROVED:
            return None
        self._file_locks.hold(files, request)
        return request.id


def _open_request(session: Session, change: ProposedChange) -> Request | None:
    """Return the open request for a change's version and target, or the open review."""
    uid, target = change.version.uid, change.target
    found = find_requests(session, version_uid=uid, target=target, only_open=True)
    return min(found, key=lambda request: request.action == "review", default=None)
