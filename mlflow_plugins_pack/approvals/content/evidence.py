"""Reads what a decision needs and what is too slow to read in a transaction.

That is a version's files, its run, and what the run and the model recorded about themselves.
What cannot be read is left out of the facts; the checks count it as lacking.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.content import location, recorded
from mlflow_plugins_pack.approvals.content.digest import DigestResult
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.domain.digest_progress import DigestProgress
from mlflow_plugins_pack.approvals.policy.checks import Check
from mlflow_plugins_pack.approvals.policy.facts import Facts, Need

_logger = logging.getLogger(__name__)

_NO_USER = "unknown"
"""What MLflow's client writes for a run without a user."""
_LONGEST_NAME = 256
"""Longest user name: a longer one is not a user's, and does not fit the columns."""
_NEEDS_RUN = frozenset({Need.MEASUREMENTS, Need.LINEAGE})


@dataclass(frozen=True)
class Evidence:
    """What was read of one version.

    Attributes:
        uid: the version's identity.
        digest: the digest of its content; None while it is computed.
        run_user: the user in whose name its run was created; it can only ban a vote.
        knows_user: whether that was read.
        facts: what the checks need.
        holder_uid: the version that holds the target now, if that is another one.
        holder: the facts of that version.
        progress: How far the reading of the bytes is, where it goes on.
        since_ms: Bytes that were read before do not count.
        can_lock: Whether the repository can keep the bytes as they are.
        locked_for: The request for which they were locked before they were read.
        file_marks: Marks of the files as they were read; None: they show no later write.
        may_differ: Whether they were written since they were read for the request.
    """

    uid: str
    digest: str | None
    run_user: str | None
    facts: Facts = field(default_factory=Facts)
    holder_uid: str | None = None
    holder: Facts = field(default_factory=Facts)
    progress: DigestProgress | None = None
    since_ms: int = 0
    can_lock: bool = False
    locked_for: str | None = None
    file_marks: str | None = None
    may_differ: bool = False
    knows_user: bool = True


def gather(
    version: Version,
    tags: Mapping[str, str | None],
    checks: list[Check],
    holder: Version | None,
    digest_of: Callable[[Mapping[str, str | None]], DigestResult | DigestProgress],
    *,
    with_user: bool = True,
) -> Evidence:
    """Read a version's bytes and what the checks will ask; slow, so never inside a transaction.

    Args:
        version: The version to read.
        tags: A prompt's tags, which are its content.
        checks: The checks that will be made.
        holder: The version that holds the target now.
        digest_of: Reads the bytes, or tells how far their reading is.
        with_user: Whether the run's user is asked for; without, the run is read for checks only.

    Raises:
        DigestUnavailableError: If the bytes cannot be read.
    """
    needs = frozenset(need for check in checks for need in check.needs)
    is_read = with_user or not needs.isdisjoint(_NEEDS_RUN)
    run = _run(version.run_id) if is_read else None
    facts = _facts(version, run, needs)
    read = digest_of(tags)
    found, progress = (read, None) if isinstance(read, DigestResult) else (None, read)
    user = _user_of(run)
    whole = Evidence(
        version.uid,
        found.digest if found is not None else None,
        user,
        facts,
        progress=progress,
        file_marks=found.file_marks if found is not None else None,
        knows_user=is_read or not version.run_id,
    )
    if holder is None or holder.uid == version.uid:
        return whole
    is_compared = Need.HOLDER in needs
    theirs = _facts(holder, _run(holder.run_id), needs) if is_compared else Facts()
    return replace(whole, holder_uid=holder.uid, holder=theirs)


def _user_of(run: Any) -> str | None:
    """Return the user in whose name a run was created.

    Not the tag ``mlflow.user``, which starts out the same: anyone may overwrite that later, to take
    a vote away or to win one back.
    """
    user: str | None = run.info.user_id if run is not None else None
    return user[:_LONGEST_NAME] if user and user != _NO_USER else None


def _facts(version: Version, run: Any, needs: frozenset[Need]) -> Facts:
    metrics: dict[str, float] = {}
    params: dict[str, str] = {}
    if Need.MEASUREMENTS in needs:
        for source in (run.data if run is not None else None, _logged_model(version)):
            if source is not None:
                metrics |= _metrics(source.metrics)
                params |= {str(key): str(value) for key, value in (source.params or {}).items()}
    return Facts(
        metrics=metrics,
        params=params,
        has_signature=_has_signature(version) if Need.SIGNATURE in needs else None,
        lineage=recorded.lineage_of(run) if Need.LINEAGE in needs and run is not None else None,
    )


def _metrics(found: Any) -> dict[str, float]:
    # A run has a mapping, a logged model a list whose later entries are the newer ones.
    if isinstance(found, Mapping):
        return {str(key): float(value) for key, value in found.items()}
    newest = sorted(found or (), key=lambda metric: (metric.timestamp, metric.step))
    return {metric.key: float(metric.value) for metric in newest}


def _run(run_id: str | None) -> Any:
    if not run_id:
        return None
    try:
        return location.tracking().get_run(run_id)
    except MlflowException as exc:
        _logger.info("The run %s could not be read: %s", run_id, exc)
        return None


def _logged_model(version: Version) -> Any:
    match = location.LOGGED_MODEL.fullmatch(version.source or "")
    if match is None:
        return None
    try:
        return location.tracking().get_logged_model(match["id"])
    except MlflowException as exc:
        _logger.info("The logged model %s could not be read: %s", match["id"], exc)
        return None


def _has_signature(version: Version) -> bool | None:
    try:
        place = location.pinned_location(version)
    except MlflowException:
        return None
    text = recorded.read_file(place, "MLmodel")
    return recorded.has_signature(text) if text is not None else None
