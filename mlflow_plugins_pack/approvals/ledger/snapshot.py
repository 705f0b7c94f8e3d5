"""Reads everything that a change of an alias or stage depends on, in one statement.

Before the lock, a smaller statement shows whether a decision is needed at all; what the decision is
made on is read under the lock. One statement sees one moment and costs one round trip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.database.tables import (
    audit_head,
    decisions,
    guard,
    requests,
)
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.ledger import requests as records
from mlflow_plugins_pack.approvals.ledger.requests import WAITING_COLUMNS, Decision, Request


@dataclass(frozen=True)
class TargetSnapshot:
    """A version, the versions that hold a target, and the open requests for the target.

    Attributes:
        target: As the caller spells it.
        version: The version, if it is there.
        holders: Those the target stands for now, lowest first; of an alias at most one.
        is_guarded: Whether the database's guards are installed.
        waiting: The open requests for the target of the model, newest first, with their votes;
            None: not read.
        log: Number and hash of the audit log's last entry; None: not read.
    """

    target: Target
    version: Version | None
    holders: tuple[Version, ...]
    is_guarded: bool
    waiting: tuple[tuple[Request, list[Decision]], ...] | None = None
    log: tuple[int, str] | None = None

    @property
    def holder(self) -> Version | None:
        """The one that consumers of the target get."""
        return self.holders[-1] if self.holders else None


SnapshotReader = Callable[[str, "int | None", Target], TargetSnapshot]
"""Reads a version of a model (by name and number; None: no version) and a target's holders."""


def snapshot_reader(session: Session, workspace: str, *, under_lock: bool) -> SnapshotReader:
    """Return what reads snapshots of a workspace: in full under the lock, else in brief."""

    def read_snapshot(name: str, number: int | None, target: Target) -> TargetSnapshot:
        where: dict[str, Any] = {"workspace": workspace, "name": name, target.kind: target.name}
        where["number"] = -1 if number is None else number
        if under_lock:
            where["target"] = target.key
        statement = (_FULL if under_lock else _BRIEF)[target.kind]
        rows = session.connection().execute(statement, where).all()
        return _to_snapshot(rows, name, number, target, is_whole=under_lock)

    return read_snapshot


def _to_snapshot(
    rows: Any, name: str, number: int | None, target: Target, *, is_whole: bool
) -> TargetSnapshot:
    of_alias = target.kind == "alias"
    # In no order: each version comes with every request, each request with every vote.
    one_each = {row.version: row for row in rows}
    versions = {key: mlflow_tables.from_row(row) for key, row in sorted(one_each.items())}
    found = TargetSnapshot(
        target,
        versions.get(number) if number is not None else None,
        tuple(
            version
            for key, version in versions.items()
            if (key == one_each[key].aliased if of_alias else version.stage == target.name)
        ),
        any(row.guard_id is not None for row in rows),
    )
    if not is_whole or not rows:
        return found
    first = rows[0]
    if first.name != name:
        # MySQL found the model by a look-alike of its name, under which no request exists.
        return replace(found, log=(first.log_seq, first.log_hash))
    asked = [row[-len(WAITING_COLUMNS) :] for row in rows if row.version == first.version]
    waiting = tuple(records.with_votes(asked, name, target))
    return replace(found, waiting=waiting, log=(first.log_seq, first.log_hash))


_GUARDED = sa.select(guard.c.id).scalar_subquery().label("guard_id")


def _whole(versions: sa.Select[Any]) -> sa.Select[Any]:
    everything = mlflow_tables.VERSIONS.outerjoin(requests, sa.and_(*records.IS_WAITING)).outerjoin(
        decisions, decisions.c.request_id == requests.c.id
    )
    log = (
        sa.select(column).where(audit_head.c.id == 1).scalar_subquery().label(f"log_{column.name}")
        for column in (audit_head.c.seq, audit_head.c.hash)
    )
    return versions.add_columns(_GUARDED, *log, *WAITING_COLUMNS).select_from(everything)


# Built once: to build one takes Python longer than most databases take to answer.
_VERSIONS = {"alias": mlflow_tables.BESIDE_ALIAS, "stage": mlflow_tables.BESIDE_STAGE}
_BRIEF = {kind: versions.add_columns(_GUARDED) for kind, versions in _VERSIONS.items()}
_FULL = {kind: _whole(versions) for kind, versions in _VERSIONS.items()}
