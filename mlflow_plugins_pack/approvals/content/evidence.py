"""Reads what a decision needs and what is too slow to read in a transaction.

That is a version's files, its run, and what the run and the model recorded about themselves.
What cannot be read is left out of the facts; the checks count it as lacking.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.content import location
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.approvals.domain.digest_progress import DigestProgress
from mlflow_plugins_pack.approvals.policy.checks import Check
from mlflow_plugins_pack.approvals.policy.facts import Facts, Lineage, Need

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
    """

    uid: str
    digest: str | None
    run_user: str | None
    facts: Facts = field(default_factory=Facts)
    holder_uid: str | None = None
    holder: Facts = field(default_factory=Facts)
    progress: DigestProgress | None = None
    since_ms: int = 0
    can_lock: bool = True
    knows_user: bool = True


def gather(
    version: Version,
    tags: Mapping[str, str | None],
    checks: list[Check],
    holder: Version | None,
    digest_of: Callable[[Mapping[str, str | None]], str | DigestProgress],
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
    found, progress = (read, None) if isinstance(read, str) else (None, read)
    user = _user_of(run)
    whole = Evidence(
        version.uid,
        found,
        user,
        facts,
        progress=progress,
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
        lineage=_lineage(run) if Need.LINEAGE in needs and run is not None else None,
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
    text = _read(place, "MLmodel")
    try:
        found = yaml.safe_load(text) if text is not None else None
    except yaml.YAMLError:
        return None
    return bool(found.get("signature")) if isinstance(found, dict) else None


def _lineage(run: Any) -> Lineage | None:
    """Read what ``lineage.*`` tags say; where they are shortened, also ``lineage.json``."""
    tags = run.data.tags
    inputs = _json(tags.get("lineage.inputs"), list)
    if inputs is None:
        return None
    code = _json(tags.get("lineage.code"), dict) or {}
    shortened = _json(tags.get("lineage.truncated", "{}"), dict)
    is_complete = shortened is not None and not any(
        shortened.get(key) for key in ("inputs", "rolled_up", "dropped")
    )
    if not is_complete:
        text = _read(location.run_location(run, "lineage"), "lineage.json")
        whole = _json(text, dict) or {}
        listed = whole.get("inputs")
        if isinstance(listed, list):
            inputs, is_named = _with_members(listed, whole.get("members"))
            is_complete = is_named and not whole.get("dropped")
    commit, is_dirty = code.get("commit"), code.get("dirty")
    return Lineage(
        tuple(entry for entry in inputs if isinstance(entry, dict)),
        is_complete and all(isinstance(entry, dict) for entry in inputs),
        commit if isinstance(commit, str) else None,
        is_dirty if isinstance(is_dirty, bool) else None,
    )


def _with_members(inputs: list[Any], members: Any) -> tuple[list[Any], bool]:
    """Put each file of a folded folder in the folder's place; tell whether all could be named."""
    named = members if isinstance(members, dict) else {}
    files: dict[str, int] = {}
    found: dict[str, Any] = {}
    listed = []
    for entry in inputs:
        if not isinstance(entry, dict) or not entry.get("files"):
            listed.append(entry)
            continue
        uri = str(entry.get("u"))
        files[uri] = files.get(uri, 0) + (entry["files"] if isinstance(entry["files"], int) else 1)
        for name in named.get(uri, ()):
            found[uri + quote(os.fsencode(str(name)))] = entry
        listed.append(entry)
    is_named = all(len(named.get(uri, ())) >= count for uri, count in files.items())
    return [*listed, *({**entry, "u": uri} for uri, entry in found.items())], is_named


def _json(text: str | None, kind: type) -> Any:
    try:
        found = json.loads(text) if text is not None else None
    except ValueError:
        return None
    return found if isinstance(found, kind) else None


def _read(place: str, name: str) -> str | None:
    """Return a small text file at an artifact location; None if it cannot be read."""
    try:
        repository, path = location.repository_for(place)
        inside = f"{path}/{name}" if path else name
        with tempfile.TemporaryDirectory(prefix="mlflow-pack-evidence-") as folder:
            return Path(repository.download_artifacts(inside, folder)).read_text(encoding="utf-8")
    except Exception as exc:  # noqa: BLE001 - whatever it is, what was not read is not known
        _logger.info("%s at %s could not be read: %s", name, place, exc)
        return None
