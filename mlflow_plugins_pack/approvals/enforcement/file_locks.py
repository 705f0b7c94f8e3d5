"""Locks the files of approved versions where the artifact repository can lock files.

A lock belongs to one request, which its reason names. It is set before the files are read by which
the request is applied, and removed only once the request is closed. No request opens again, so
no call can remove a lock that another one relies on, however long it is paused in between.
Elsewhere a change of the files is found when they are read the next time.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.content.digest import Files
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.database.transactions import Transactions
from mlflow_plugins_pack.approvals.domain import clock
from mlflow_plugins_pack.approvals.domain.request_states import State
from mlflow_plugins_pack.approvals.domain.targets import Target
from mlflow_plugins_pack.approvals.ledger.requests import Request, find_requests, is_approved

_logger = logging.getLogger(__name__)


class FileLocks:
    """The locks on the files of one store's versions.

    Args:
        transactions: The store's transactions.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def hold(self, files: Files, request: Request) -> None:
        """Lock a version's files for a request that was read as APPROVED.

        Raises:
            DigestUnavailableError: If the repository does not lock them.
        """
        files.lock(_reason(request))
        _, closed = self._read(files.version, request.target)
        if any(other.id == request.id for other in closed):  # who closed it may have been here
            files.unlock([_reason(request)])

    def sync(self, version: Version, target: Target) -> None:
        """Lock the files for the requests that are approved; remove the locks of closed ones.

        What cannot be locked or unlocked is logged: the registry has decided already, and a
        change is made only by a call that has locked the files itself.
        """
        files = Files(version)
        if not files.can_lock:
            return
        try:
            present = files.locked_for()
            kept, closed = self._read(version, target)
            added = [_reason(request) for request in kept if _reason(request) not in present]
            for reason in added:
                files.lock(reason)
            if added:  # and one of these requests may have been closed meanwhile
                _, closed = self._read(version, target)
            unwanted = {_reason(request) for request in closed}
            files.unlock(unwanted.intersection([*present, *added]))
        except Exception as exc:  # noqa: BLE001 - a store may fail in any way
            _warn(version, exc)

    def release(self, versions: Sequence[Version]) -> None:
        """Remove every lock on the files of versions of a model that are gone from its name."""
        if not versions:
            return
        workspace, name = versions[0].workspace, versions[0].name
        found = self._transactions.read(lambda s: find_requests(s, workspace=workspace, name=name))
        for version in versions:
            own = {_reason(request) for request in found if request.version_uid == version.uid}
            try:
                if own and (files := Files(version)).can_lock:
                    files.unlock(own.intersection(files.locked_for()))
            except Exception as exc:  # noqa: BLE001 - see above
                _warn(version, exc)

    def _read(self, version: Version, target: Target) -> tuple[list[Request], list[Request]]:
        """Return the requests whose locks stay, and those that are closed for good."""

        def work(session: Session) -> tuple[list[Request], list[Request]]:
            found = find_requests(session, version_uid=version.uid, target=target)
            holds = is_approved(session, version, [target], clock.now_ms()) is not None
            # By the state that is stored: by its clock, another server may still apply a request
            # that has run out by this one's.
            kept = [
                request
                for request in found
                if request.action == "promote"
                and (request.state is State.APPROVED or (request.state is State.APPLIED and holds))
            ]
            stays = {request.id for request in kept}
            return kept, [r for r in found if not r.state.is_open and r.id not in stays]

        return self._transactions.read(work)


def _reason(request: Request) -> str:
    return (
        f"approved as {request.target}: models:/{request.name}/{request.version} "
        f"(workspace {request.workspace}, request {request.id})"
    )


def _warn(version: Version, exc: Exception) -> None:
    what = f"models:/{version.name}/{version.version}"
    _logger.warning("The locks on the files of %s could not be set or removed: %s", what, exc)
