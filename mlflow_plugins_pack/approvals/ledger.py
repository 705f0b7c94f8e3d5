"""Requests, votes, comments and grants in the database; every change is audited as it is made."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals import audit, outbox
from mlflow_plugins_pack.approvals.names import Target, open_key, parse_target
from mlflow_plugins_pack.approvals.policy import Policy
from mlflow_plugins_pack.approvals.registry import Version
from mlflow_plugins_pack.approvals.tables import (
    check_tags,
    comments,
    creators,
    decisions,
    grants,
    policies,
    requests,
)
from mlflow_plugins_pack.approvals.workflow import State, check_transition, due_state

SHORT_ID = 8


@dataclass(frozen=True)
class Request:
    """A request as the database has it; one version to one target."""

    id: str
    workspace: str
    name: str
    version: int
    version_uid: str
    target: Target
    action: str
    state: State
    reason: str | None
    requester: str
    creator: str | None
    run_user: str | None
    comment: str | None
    digest: str | None
    holder_version: int | None
    holder_uid: str | None
    stage: str | None
    archive_existing: bool
    policy: str
    policy_sha: str
    created_at: int
    updated_at: int
    expires_at: int | None
    valid_until: int | None

    @property
    def short_id(self) -> str:
        """The id's beginning, for people."""
        return self.id[:SHORT_ID]


@dataclass(frozen=True)
class Decision:
    """One person's vote on a request."""

    approver: str
    verdict: str
    comment: str | None
    ts: int


def _to_request(row: Any) -> Request:
    values = dict(row)
    del values["open_key"]
    values["target"] = parse_target(values["target"])
    values["state"] = State(values["state"])
    values["archive_existing"] = bool(values["archive_existing"])
    return Request(**values)


def open_request(
    session: Session, version: Version, target: Target, *, review: bool = False
) -> Request | None:
    """Return the open request for a version and target; or the open review of a broken glass."""
    key = open_key(version.workspace, version.uid, target, review=review)
    row = session.execute(sa.select(requests).where(requests.c.open_key == key)).first()
    return None if row is None else _to_request(row._mapping)


def last_request(session: Session, version: Version, target: Target) -> Request | None:
    """Return the newest request for a version and target, open or closed."""
    row = session.execute(
        sa.select(requests)
        .where(requests.c.version_uid == version.uid, requests.c.target == target.key)
        .order_by(requests.c.created_at.desc(), requests.c.updated_at.desc())
        .limit(1)
    ).first()
    return None if row is None else _to_request(row._mapping)


def find_requests(
    session: Session | sa.Connection,
    *,
    workspace: str | None = None,
    name: str | None = None,
    version: int | None = None,
    target: Target | None = None,
    version_uid: str | None = None,
    only_open: bool = False,
) -> list[Request]:
    """Return the requests that fit, newest first."""
    query = sa.select(requests).order_by(requests.c.created_at.desc(), requests.c.id)
    for column, value in (
        (requests.c.workspace, workspace),
        (requests.c.name, name),
        (requests.c.version, version),
        (requests.c.target, target.key if target else None),
        (requests.c.version_uid, version_uid),
    ):
        if value is not None:
            query = query.where(column == value)
    if only_open:
        query = query.where(requests.c.open_key.is_not(None))
    return [_to_request(row._mapping) for row in session.execute(query)]


@dataclass(frozen=True)
class Tenure:
    """A version's last time as the holder of a target.

    Attributes:
        request: By which it became that.
        until: When the next approved change of the target was made; None: there was none.
    """

    request: Request
    until: int | None


def held_before(session: Session, version: Version, target: Target) -> Tenure | None:
    """Return the last time a version held a target by an approval."""
    rows = session.execute(
        sa.select(requests)
        .where(
            requests.c.workspace == version.workspace,
            requests.c.name == version.name,
            requests.c.target == target.key,
            requests.c.state == State.APPLIED.value,
            requests.c.action != "review",
        )
        .order_by(requests.c.updated_at, requests.c.created_at)
    )
    found = None
    for row in rows:
        request = _to_request(row._mapping)
        if found is not None and found.until is None:
            found = replace(found, until=request.updated_at)
        if request.version_uid == version.uid and request.action == "promote":
            found = Tenure(request, None)
    return found


def is_approved(
    session: Session, version: Version, targets: Sequence[Target], now_ms: int
) -> str | None:
    """Return the digest with which a version is approved for one of the targets, or None.

    Being replaced by another version takes no approval away; being taken away does, and so does a
    broken glass that was not reviewed in time or was rejected.
    """
    rows = session.execute(
        sa.select(requests)
        .where(
            requests.c.version_uid == version.uid,
            requests.c.target.in_([target.key for target in targets]),
        )
        .order_by(requests.c.updated_at, requests.c.created_at)
    )
    approved: dict[Target, str | None] = {}
    for row in rows:
        request = _to_request(row._mapping)
        state = due_state(request.state, now_ms, request.expires_at, request.valid_until)
        if request.action == "promote" and state in (State.APPROVED, State.APPLIED):
            approved[request.target] = request.digest
        elif (request.action == "demote" and state is State.APPLIED) or (
            request.action == "review" and state in (State.REJECTED, State.EXPIRED)
        ):
            approved.pop(request.target, None)
    return next(iter(approved.values()), None)


