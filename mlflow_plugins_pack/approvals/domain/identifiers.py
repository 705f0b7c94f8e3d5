"""Identities of versions and requests that no other row ever repeats; pure."""

from __future__ import annotations

import hashlib
import json

from mlflow_plugins_pack.approvals.domain.targets import Target


def version_uid(
    workspace: str,
    name: str,
    version: int,
    creation_time: int | None,
    source: str | None,
    storage_location: str | None,
    run_id: str | None,
) -> str:
    """Return the identity of one registered version.

    Version numbers restart at 1 when a model is deleted and created again; this never repeats.
    """
    fields = [workspace, name, version, creation_time, source, storage_location, run_id]
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def open_key(workspace: str, uid: str, target: Target, *, review: bool = False) -> str:
    """Return the value that is unique among open requests; reviews have keys of their own."""
    fields = [workspace, uid, target.key] + ["review"] * review
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
