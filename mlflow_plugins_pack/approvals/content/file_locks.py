"""Has an approved version's files kept as they are, where the artifact repository can do that.

A repository that can has ``lock(reason, path)`` and ``unlock(reason, path)``; others are left
alone, and their files are found changed when they are read the next time. A lock is set after the
approval is committed, and never decides anything: the digest does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mlflow_plugins_pack.approvals.content import digest
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.domain.targets import Target

_logger = logging.getLogger(__name__)


def sync(version: Version, target: Target, is_approved: Callable[[], bool]) -> None:
    """Lock the files of an approved version, or let go of those of one that is not.

    What cannot be locked or unlocked is logged: the registry has decided already.

    Args:
        version: Whose files.
        target: For which it is approved or not.
        is_approved: Tells whether it is; asked only where files can be locked.
    """
    if not version.has_files:
        return
    verb = "looked up"
    try:
        repository, path = digest.repository_for(version.storage_location or version.source or "")
        if not callable(getattr(repository, "lock", None)):
            return
        verb = "locked" if is_approved() else "unlocked"
        act = repository.lock if verb == "locked" else repository.unlock
        act(_reason(version, target), path)
    except Exception as exc:  # noqa: BLE001 - see above; a store may fail in any way
        what = f"models:/{version.name}/{version.version}"
        _logger.warning("The files of %s could not be %s: %s", what, verb, exc)


def _reason(version: Version, target: Target) -> str:
    # The identity is in it, so that a version made anew has no say about the locks of the old one.
    return (
        f"approved as {target}: models:/{version.name}/{version.version} "
        f"(workspace {version.workspace}, {version.uid[:12]})"
    )
