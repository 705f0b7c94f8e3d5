"""Locks the files of approved versions where the artifact repository can lock files.

Such a repository has ``lock(reason, path)`` and ``unlock(reason, path)``. Elsewhere a change is
found when the files are read the next time. A lock is set after the
approval is committed, and never decides anything: the digest does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mlflow_plugins_pack.approvals.content import location
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.domain.targets import Target

_logger = logging.getLogger(__name__)


def sync(version: Version, target: Target, is_approved: Callable[[], bool]) -> None:
    """Lock the files of an approved version, or unlock those of one that is not approved.

    What cannot be locked or unlocked is logged: the registry has decided already.

    Args:
        version: The version.
        target: The target for which it is approved or not.
        is_approved: Returns whether it is approved; called only where files can be locked.
    """
    if not version.has_files:
        return
    verb = "looked up"
    try:
        repository, path = location.repository_for(location.pinned_location(version))
        if not callable(getattr(repository, "lock", None)):
            return
        verb = "locked" if is_approved() else "unlocked"
        act = repository.lock if verb == "locked" else repository.unlock
        act(_reason(version, target), path)
    except Exception as exc:  # noqa: BLE001 - see above; a store may fail in any way
        what = f"models:/{version.name}/{version.version}"
        _logger.warning("The files of %s could not be %s: %s", what, verb, exc)


def _reason(version: Version, target: Target) -> str:
    # With the identity, so that a version created again does not share locks with the old one.
    return (
        f"approved as {target}: models:/{version.name}/{version.version} "
        f"(workspace {version.workspace}, {version.uid[:12]})"
    )
