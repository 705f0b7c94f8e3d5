"""Tells who held each protected target of a model, and when, from the audit log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database.tables import audit
from mlflow_plugins_pack.approvals.domain.basis import Basis

_TELL = ("APPLIED", "SYSTEM_TRANSITION", "VERSION_DELETED", "MODEL_DELETED", "MODEL_RENAMED")


@dataclass(frozen=True)
class Tenure:
    """A time during which a version held a target.

    Attributes:
        version: The version; None: no version held it.
        since: When it began, in milliseconds since the epoch.
        until: When it ended; None: it lasts.
        actor: Who made the change.
        approvers: Whose approval counted.
        basis: What the approval rested on, if not on votes.
        request_id: The request that was applied.
    """

    version: int | None
    since: int
    until: int | None = None
    actor: str | None = None
    approvers: tuple[str, ...] = ()
    basis: str = ""
    request_id: str | None = None


def timelines(session: Session, workspace: str, name: str) -> dict[str, list[Tenure]]:
    """Return the tenures of each protected target of a model, the newest first."""
    query = (
        sa.select(audit)
        .where(audit.c.workspace == workspace, audit.c.name == name, audit.c.action.in_(_TELL))
        .order_by(audit.c.seq)
    )
    return tenures(dict(row._mapping) for row in session.execute(query))


def tenures(entries: Iterable[Mapping[str, Any]]) -> dict[str, list[Tenure]]:
    """Return the tenures that the audit entries of one model tell, the newest first.

    Args:
        entries: Oldest first.
    """
    found: dict[str, list[Tenure]] = {}
    for entry in entries:
        if entry["action"] == "APPLIED":
            _apply(found.setdefault(entry["target"], []), entry)
            continue
        for key, listed in found.items():
            is_its = entry["action"] != "SYSTEM_TRANSITION" or key == entry["target"]
            # A deleted or renamed model ends every tenure, a version only its own.
            number = None if entry["action"].startswith("MODEL_") else entry["version"]
            if is_its:
                _end(listed, entry["created_at"], number)
    return {key: listed[::-1] for key, listed in sorted(found.items())}


def _apply(listed: list[Tenure], entry: Mapping[str, Any]) -> None:
    after = json.loads(entry["after"] or "{}")
    is_alias = entry["target"].startswith("alias:")
    is_demotion = after.get("action") == "demote"
    _end(listed, entry["created_at"], None if is_alias and not is_demotion else entry["version"])
    if is_demotion:
        return
    listed.append(
        Tenure(
            version=entry["version"],
            since=entry["created_at"],
            actor=entry["actor"],
            approvers=tuple(after.get("approvers") or ()),
            basis=Basis.from_fields(after.get("basis")).text,
            request_id=entry["request_id"],
        )
    )


def _end(listed: list[Tenure], at: int, version: int | None) -> None:
    """End the tenures that last: that of a version, or every one."""
    for place, tenure in enumerate(listed):
        if tenure.until is None and version in (None, tenure.version):
            listed[place] = replace(tenure, until=at)
