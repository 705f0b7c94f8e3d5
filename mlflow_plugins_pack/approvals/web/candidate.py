"""Reads what a reviewer compares: the candidate and the version that holds the target now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.api.facts import (
    VersionFacts,
    files_of,
    history_of,
    read_version,
    text_of,
)
from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.policy.facts import Facts
from mlflow_plugins_pack.approvals.reports.request_details import RequestDetails
from mlflow_plugins_pack.approvals.web import comparison, plots
from mlflow_plugins_pack.approvals.web.comparison import Row
from mlflow_plugins_pack.approvals.web.rendering import Pages

_MAX_PLOTS = 4
_MAX_DIFFS = 8
_LARGEST_DIFF_BYTES = 64 * 1024
_TEXT_FILES = (".txt", ".yaml", ".yml", ".json", ".md", ".py", ".cfg", ".toml", "MLmodel")
_HIDDEN_TAGS = ("mlflow_approvals.", "mlflow.", "lineage.")


@dataclass(frozen=True)
class Compared:
    """The candidate, the holder, and how they differ.

    Attributes:
        candidate: The version that the request is about.
        holder: The version that holds the target now, if that is another one.
        files: The files of both.
        diffs: The differences of small text files.
        plots: The history of metrics that have one.
    """

    candidate: VersionFacts
    holder: VersionFacts | None
    files: tuple[Row, ...]
    diffs: tuple[tuple[str, list[tuple[str, str]]], ...]
    plots: tuple[plots.Plot, ...]

    @property
    def has_holder(self) -> bool:
        """Whether there is another version to compare with."""
        return self.holder is not None

    @property
    def facts(self) -> tuple[Facts, ...]:
        """What the checks of the policy ask."""
        found = (self.candidate,) if self.holder is None else (self.candidate, self.holder)
        return tuple(version.facts() for version in found)

    def shown(self, pages: Pages) -> dict[str, Any]:
        """Return the values of the page."""
        new, old = self.candidate, self.holder or VersionFacts(0)
        has = {"has_holder": self.has_holder}
        return {
            "version_problem": new.problem,
            "metrics": comparison.metrics(new.metrics, old.metrics, **has),
            "plots": self.plots,
            "params": comparison.texts(new.params, old.params, **has),
            "tags": comparison.texts(_own(new.tags), _own(old.tags), **has),
            "data": comparison.data(_inputs(new), _inputs(old), **has),
            "coverage": _coverage(new),
            "origin": _origin(new, pages),
            "files": self.files,
            "diffs": self.diffs,
        }


def compare(review: Review, visitor: Visitor, details: RequestDetails) -> Compared:
    """Read both versions as the visitor may read them."""
    request = details.request
    new = read_version(review, visitor, request.name, request.version)
    old = None
    if details.holder is not None and details.holder.version != request.version:
        old = read_version(review, visitor, request.name, details.holder.version)
    try:
        sizes = [files_of(review, visitor, found) for found in (new, old) if found is not None]
    except MlflowException:
        sizes = []
    diffs = _diffs(review, visitor, request.name, new, old, sizes) if len(sizes) == 2 else []
    differing = {name for name, _ in diffs}
    files = _files(sizes, differing, has_holder=old is not None)
    return Compared(new, old, files, tuple(diffs), _plots(review, visitor, new, old))


def _files(
    sizes: Sequence[Mapping[str, int]], differing: set[str], *, has_holder: bool
) -> tuple[Row, ...]:
    if not sizes:
        return ()
    shown = [{name: comparison.size(size) for name, size in files.items()} for files in sizes]
    theirs = shown[1] if len(shown) > 1 else {}
    rows = comparison.texts(shown[0], theirs, has_holder=has_holder)
    return tuple(
        replace(row, change="changed", detail="same size, other text")
        if row.change == "same" and row.name in differing
        else row
        for row in rows
    )


def _diffs(
    review: Review,
    visitor: Visitor,
    name: str,
    new: VersionFacts,
    old: VersionFacts | None,
    sizes: Sequence[Mapping[str, int]],
) -> list[tuple[str, list[tuple[str, str]]]]:
    differing: list[tuple[str, list[tuple[str, str]]]] = []
    both = sorted(sizes[0].keys() & sizes[1].keys())
    small = [
        path
        for path in both
        if path.endswith(_TEXT_FILES) and max(s[path] for s in sizes) <= _LARGEST_DIFF_BYTES
    ]
    for path in small[: 2 * _MAX_DIFFS]:
        if old is None or len(differing) == _MAX_DIFFS:
            break
        texts = [text_of(review, visitor, name, found.number, path) for found in (old, new)]
        if texts[0] is not None and texts[1] is not None and texts[0] != texts[1]:
            differing.append((path, comparison.text_diff(texts[0], texts[1])))
    return differing


def _plots(
    review: Review, visitor: Visitor, new: VersionFacts, old: VersionFacts | None
) -> tuple[plots.Plot, ...]:
    found: list[plots.Plot] = []
    for name in new.stepped[:_MAX_PLOTS]:
        ours = history_of(review, visitor, new, name)
        theirs = history_of(review, visitor, old, name) if old is not None else []
        if (plot := plots.plot(name, ours, theirs)) is not None:
            found.append(plot)
    return tuple(found)


def _own(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if not key.startswith(_HIDDEN_TAGS)}


def _inputs(version: VersionFacts) -> tuple[Mapping[str, Any], ...]:
    return version.lineage.inputs if version.lineage is not None else ()


def _coverage(version: VersionFacts) -> str:
    if version.lineage is None:
        return "The run has no lineage: it was not recorded, or you may not read the run."
    if not version.lineage.is_complete:
        return "The list is shortened; folders stand for some files."
    if version.lineage.lacks:
        return f"Not all may be listed: the record is {', '.join(version.lineage.lacks)}."
    return ""


def _origin(version: VersionFacts, pages: Pages) -> list[tuple[str, dict[str, str]]]:
    """Return where the version comes from: its run, code and environment."""
    found: list[tuple[str, dict[str, str]]] = []

    def add(name: str, text: object, href: str = "") -> None:
        if text:
            found.append((name, {"text": str(text), "href": href}))

    name = str(version.version.get("name", ""))
    version_page = pages.mlflow("models", name, "versions", str(version.number)) if name else ""
    add("Version", f"{name} version {version.number}" if name else "", version_page)
    info = version.run.get("info", {})
    if version.run_id:
        at = pages.mlflow("experiments", str(info.get("experiment_id", "")), "runs", version.run_id)
        add("Run", info.get("run_name") or version.run_id, at if info else "")
        add("Lineage", "upstream and downstream", pages.url("/lineage", target=version.run_id))
    add("Run by", info.get("user_id"))
    add("Source", version.version.get("source"))
    lineage = version.lineage
    commit = version.run_tags.get("mlflow.source.git.commit")
    if lineage is not None and lineage.commit:
        state = {True: " with uncommitted changes", False: ""}.get(lineage.is_dirty or False, "")
        add("Code", f"{lineage.commit[:12]}{state}")
    elif commit:
        add("Code", commit[:12])
    add("Script", version.run_tags.get("mlflow.source.name"))
    add("Description", version.version.get("description"))
    return found