def votes(session: Session | sa.Connection, request_id: str) -> list[Decision]:
    """Return the votes on a request, oldest first."""
    query = (
        sa.select(decisions)
        .where(decisions.c.request_id == request_id)
        .order_by(decisions.c.ts, decisions.c.approver)
    )
    return [
        Decision(row.approver, row.verdict, row.comment, row.ts) for row in session.execute(query)
    ]


def comments_on(session: Session | sa.Connection, version_uid: str) -> list[dict[str, Any]]:
    """Return the comments on a version, oldest first."""
    query = (
        sa.select(comments)
        .where(comments.c.version_uid == version_uid)
        .order_by(comments.c.ts, comments.c.id)
    )
    return [dict(row._mapping) for row in session.execute(query)]


class Ledger:
    """Writes to the ledger inside one transaction, at one moment, for one person."""

    def __init__(self, session: Session, now_ms: int, actor: str | None, policy: Policy) -> None:
        self.session = session
        self.now_ms = now_ms
        self.actor = actor
        self.policy = policy

    def record(self, action: str, about: Version | None = None, /, **values: Any) -> None:
        """Append an audit entry, about a version or with its own names; webhooks learn of it."""
        if about is not None:
            values |= {"workspace": about.workspace, "name": about.name, "version": about.version}
        values.setdefault("policy_sha", self.policy.sha256)
        values |= {"ts": self.now_ms, "action": action, "actor": self.actor}
        outbox.enqueue(self.session, self.policy, audit.append(self.session, **values))

    def _record_request(self, action: str, request: Request, **values: Any) -> None:
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
            "creator": self.creator_of(version),
            "run_user": run_user,
            "comment": comment,
            "digest": digest,
            "holder_version": holder.version if holder else None,
            "holder_uid": holder.uid if holder else None,
            "stage": stage,
            "archive_existing": int(archive_existing),
            "policy": policy_name,
            "policy_sha": self.policy.sha256,
            "created_at": self.now_ms,
            "updated_at": self.now_ms,
            "expires_at": self.now_ms
            + (expires_after or self.policy.defaults.expires_after) * 1000,
            "valid_until": None,
            "open_key": open_key(version.workspace, version.uid, target, review=action == "review"),
        }
        self.session.execute(sa.insert(requests).values(values))
        request = _to_request(values)
        after: dict[str, Any] = {"action": action, "digest": digest, "comment": comment}
        after |= {"stage": stage, "archive_existing": archive_existing, "uid": version.uid}
        self._record_request(
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
        """Take a request to another state.

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
        if not state.is_open:
            values["open_key"] = None
        if state is State.APPROVED:
            values["valid_until"] = self.now_ms + self.policy.defaults.approval_valid_for * 1000
        changed = self.session.execute(
            sa.update(requests)
            .where(requests.c.id == request.id, requests.c.state == request.state.value)
            .values(values)
        )
        if changed.rowcount != 1:  # type: ignore[attr-defined]
            raise AssertionError("a locked request changed")
        after: dict[str, Any] = {"state": state.value}
        if reason:
            after["reason"] = reason
        if state is not State.APPLIED:  # the application itself is recorded with what it did
            self._record_request(
                recorded_as or state.value,
                request,
                before={"state": request.state.value},
                after=after,
            )
        del values["state"]
        values.pop("open_key", None)
        return replace(request, state=state, **values)

    def expire_if_due(self, request: Request) -> Request:
        """Close a request whose time has run out."""
        due = due_state(request.state, self.now_ms, request.expires_at, request.valid_until)
        if due is request.state:
            return request
        what = "waited too long" if request.state is State.PENDING else "approval ran out"
        return self.move(request, due, what)

    def vote(self, request: Request, verdict: str, comment: str | None) -> bool:
        """Record the actor's vote; False if it was there already."""
        if self.actor is None:
            raise AssertionError("a vote needs a person")
        mine = [v for v in votes(self.session, request.id) if v.approver == self.actor]
        if mine and mine[0].verdict == verdict:
            return False
        values = {"verdict": verdict, "comment": comment, "ts": self.now_ms}
        key = {"request_id": request.id, "approver": self.actor}
        if mine:
            self.session.execute(
                sa.update(decisions)
                .where(*(decisions.c[name] == value for name, value in key.items()))
                .values(values)
            )
        else:
            self.session.execute(sa.insert(decisions).values(**key, **values))
        self._record_request("VOTED", request, after={"verdict": verdict, "comment": comment})
        return True

    def withdraw(self, request: Request, comment: str | None) -> bool:
        """Take the actor's vote back; False if there is none."""
        gone = self.session.execute(
            sa.delete(decisions).where(
                decisions.c.request_id == request.id, decisions.c.approver == self.actor
            )
        )
        if gone.rowcount == 0:  # type: ignore[attr-defined]
            return False
        self._record_request("VOTE_WITHDRAWN", request, after={"comment": comment})
        return True

    def comment(
        self, version: Version, text: str, *, target: Target | None, request_id: str | None
    ) -> None:
        """Keep a comment."""
        self.session.execute(
            sa.insert(comments).values(
                id=uuid.uuid4().hex,
                workspace=version.workspace,
                name=version.name,
                version=version.version,
                version_uid=version.uid,
                target=target.key if target else None,
                request_id=request_id,
                author=self.actor,
                text=text,
                ts=self.now_ms,
            )
        )
        self.record(
            "COMMENTED",
            version,
            target=target.key if target else None,
            request_id=request_id,
            after={"comment": text},
        )

    def edit_comment(self, comment_id: str, text: str | None) -> bool:
        """Change one's own comment, or delete it (None); False if there is none of that id.

        What it said before stays in the audit log.
        """
        mine = sa.and_(comments.c.id == comment_id, comments.c.author == self.actor)
        row = self.session.execute(sa.select(comments).where(mine)).first()
        if row is None or self.actor is None:
            return False
        if text is None:
            self.session.execute(sa.delete(comments).where(mine))
        else:
            values = {"text": text, "edited_at": self.now_ms}
            self.session.execute(sa.update(comments).where(mine).values(values))
        self.record(
            "COMMENT_DELETED" if text is None else "COMMENT_EDITED",
            workspace=row.workspace,
            name=row.name,
            version=row.version,
            target=row.target,
            request_id=row.request_id,
            before={"comment": row.text},
            after=None if text is None else {"comment": text},
        )
        return True

    def grant(
        self, request: Request, version: Version, *, exclusive: bool, review_by: int | None = None
    ) -> None:
        """Note that the version holds the target by this request.

        Args:
            request: Was applied.
            version: Holds its target.
            exclusive: Nobody else does.
            review_by: When the grant ends unless it is reviewed before.
        """
        for number in [None] if exclusive else [version.version]:
            self.ungrant(version, request.target, number)
        self.session.execute(
            sa.insert(grants).values(
                workspace=version.workspace,
                name=version.name,
                target=request.target.key,
                version=version.version,
                version_uid=version.uid,
                digest=request.digest,
                request_id=request.id,
                granted_by=self.actor,
                ts=self.now_ms,
                review_by=review_by,
            )
        )

    def confirm_grant(self, version: Version, target: Target) -> None:
        """Note that a broken glass was reviewed: the grant stays."""
        self.session.execute(
            sa.update(grants)
            .where(grants.c.version_uid == version.uid, grants.c.target == target.key)
            .values(review_by=None)
        )

    def ungrant(self, model: Version, target: Target, number: int | None) -> None:
        """Take a grant back; of every version if no number is given."""
        query = sa.delete(grants).where(
            grants.c.workspace == model.workspace,
            grants.c.name == model.name,
            grants.c.target == target.key,
        )
        self.session.execute(query if number is None else query.where(grants.c.version == number))

    def creator_of(self, version: Version) -> str | None:
        """Return who registered a version, if that was seen."""
        found: str | None = self.session.execute(
            sa.select(creators.c.creator).where(creators.c.version_uid == version.uid)
        ).scalar()
        return found

    def note_creator(self, version: Version, creator: str | None = None) -> None:
        """Keep who registered a version."""
        creator = creator or self.actor
        if creator is None or self.creator_of(version) is not None:
            return
        self.session.execute(
            sa.insert(creators).values(
                version_uid=version.uid,
                workspace=version.workspace,
                name=version.name,
                version=version.version,
                creator=creator,
                ts=self.now_ms,
            )
        )

    def note_check_tag(self, version: Version, tag: str, value: str | None) -> None:
        """Keep who gave a required tag its value, and when; None: it was deleted."""
        self.session.execute(
            sa.delete(check_tags).where(
                check_tags.c.version_uid == version.uid, check_tags.c.tag == tag
            )
        )
        if value is not None:
            self.session.execute(
                sa.insert(check_tags).values(
                    version_uid=version.uid,
                    tag=tag,
                    value=value,
                    writer=self.actor,
                    ts=self.now_ms,
                )
            )
        self.record("CHECK_TAG", version, after={"tag": tag, "value": value})

    def check_tag(self, version: Version, tag: str) -> Any:
        """Return the row (value, writer, ts) of a required tag, or None."""
        return self.session.execute(
            sa.select(check_tags).where(
                check_tags.c.version_uid == version.uid, check_tags.c.tag == tag
            )
        ).first()

    def _keep_policy(self) -> None:
        known = self.session.execute(
            sa.select(policies.c.sha256).where(policies.c.sha256 == self.policy.sha256)
        ).first()
        if known is None:
            self.session.execute(
                sa.insert(policies).values(
                    sha256=self.policy.sha256, text=self.policy.text, ts=self.now_ms
                )
            )


def rivals(
    session: Session, request: Request | None, model: Version, target: Target
) -> Sequence[Request]:
    """Return the other open requests for the same target of the same model."""
    found = find_requests(
        session, workspace=model.workspace, name=model.name, target=target, only_open=True
    )
    return [other for other in found if request is None or other.id != request.id]
