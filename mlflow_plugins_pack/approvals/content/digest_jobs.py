"""Computes version digests: inline if fast, otherwise in a background thread.

A job that outlasts its call becomes a row of ``mpp_digest_job``, whose lease its process renews
while it reads. A lease that expires means that the process is dead, `kill -9` included, and another
process takes the job over. A result serves the calls of the next minutes and is deleted when a
later job starts; a change is never made by bytes read before it was approved.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from mlflow.utils.workspace_context import ServerWorkspaceContext
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals import caller
from mlflow_plugins_pack.approvals.content import digest
from mlflow_plugins_pack.approvals.content.digest import DigestResult
from mlflow_plugins_pack.approvals.content.evidence import Evidence
from mlflow_plugins_pack.approvals.content.hashing import Progress
from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.database.tables import digest_jobs
from mlflow_plugins_pack.approvals.database.transactions import Transactions
from mlflow_plugins_pack.approvals.domain.digest_progress import (
    MAX_PROBLEM_LENGTH,
    DigestProgress,
)
from mlflow_plugins_pack.errors import DigestUnavailableError
from mlflow_plugins_pack.settings import APPROVALS_DIGEST_SECONDS

_logger = logging.getLogger(__name__)

RUNNING, DONE, FAILED = "running", "done", "failed"
LEASE_MS = 20_000
RENEW_SECONDS = 3.0
FRESH_MS = 10 * 60_000
"""Seconds for which calls may use the result of a job."""
LONGEST_SECONDS = 24 * 3600
AT_ONCE_SECONDS = 0.5
PARALLEL = 2
"""Background jobs per process; further ones wait until one ends."""


class _Job:
    """Computes one digest in a thread of its own."""

    def __init__(self, files: digest.Files) -> None:
        self.progress = Progress()
        self.digest: str | None = None
        self.error: Exception | None = None
        self.file_marks: str | None = None
        self._ended = threading.Event()
        self._files = files
        threading.Thread(target=self._run, name="mlflow-pack-digest", daemon=True).start()

    def _run(self) -> None:
        try:
            self.file_marks = self._files.marks()
            found = self._files.read(self.progress)
            if self.file_marks is None or self._files.marks() == self.file_marks:
                self.digest = found
            else:
                self.error = _changed_while_read(self._files.version)
        except Exception as exc:  # noqa: BLE001 - the thread that waits raises it
            self.error = exc
        finally:
            self._ended.set()

    @property
    def result(self) -> DigestResult | None:
        return DigestResult(self.digest, self.file_marks) if self.digest is not None else None

    def wait(self, seconds: float) -> bool:
        return self._ended.wait(seconds)


class DigestJobs:
    """The digest jobs of one store.

    Args:
        transactions: The store's transactions.
        now_ms: The clock.
        told: Called, in any thread, when a background job has made progress or ended.
    """

    def __init__(
        self,
        transactions: Transactions,
        now_ms: Callable[[], int],
        told: Callable[[Version, DigestResult | None, DigestProgress], None],
    ) -> None:
        self._transactions = transactions
        self._now_ms = now_ms
        self._told = told
        self._name = f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._room = threading.BoundedSemaphore(PARALLEL)

    def digest_of(
        self, files: digest.Files, tags: Mapping[str, str | None], since_ms: int = 0
    ) -> DigestResult | DigestProgress:
        """Return a version's digest, or the progress of the job that computes it.

        Args:
            files: The version's files.
            tags: A prompt's content.
            since_ms: Results of jobs that started before do not count.

        Raises:
            DigestUnavailableError: If the files cannot be read.
        """
        version = files.version
        if files.is_quick:
            return DigestResult(digest.whole_digest(version, tags, files.read(Progress())))
        if files.problem is not None:
            raise files.problem
        now, patience = self._now_ms(), APPROVALS_DIGEST_SECONDS.get()
        # Most digests are computed at once and need no look for a running job.
        job = _Job(files) if patience else None
        if job is None or not job.wait(AT_ONCE_SECONDS):
            row = self._transactions.read(lambda s: _row(s, version))
            if row is not None and row.started_at >= since_ms:
                is_read = row.state == DONE and now - row.updated_at <= FRESH_MS
                if is_read and row.file_marks is not None:
                    # Written since they were read: the digest is of other bytes.
                    is_read = row.file_marks == files.marks()
                if is_read or (row.state == RUNNING and now < row.lease_expires_at):
                    if job is not None:
                        job.progress.stop()
                    if is_read:
                        whole = digest.whole_digest(version, tags, row.digest)
                        return DigestResult(whole, row.file_marks)
                    return _how_far(row)
        job = job or _Job(files)
        if job.wait(max(patience - AT_ONCE_SECONDS, 0)):
            if job.error is not None:
                raise job.error
            whole = digest.whole_digest(version, tags, job.digest)
            return DigestResult(whole, job.file_marks)
        return self._continue(version, job, now)

    def by_now(self, session: Session, version: Version, found: Evidence) -> Evidence | None:
        """Return evidence with the progress of its digest job; None: it has ended.

        A result is used by who compares the files' marks again, which takes too long here.

        Call it under the model's lock: a job that ends later finds what this transaction wrote.
        """
        row = _row(session, version)
        if row is None or row.started_at < found.since_ms:
            return found
        return replace(found, progress=_how_far(row)) if row.state != DONE else None

    def resume(self) -> int:
        """Take over jobs whose processes are dead; return how many."""
        now = self._now_ms()
        lost = self._transactions.read(
            lambda s: s.execute(
                sa.select(digest_jobs).where(
                    digest_jobs.c.state == RUNNING, digest_jobs.c.lease_expires_at < now
                )
            ).all()
        )
        return sum(self._resume(row) for row in lost)

    def _resume(self, row: Any) -> bool:
        if not self._room.acquire(blocking=False):
            return False
        self._room.release()
        version = self._transactions.read(
            lambda s: mlflow_tables.find_version(s, row.workspace, row.name, row.version)
        )
        if version is None or version.uid != row.version_uid:
            gone = sa.delete(digest_jobs).where(digest_jobs.c.version_uid == row.version_uid)
            self._transactions.write(lambda s: s.execute(gone))
            return False
        with caller.for_server(), ServerWorkspaceContext(version.workspace):
            job = _Job(digest.Files(version))
        self._continue(version, job, self._now_ms())
        return True

    # --- in the background ----------------------------------------------------------------------

    def _continue(self, version: Version, job: _Job, started_at: int) -> DigestProgress:
        """Continue a job in the background, unless another process has one already."""
        if not self._room.acquire(blocking=False):
            job.progress.stop()
            self._transactions.write(lambda s: self._queue(s, version))
            return DigestProgress(0, job.progress.bytes_total)
        if not self._transactions.write(lambda s: self._claim(s, version, job, started_at)):
            job.progress.stop()
            self._room.release()
            row = self._transactions.read(lambda s: _row(s, version))
            return _how_far(row) if row else DigestProgress(0, 0)
        threading.Thread(
            target=self._supervise,
            args=(version, job),
            name="mlflow-pack-digest-lease",
            daemon=True,
        ).start()
        return _progress(job)

    def _queue(self, session: Session, version: Version) -> None:
        """Leave a job to the first process that has room."""
        if (row := _row(session, version)) is None or row.state != RUNNING:
            _put(session, version, row, _values(self._now_ms(), "", 0))

    def _claim(self, session: Session, version: Version, job: _Job, started_at: int) -> bool:
        now, row = self._now_ms(), _row(session, version)
        if row is not None and row.state == RUNNING and row.lease_expires_at > now:
            return False
        _delete_ended(session, now - FRESH_MS, version)
        values = _values(now, self._name, now + LEASE_MS)
        values |= {
            "bytes_done": job.progress.bytes_done,
            "bytes_total": job.progress.bytes_total,
            "started_at": started_at,
        }
        return _put(session, version, row, values)

    def _supervise(self, version: Version, job: _Job) -> None:
        """Renew a job's lease until it ends, then store its result."""
        ends = time.monotonic() + LONGEST_SECONDS
        shown = _progress(job)
        try:
            while not job.wait(RENEW_SECONDS):
                if time.monotonic() > ends:
                    job.error = TimeoutError(f"it took longer than {LONGEST_SECONDS} s")
                    job.progress.stop()
                    break
                if not self._note(version, job, RUNNING):
                    job.progress.stop()  # another process has taken it over
                    return
                if shown.text != _progress(job).text:
                    shown = _progress(job)
                    self._tell(version, None, shown)
            if self._note(version, job, DONE if job.error is None else FAILED):
                self._tell(version, job.result, _progress(job))
        except Exception:
            _logger.warning("The digest job of %s was given up", version.name, exc_info=True)
            job.progress.stop()
        finally:
            self._room.release()

    def _note(self, version: Version, job: _Job, state: str) -> bool:
        def work(session: Session) -> bool:
            now, row = self._now_ms(), _row(session, version)
            if row is None or row.owner != self._name or row.state != RUNNING:
                return False
            values = {
                "state": state,
                "digest": job.digest,
                "file_marks": job.file_marks,
                "error": str(job.error)[:MAX_PROBLEM_LENGTH] if job.error else None,
                "bytes_done": job.progress.bytes_done,
                "bytes_total": job.progress.bytes_total,
                "lease_expires_at": now + LEASE_MS,
                "updated_at": now,
            }
            return _put(session, version, row, values)

        return self._transactions.write(work)

    def _tell(self, version: Version, found: DigestResult | None, how_far: DigestProgress) -> None:
        try:
            self._told(version, found, how_far)
        except Exception:
            # The next call for the version finds the same.
            _logger.warning("Requests of %s were not updated", version.name, exc_info=True)


