"""Reads where a version stands from its projection tags, as any client of a server sees them.

Only the JSON of the tags is read; what is printed is worded here, from that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow.exceptions import MlflowException, RestException

from mlflow_plugins_pack.approvals.domain.projection import (
    APPROVAL_SUFFIX,
    REQUEST_SUFFIX,
    HolderApproval,
    TargetStatus,
)
from mlflow_plugins_pack.approvals.domain.tag_names import PROJECTION_PREFIX


def status_of(tags: Mapping[str, str], target: str) -> TargetStatus | None:
    """Return the status of a version for a target; None if it has no request."""
    try:
        return TargetStatus.from_json(tags[f"{PROJECTION_PREFIX}{target}{REQUEST_SUFFIX}"])
    except (KeyError, ValueError):
        return None


def statuses_of(tags: Mapping[str, str]) -> dict[str, TargetStatus]:
    """Return where a version stands for each target, by the target as people type it."""
    targets = sorted(
        key.removeprefix(PROJECTION_PREFIX).removesuffix(REQUEST_SUFFIX)
        for key in tags
        if key.startswith(PROJECTION_PREFIX) and key.endswith(REQUEST_SUFFIX)
    )
    found = {target: status_of(tags, target) for target in targets}
    return {target: status for target, status in found.items() if status is not None}


def approval_of(tags: Mapping[str, str], target: str) -> HolderApproval | None:
    """Return the approval by which a version holds a target; None: it has none."""
    try:
        return HolderApproval.from_json(tags[f"{PROJECTION_PREFIX}{target}{APPROVAL_SUFFIX}"])
    except (KeyError, ValueError):
        return None


def as_row(target: str, status: TargetStatus) -> dict[str, Any]:
    """Return a status as a row for `print_rows`; ``status`` is worded for people."""
    return {
        "target": target,
        "state": status.state.value,
        "action": status.action,
        "request_id": status.request_id,
        "votes": status.votes,
        "votes_needed": status.votes_needed,
        "approvers": list(status.approvers),
        "basis": status.basis.as_fields(),
        "reason": status.reason,
        "progress": status.progress.as_fields() if status.progress else None,
        "status": status.text,
    }


def fields_of(exc: MlflowException) -> dict[str, Any]:
    """Return what an error says to programs; a server's error has it in its JSON."""
    fields: dict[str, Any] = exc.json if isinstance(exc, RestException) else exc.json_kwargs
    return fields
