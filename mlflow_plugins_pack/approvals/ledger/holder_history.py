"""Tenures of protected targets, derived from the audit log alone; pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Holding:
    """A version that held a protected target.

    Attributes:
        workspace: The model's workspace.
        model: The model's name.
        target: The key of the target, such as ``alias:prod``.
        version: The version.
        since: When the change was made, in milliseconds since the epoch.
        actor: Who made it.
        request_id: The request that was applied.
        approvers: Whose approval counted.
        digest: The digest of the content that was approved.
    """

    workspace: str
    model: str
    target: str
    version: int
    since: int
    actor: str | None
    request_id: str | None
    approvers: tuple[str, ...]
    digest: str | None


def holders_at(entries: Iterable[Mapping[str, Any]], at_ms: int | None = None) -> list[Holding]:
    """Return who held each protected target.

    Args:
        entries: The audit log's entries, oldest first.
        at_ms: When, in milliseconds since the epoch; None: after the last entry.

    Returns:
        One holding for an alias; for a stage one for each version in it, of which MLflow serves
        the highest.
    """
    told = History()
    for entry in entries:
        # Servers' clocks differ a little: a later entry may still bear an earlier time.
        if at_ms is None or entry["created_at"] <= at_ms:
            told.step(entry)
    return sorted(told.holdings(), key=lambda h: (h.workspace, h.model, h.target, h.version))


class History:
    """The holders of protected targets after each entry of the audit log."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], dict[tuple[str, int], Holding]] = {}

    def holdings(self) -> Iterator[Holding]:
        """Yield every holding."""
        for of_model in self._held.values():
            yield from of_model.values()

    def held_by(self, workspace: str, name: str, version: int) -> frozenset[str]:
        """Return the keys of the targets that a version holds."""
        of_model = self._held.get((workspace, name), {})
        return frozenset(target for target, number in of_model if number == version)

    def step(self, entry: Mapping[str, Any]) -> None:
        """Take the log's next entry into account."""
        model = (entry["workspace"], entry["name"])
        action, target, version = entry["action"], entry["target"], entry["version"]
        of_model = self._held.setdefault(model, {})
        if action == "APPLIED":
            after = json.loads(entry["after"] or "{}")
            if after.get("action") == "demote":
                of_model.pop((target, version), None)
                return
            if target.startswith("alias:"):
                for key in [key for key in of_model if key[0] == target]:
                    del of_model[key]
            of_model[target, version] = Holding(
                *model,
                target,
                version,
                entry["created_at"],
                entry["actor"],
                entry["request_id"],
                tuple(after.get("approvers") or ()),
                after.get("digest"),
            )
        elif action == "SYSTEM_TRANSITION":
            of_model.pop((target, version), None)
        elif action == "VERSION_DELETED":
            for key in [key for key in of_model if key[1] == version]:
                del of_model[key]
        elif action in ("MODEL_DELETED", "MODEL_RENAMED"):
            del self._held[model]
