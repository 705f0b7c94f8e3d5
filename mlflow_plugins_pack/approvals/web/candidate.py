"""Reads what a reviewer compares: the candidate and the version that holds the target now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from mlflow_plugins_pack.approvals.api.facts import VersionFacts, history_of, read_version
from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.version_files import VersionFiles
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.content import recorded
from mlflow_plugins_pack.approvals.domain import description_links
from mlflow_plugins_pack.approvals.policy.facts import Facts
from mlflow_plugins_pack.approvals.reports.request_details import RequestDetails
from mlflow_plugins_pack.approvals.web import comparison, declared, plots
from mlflow_plugins_pack.approvals.web.comparison import Row
from mlflow_plugins_pack.approvals.web.rendering import Pages

_AT_ONCE = 4
_DIGITS = 12
"""Of a digest that are shown."""
_MAX_PLOTS = 4
_MAX_DIFFS = 8
_LARGEST_DIFF_BYTES = 64 * 1024
_TEXT_FILES = (".txt", ".yaml", ".yml", ".json", ".md", ".py", ".cfg", ".toml", "MLmodel")
_REQUIREMENTS = "requirements.txt"
_HIDDEN_TAGS = ("mlflow_approvals.", "mlflow.", "lineage.")


@dataclass(frozen=True)
class Compared:
    """The candidate, the holder, and how they differ.

    Attributes:
        candidate: The version that the request is about.
        holder: The version that holds the target now, if that is another one.
        signatures: What each declares to take and to return.
        environments: The versions of packages that each declares.
        files: The files of both.
        diffs: The differences of small text files.
        plots: The history of metrics that have one.
    """

    candidate: VersionFacts
    holder: VersionFacts | None
    signatures: tuple[Mapping[str, str], ...]
    environments: tuple[Mapping[str, str], ...]
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
            "signature": self._compared(self.signatures),
            "environment": self._compared(self.environments),
            "files": self.files,
            "diffs": self.diffs,
        }

    def _compared(self, values: tuple[Mapping[str, str], ...]) -> list[Row]:
        return comparison.texts(values[0], (*values, {})[1], has_holder=self.has_holder)


def compare(review: Review, visitor: Visitor, details: RequestDetails) -> Compared:
    """Read both versions as the visitor may read them."""
    request, holder = details.request, details.holder
    wanted = [(request.version, details.version.run_id if details.version is not None else None)]
    if holder is not None and holder.version != request.version:
        wanted.append((holder.version, holder.run_id))
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="mlflow-pack-review") as pool:
        versions = list(
            pool.map(lambda asked: read_version(review, visitor, request.name, *asked), wanted)
        )
        histories = _read_histories(review, visitor, versions, pool)
        files = [version.files for version in versions]
        list(pool.map(lambda each: each.digests, files))  # with the sizes; each is read once
        requirements = list(pool.map(_requirements, versions))
        diffs = _diffs(versions, pool)
        model_files = [recorded.model_file(version.mlmodel or "") for version in versions]
        return Compared(
            candidate=versions[0],
            holder=versions[1] if len(versions) > 1 else None,
            signatures=tuple(map(declared.signature, model_files)),
            environments=tuple(map(declared.environment, model_files, requirements)),
            files=_files(files, {name for name, _ in diffs}),
            diffs=tuple(diffs),
            plots=_plots(versions, [history.result() for history in histories]),
        )


def _files(versions: Sequence[VersionFiles], differing: set[str]) -> tuple[Row, ...]:
    if not any(files.sizes for files in versions):
        return ()
    # Digests are compared only where both stores know them.
    unknown = {name for files in versions for name in files.sizes.keys() - files.digests.keys()}
    shown = [
        {
            name: comparison.size(size)
            + (f", sha256:{files.digests[name][:_DIGITS]}" if name not in unknown else "")
            for name, size in files.sizes.items()
        }
        for files in versions
    ]
    theirs = shown[1] if len(shown) > 1 else {}
    rows = comparison.texts(shown[0], theirs, has_holder=len(shown) > 1)
    return tuple(
        replace(row, change="changed", detail="same size, other text")
        if row.change == "same" and row.name in differing
        else row
        for row in rows
    )


def _requirements(version: VersionFacts) -> str | None:
    return version.files.text(_REQUIREMENTS) if _REQUIREMENTS in version.files.sizes else None


def _diffs(
    versions: Sequence[VersionFacts], pool: Executor
) -> list[tuple[str, list[tuple[str, str]]]]:
    if len(versions) < 2:
        return []
    new, old = versions[0].files, versions[1].files
    small = [
        path
        for path in sorted(new.sizes.keys() & old.sizes.keys())
        if path.endswith(_TEXT_FILES)
        and max(new.sizes[path], old.sizes[path]) <= _LARGEST_DIFF_BYTES
    ][: 2 * _MAX_DIFFS]
    texts = list(pool.map(lambda path: (old.text(path), new.text(path)), small))
    return [
        (path, comparison.text_diff(before, after))
        for path, (before, after) in zip(small, texts, strict=True)
        if before is not None and after is not None and before != after
    ][:_MAX_DIFFS]


def _read_histories(
    review: Review, visitor: Visitor, versions: Sequence[VersionFacts], pool: Executor
) -> list[Future[list[tuple[int, float]]]]:
    """Begin to read the history of each metric that gets a chart, of each version."""
    return [
        pool.submit(history_of, review, visitor, version, name)
        for name in versions[0].stepped[:_MAX_PLOTS]
        for version in versions
    ]


def _plots(
    versions: Sequence[VersionFacts], histories: Sequence[list[tuple[int, float]]]
) -> tuple[plots.Plot, ...]:
    found = []
    for number, name in enumerate(versions[0].stepped[:_MAX_PLOTS]):
        lines = [*histories[number * len(versions) :][: len(versions)], []]
        found.append(plots.plot(name, lines[0], lines[1]))
    return tuple(plot for plot in found if plot is not None)


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
    add("Description", description_links.removed(version.version.get("description")))
    return found
