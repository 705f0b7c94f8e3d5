"""Reads requests, votes and comments; `ledger` writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.database.tables import comments, decisions, requests
from mlflow_plugins_pack.approvals.domain.identifiers import open_key
from mlflow_plugins_pack.approvals.domain.request_states import State, due_state
from mlflow_plugins_pack.approvals.domain.targets import ARCHIVED, Target, parse_target

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
    file_marks: str | None
    holder_version: int | None
    holder_uid: str | None
    stage: str | None
    archive_existing: bool
    policy: str
    policy_sha256: str
    created_at: int
    updated_at: int
    expires_at: int | None
    valid_until: int | None

    @property
    def awaits_digest(self) -> bool:
        """The version's files are not hashed yet, so they cannot be approved."""
        return self.action == "promote" and self.digest is None

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
    decided_at: int


_REQUEST = tuple(column.name for column in requests.columns if column.name != "open_key")
_VOTE = ("approver", "verdict", "comment", "decided_at")
_BY_OPEN_KEY = sa.select(requests).where(requests.c.open_key == sa.bindparam("key"))


_OF_VERSION = (
    sa.select(requests)
    .where(requests.c.version_uid == sa.bindparam("uid"))
    .order_by(requests.c.updated_at, requests.c.created_at)
)


def to_request(row: Any) -> Request:
    """Make a `Request` of a mapping from column to value."""
    values = dict(row)
    values.pop("open_key", None)
    values["target"] = parse_target(values["target"])
    values["state"] = State(values["state"])
    values["archive_existing"] = bool(values["archive_existing"])
    return Request(**values)


WAITING_COLUMNS = (
    *(requests.c[name].label(f"request_{name}") for name in _REQUEST),
    *(decisions.c[name].label(f"vote_{name}") for name in _VOTE),
)
"""A request and one of its votes, for `with_votes`."""
IS_WAITING = (
    requests.c.workspace == sa.bindparam("workspace"),
    requests.c.name == sa.bindparam("name"),
    requests.c.target == sa.bindparam("target"),
    requests.c.open_key.is_not(None),
)
_WAITING = (
    sa.select(*WAITING_COLUMNS)
    .select_from(requests.outerjoin(decisions, decisions.c.request_id == requests.c.id))
    .where(*IS_WAITING)
)


def waiting(
    session: Session, workspace: str, name: str, target: Target
) -> list[tuple[Request, list[Decision]]]:
    """Return the open requests for a target of a model, newest first, with their votes."""
    where = {"workspace": workspace, "name": name, "target": target.key}
    return with_votes(session.execute(_WAITING, where), name, target)


def with_votes(
    rows: Iterable[Sequence[Any]], name: str, target: Target
) -> list[tuple[Request, list[Decision]]]:
    """Return requests, newest first, with their votes from rows of `WAITING_COLUMNS`.

    Ordered here: to order wide rows, some databases write them to a file first. Nulls stand for no
    request.
    """
    found: dict[str, tuple[Request, list[Decision]]] = {}
    for row in rows:
        values = dict(zip(_REQUEST, row, strict=False))
        # MySQL finds look-alikes too.
        if values["target"] != target.key or values["name"] != name:
            continue
        if values["id"] not in found:
            found[values["id"]] = (to_request(values), [])
        vote = row[len(_REQUEST) :]
        if vote[0] is not None:
            found[values["id"]][1].append(Decision(*vote))
    for _, cast in found.values():
        cast.sort(key=lambda decision: (decision.decided_at, decision.approver))
    return sorted(found.values(), key=lambda pair: (-pair[0].created_at, pair[0].id))


def open_request(session: Session, version: Version, target: Target) -> Request | None:
    """Return the open request for a version and target; reviews do not count."""
    key = open_key(version.workspace, version.uid, target)
    row = session.execute(_BY_OPEN_KEY, {"key": key}).first()
    return None if row is None else to_request(row._mapping)


def last_request(session: Session, version: Version, target: Target) -> Request | None:
    """Return the newest request for a version and target, open or closed."""
    row = session.execute(
        sa.select(requests)
        .where(requests.c.version_uid == version.uid, requests.c.target == target.key)
        .order_by(requests.c.created_at.desc(), requests.c.updated_at.desc())
        .limit(1)
    ).first()
    return None if row is None else to_request(row._mapping)


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
    return [to_request(row._mapping) for row in session.execute(query)]