def _changed_while_read(version: Version) -> DigestUnavailableError:
    return DigestUnavailableError(
        f"the files of version {version.version} of '{version.name}' were written while they were "
        "read, so no approval can be bound to them. Nothing was changed. Try again once nothing "
        "writes them."
    )


def _progress(job: _Job) -> DigestProgress:
    problem = str(job.error) if job.error is not None else None
    return DigestProgress(job.progress.bytes_done, job.progress.bytes_total, problem)


def _how_far(row: Any) -> DigestProgress:
    return DigestProgress(row.bytes_done, row.bytes_total, row.error)


def _values(now_ms: int, owner: str, lease_expires_at: int) -> dict[str, Any]:
    """Return the columns of a job that starts."""
    values: dict[str, Any] = {"state": RUNNING, "digest": None, "file_marks": None, "error": None}
    values |= {
        "bytes_done": 0,
        "bytes_total": 0,
        "owner": owner,
        "lease_expires_at": lease_expires_at,
    }
    return values | {"started_at": now_ms, "updated_at": now_ms}


def _put(session: Session, version: Version, row: Any, values: dict[str, Any]) -> bool:
    """Write a job, unless another process has written it since it was read."""
    if row is None:
        about = {"version_uid": version.uid, "workspace": version.workspace}
        about |= {"name": version.name}
        session.execute(sa.insert(digest_jobs).values(**about, version=version.version, **values))
        return True
    done = session.execute(
        sa.update(digest_jobs)
        .where(
            digest_jobs.c.version_uid == version.uid,
            digest_jobs.c.owner == row.owner,
            digest_jobs.c.lease_expires_at == row.lease_expires_at,
        )
        .values(values)
    )
    return bool(done.rowcount == 1)  # type: ignore[attr-defined]


def _delete_ended(session: Session, before_ms: int, besides: Version) -> None:
    """Delete jobs that have ended and are too old to use."""
    ended = session.execute(
        sa.select(digest_jobs.c.version_uid).where(
            digest_jobs.c.state != RUNNING,
            digest_jobs.c.updated_at < before_ms,
            digest_jobs.c.version_uid != besides.uid,
        )
    ).scalars()
    # By key: a search would lock, in MySQL, the rows of running jobs.
    for uid in ended.all():
        session.execute(
            sa.delete(digest_jobs).where(
                digest_jobs.c.version_uid == uid, digest_jobs.c.state != RUNNING
            )
        )


def _row(session: Session, version: Version) -> Any:
    return session.execute(
        sa.select(digest_jobs).where(digest_jobs.c.version_uid == version.uid)
    ).first()
