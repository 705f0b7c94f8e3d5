"""Writes requests and audit entries; keeps the open requests of a locked model at hand."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database import batched_writes
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.database.tables import (
    policies,
    requests,
)
from mlflow_plugins_pack.approvals.domain.identifiers import open_key
from mlflow_plugins_pack.approvals.domain.request_states import (
    State,
    check_transition,
    due_state,
)
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.ledger import audit_log, creators
from mlflow_plugins_pack.approvals.ledger import requests as records
from mlflow_plugins_pack.approvals.ledger.requests import Decision, Request
from mlflow_plugins_pack.approvals.ledger.snapshot import TargetSnapshot
from mlflow_plugins_pack.approvals.policy.models import Policy
from mlflow_plugins_pack.approvals.webhooks import outbox

# Statements are built once: to build one takes Python longer than most databases take to answer.
_MOVE_OPEN = (
    sa.update(requests)
    .where(requests.c.id == sa.bindparam("its_id"), requests.c.state == sa.bindparam("its_state"))
    .values({name: sa.bindparam(name) for name in ("state", "updated_at", "reason", "valid_until")})
)
_CLOSE = _MOVE_OPEN.values(open_key=None)
_BIND = (
    sa.update(requests)
    .where(requests.c.id == sa.bindparam("its_id"), requests.c.digest.is_(None))
    .values(
        digest=sa.bindparam("its_digest"),
        file_marks=sa.bindparam("its_marks"),
        updated_at=sa.bindparam("its_time"),
    )
)


class Ledger:
    """The ledger inside one transaction, at one moment, for one person.

    It is made after the model was locked. No other transaction can change the model's open requests
    then, so they are read once and kept up to date by what is written here.

    Args:
        session: The session of the transaction.
        now_ms: Milliseconds since the epoch.
        actor: The user who acts.
        policy: The policy in force.
        known: What was read under the lock already.
    """

    def __init__(
        self,
        session: Session,
        now_ms: int,
        actor: str | None,
        policy: Policy,
        known: TargetSnapshot | None = None,
    ) -> None:
        self.session = session
        self.now_ms = now_ms
        self.actor = actor
        self.policy = policy
        self._waiting: dict[tuple[str, str, Target], dict[str, Request]] = {}
        self._votes: dict[str, list[Decision]] = {}
        about = (known.version or known.holder) if known is not None else None
        if known is not None and known.waiting is not None and about is not None:
            self._note(about.workspace, about.name, known.target, known.waiting)

    # --- what waits ---------------------------------------------------------------------------

    def _waits(self, workspace: str, name: str, target: Target) -> dict[str, Request]:
        key = (workspace, name, target)
        if key not in self._waiting:
            self._note(*key, records.waiting(self.session, *key))
        return self._waiting[key]

    def _note(
        self,
        workspace: str,
        name: str,
        target: Target,
        found: Sequence[tuple[Request, list[Decision]]],
    ) -> None:
        self._waiting[workspace, name, target] = {request.id: request for request, _ in found}
        self._votes |= {request.id: votes for request, votes in found}

    def open_request(
        self, version: Version, target: Target, *, review: bool = False
    ) -> Request | None:
        """Return the open request for a version and target; or the open review."""
        for request in self._waits(version.workspace, version.name, target).values():
            if request.version_uid == version.uid and (request.action == "review") == review:
                return request
        return None

    def rivals(self, request: Request, model: Version, target: Target) -> list[Request]:
        """Return the other open requests for the same target of the same model, newest first."""
        waiting = self._waits(model.workspace, model.name, target).values()
        return [other for other in waiting if other.id != request.id]

    def votes(self, request: Request) -> list[Decision]:
        """Return the votes on a request, oldest first."""
        if request.id not in self._votes:
            self._votes[request.id] = records.votes(self.session, request.id)
        return self._votes[request.id]

    def forget_votes(self, request: Request) -> None:
        """Read a request's votes again when they are next asked for."""
        self._votes.pop(request.id, None)

    def _keep(self, request: Request) -> None:
        waiting = self._waiting.get((request.workspace, request.name, request.target))
        if waiting is None:
            return
        if request.state.is_open:
            waiting[request.id] = request
        else:
            waiting.pop(request.id, None)

    # --- what is written ----------------------------------------------------------------------

    def record(self, action: str, about: Version | None = None, /, **values: Any) -> None:
        """Append an audit entry, about a version or with its own names; webhooks learn of it."""
        if about is not None:
            values |= {"workspace": about.workspace, "name": about.name, "version": about.version}
        values.setdefault("policy_sha256", self.policy.sha256)
        values |= {"created_at": self.now_ms, "action": action, "actor": self.actor}
        outbox.enqueue(self.session, self.policy, audit_log.append(self.session, **values))

    def record_request(self, action: str, request: Request, **values: Any) -> None:
        """Append an audit entry about a request; webhooks learn of it."""
        self.record(
            action,
            workspace=request.workspace,
            name=request.name,
            version=request.version,
            target=request.target.key,
            request_id=request.id,
            **values,
        )

    def file(
        self,
        version: Version,
        target: Target,
        *,
        action: str,
        policy_name: str,
        digest: str | None,
        holder: Version | None,
        stage: str | None,
        archive_existing: bool,
        run_user: str | None,
        comment: str | None,
        expires_after: int | None = None,
        file_marks: str | None = None,
    ) -> Request:
        """Make a new request."""
        if self.actor is None:
            raise AssertionError("a request needs a person")
        self._keep_policy()
        values: dict[str, Any] = {
            "id": uuid.uuid4().hex,
            "workspace": version.workspace,
            "name": version.name,
            "version": version.version,
            "version_uid": version.uid,
            "target": target.key,
            "action": action,
            "state": State.PENDING.value,
            "reason": None,
            "requester": self.actor,
            "creator": creators.creator_of(self.session, version),
            "run_user": run_user,
            "comment": comment,
            "digest": digest,
            "file_marks": file_marks,
            "holder_version": holder.version if holder else None,
            "holder_uid": holder.uid if holder else None,
            "stage": stage,
            "archive_existing": int(archive_existing),
            "policy": policy_name,
            "policy_sha256": self.policy.sha256,
            "created_at": self.now_ms,
            "updated_at": self.now_ms,
            "expires_at": self.now_ms
            + (expires_after or self.policy.defaults.expires_after) * 1000,
            "valid_until": None,
            "open_key": open_key(version.workspace, version.uid, target, review=action == "review"),
        }
        self.session.execute(sa.insert(requests).values(values))
        request = records.to_request(values)
        self._keep(request)
        self._votes[request.id] = []
        after: dict[str, Any] = {"action": action, "digest": digest, "comment": comment}
        after |= {"stage": stage, "archive_existing": archive_existing, "uid": version.uid}
        self.record_request(
            "REQUESTED", request, before={"holder": request.holder_version}, after=after
        )
        return request

    def move(
        self,
        request: Request,
        state: State,
        reason: str | None = None,
        *,
        recorded_as: str | None = None,
    ) -> Request:
        """Move a request to another state.

        Args:
            request: As it is.
            state: To be.
            reason: Why, for people.
            recorded_as: Action of the audit entry where the state's name would mislead.
        """
        check_transition(request.state, state)
        values: dict[str, Any] = {
            "state": state.value,
            "updated_at": self.now_ms,
            "reason": reason,
        }
        if state is State.APPROVED:
            values["valid_until"] = self.now_ms + self.policy.defaults.approval_valid_for * 1000
        where = {"its_id": request.id, "its_state": request.state.value}
        batched_writes.write(
            self.session,
            _MOVE_OPEN if state.is_open else _CLOSE,
            [{**where, "valid_until": request.valid_until, **values}],
            expected=1,
        )
        after: dict[str, Any] = {"state": state.value}
        if reason:
            after["reason"] = reason
        if state is not State.APPLIED:  # the application itself is recorded with what it did
            self.record_request(
                recorded_as or state.value,
                request,
                before={"state": request.state.value},
                after=after,
            )
        del values["state"]
        moved = replace(request, state=state, **values)
        self._keep(moved)
        return moved

    def note_digest(self, request: Request, digest: str, file_marks: str | None) -> Request:
        """Bind a request whose version's files were still being read to what was read."""
        if not request.awaits_digest:
            raise AssertionError("a request is bound once")
        where = {"its_id": request.id, "its_digest": digest, "its_time": self.now_ms}
        where["its_marks"] = file_marks
        batched_writes.write(self.session, _BIND, [where], expected=1)
        self.record_request("DIGEST_RECORDED", request, after={"digest": digest})
        bound = replace(request, digest=digest, file_marks=file_marks, updated_at=self.now_ms)
        self._keep(bound)
        return bound

    def expire_if_due(self, request: Request) -> Request:
        """Close a request whose time has run out, by when it was made or by the policy now."""
        expires_at, valid_until = request.expires_at, request.valid_until
        terms = self.policy.defaults
        if expires_at is not None and request.action != "review":
            expires_at = min(expires_at, request.created_at + terms.expires_after * 1000)
        if valid_until is not None:  # it was approved when it was last touched
            valid_until = min(valid_until, request.updated_at + terms.approval_valid_for * 1000)
        due = due_state(request.state, self.now_ms, expires_at, valid_until)
        if due is request.state:
            return request
        what = "waited too long" if request.state is State.PENDING else "approval ran out"
        return self.move(request, due, what)

    def _keep_policy(self) -> None:
        known = self.session.execute(
            sa.select(policies.c.sha256).where(policies.c.sha256 == self.policy.sha256)
        ).first()
        if known is None:
            self.session.execute(
                sa.insert(policies).values(
                    sha256=self.policy.sha256, text=self.policy.text, first_used_at=self.now_ms
                )
            )