@dataclass(frozen=True)
class Tenure:
    """A version's last time as the holder of a target.

    Attributes:
        request: By which it became that.
        until: When the next approved change of the target was made; None: not yet.
    """

    request: Request
    until: int | None


def held_before(session: Session, version: Version, target: Target) -> Tenure | None:
    """Return the last time a version held a target by an approval, until another replaced it.

    An unreviewed break-glass promotion does not count, nor does a time that ended because the
    target was taken away from the version.
    """
    is_relevant = requests.c.target == target.key
    if target.kind == "stage":
        # A version that was approved for another stage left this one by that.
        other = sa.and_(requests.c.version_uid == version.uid, requests.c.target.like("stage:%"))
        is_relevant = sa.or_(is_relevant, other)
    rows = session.execute(
        sa.select(requests)
        .where(
            requests.c.workspace == version.workspace,
            requests.c.name == version.name,
            is_relevant,
            sa.or_(requests.c.state == State.APPLIED.value, requests.c.action == "review"),
        )
        .order_by(requests.c.updated_at, requests.c.created_at)
    )
    listed = [to_request(row._mapping) for row in rows]
    # A review is filed in the moment that it is about.
    unreviewed = {
        (request.version_uid, request.created_at)
        for request in listed
        if request.action == "review" and request.state is not State.APPLIED
    }
    found = None
    for request in listed:
        if request.action == "review":
            continue
        if target.kind == "stage" and request.target != target:
            found = None
            continue
        if found is not None and found.until is None:
            found = replace(found, until=request.updated_at)
        was_approved = (request.version_uid, request.updated_at) not in unreviewed
        if request.version_uid != version.uid:
            continue
        if request.action == "demote":
            found = None
        elif was_approved:
            found = Tenure(request, None)
    return found


def is_approved(
    session: Session, version: Version, targets: Sequence[Target], now_ms: int
) -> str | None:
    """Return the digest with which a version is approved for one of the targets, or None.

    Being replaced by another version takes no approval away; being taken away does, and so does the
    review of a break-glass change that was not approved. Approval to be archived is not one.
    """
    keys = {target.key for target in targets} - {ARCHIVED.key}
    rows = session.execute(_OF_VERSION, {"uid": version.uid})
    approved: dict[Target, str | None] = {}
    for row in rows:
        request = to_request(row._mapping)
        state = due_state(request.state, now_ms, request.expires_at, request.valid_until)
        if request.action == "promote" and state in (State.APPROVED, State.APPLIED):
            if state is State.APPLIED and request.target.kind == "stage":
                # By this decision it left the stage that it was in.
                approved = {t: digest for t, digest in approved.items() if t.kind != "stage"}
            approved[request.target] = request.digest
        elif (request.action == "demote" and state is State.APPLIED) or (
            request.action == "review" and not state.is_open and state is not State.APPLIED
        ):
            approved.pop(request.target, None)
    return next((digest for target, digest in approved.items() if target.key in keys), None)


def votes(session: Session | sa.Connection, request_id: str) -> list[Decision]:
    """Return the votes on a request, oldest first."""
    query = (
        sa.select(decisions)
        .where(decisions.c.request_id == request_id)
        .order_by(decisions.c.decided_at, decisions.c.approver)
    )
    return [
        Decision(row.approver, row.verdict, row.comment, row.decided_at)
        for row in session.execute(query)
    ]


def comments_on(
    session: Session | sa.Connection,
    version_uid: str,
    *,
    target_key: str | None = None,
    newest: int | None = None,
) -> list[dict[str, Any]]:
    """Return the comments on a version, oldest first.

    Args:
        session: The database.
        version_uid: The version.
        target_key: Only comments on this target, or on none.
        newest: So many of the newest; None: all.
    """
    query = sa.select(comments).where(comments.c.version_uid == version_uid)
    if target_key is not None:
        query = query.where(sa.or_(comments.c.target.is_(None), comments.c.target == target_key))
    query = query.order_by(comments.c.created_at.desc(), comments.c.id.desc()).limit(newest)
    return [dict(row._mapping) for row in session.execute(query)][::-1]
