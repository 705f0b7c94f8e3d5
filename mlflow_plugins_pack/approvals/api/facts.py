"""Reads what MLflow knows of versions and runs, as the visitor may read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.content import location, recorded
from mlflow_plugins_pack.approvals.policy.facts import Facts, Lineage


@dataclass(frozen=True)
class VersionFacts:
    """A version with its run, as far as the visitor may read them.

    Attributes:
        number: The version's number.
        version: MLflow's fields of the version; empty: it cannot be read.
        run_id: The run that made it.
        run: The names, values and tags of the run; empty: it cannot be read.
        metrics: The newest value of each metric.
        params: The parameters.
        tags: The version's tags.
        run_tags: The run's tags.
        mlmodel: The text of its MLmodel file, if it can be read.
        lineage: What its run recorded about its inputs.
        stepped: The metrics that have several values.
        problem: Why the run cannot be read, if it cannot.
    """

    number: int
    version: Mapping[str, Any] = field(default_factory=dict)
    run_id: str = ""
    run: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    run_tags: Mapping[str, str] = field(default_factory=dict)
    mlmodel: str | None = None
    lineage: Lineage | None = None
    stepped: tuple[str, ...] = ()
    problem: str = ""

    def facts(self) -> Facts:
        """Return what the checks of a policy ask."""
        return Facts(
            metrics=self.metrics,
            params=self.params,
            has_signature=None if self.mlmodel is None else recorded.has_signature(self.mlmodel),
            lineage=self.lineage,
        )


def read_version(review: Review, visitor: Visitor, name: str, number: int) -> VersionFacts:
    """Return what the visitor may know of a version; what they may not read is left out."""
    try:
        answer = review.server.call(
            "GET",
            "model-versions/get",
            visitor.credentials,
            params={"name": name, "version": str(number)},
        )
    except MlflowException as exc:
        return VersionFacts(number, problem=exc.message)
    version = answer.get("model_version", {})
    run_id, run, problem = str(version.get("run_id") or ""), {}, ""
    if run_id:
        try:
            found = review.server.call(
                "GET", "runs/get", visitor.credentials, params={"run_id": run_id}
            )
            run = found.get("run", {})
        except MlflowException as exc:
            problem = exc.message
    data = run.get("data", {})
    run_tags = _pairs(data.get("tags", ()))

    def read_lineage() -> str | None:
        where = {"run_id": run_id, "path": "lineage/lineage.json"}
        return _artifact(review, visitor, "/get-artifact", where)

    return VersionFacts(
        number=number,
        version=version,
        run_id=run_id,
        run=run,
        metrics={m["key"]: _number(m.get("value")) for m in data.get("metrics", ())},
        params=_pairs(data.get("params", ())),
        tags=_pairs(version.get("tags", ())),
        run_tags=run_tags,
        mlmodel=text_of(review, visitor, name, number, "MLmodel"),
        lineage=recorded.lineage_in(run_tags, read_lineage),
        stepped=tuple(m["key"] for m in data.get("metrics", ()) if int(m.get("step") or 0) > 0),
        problem=problem,
    )


_MAX_FILES = 200
_MAX_FOLDERS = 20
_MAX_POINTS = 2000


def files_of(review: Review, visitor: Visitor, version: VersionFacts) -> dict[str, int]:
    """Return the sizes in bytes of a version's files, by their paths in the version.

    Raises:
        MlflowException: If MLflow cannot list them for the visitor.
    """
    source = str(version.version.get("source") or "")
    root = str(version.run.get("info", {}).get("artifact_uri") or "\0")
    if match := location.LOGGED_MODEL.fullmatch(source):
        path = f"logged-models/{match['id']}/artifacts/directories"
        where, base, key = {}, "", "artifact_directory_path"
    elif source.startswith(f"{root}/"):
        path, where, base = "artifacts/list", {"run_id": version.run_id}, source[len(root) + 1 :]
        key = "path"
    else:
        return {}
    found: dict[str, int] = {}
    folders = [base]
    for folder in folders:
        params = {**where, **({key: folder} if folder else {})}
        answer = review.server.call("GET", path, visitor.credentials, params=params)
        for file in answer.get("files", ()):
            if file.get("is_dir"):
                folders += [file["path"]] if len(folders) < _MAX_FOLDERS else []
            elif len(found) < _MAX_FILES:
                inside = file["path"].removeprefix(f"{base}/") if base else file["path"]
                found[inside] = int(file.get("file_size") or 0)
    return found


def text_of(review: Review, visitor: Visitor, name: str, number: int, path: str) -> str | None:
    """Return a small text file of a version, or None if the visitor cannot read it."""
    where = {"name": name, "version": str(number), "path": path}
    return _artifact(review, visitor, "/model-versions/get-artifact", where)


def history_of(
    review: Review, visitor: Visitor, version: VersionFacts, metric: str
) -> list[tuple[int, float]]:
    """Return the steps and values of a metric; empty if the visitor cannot read them."""
    params = {"run_id": version.run_id, "metric_key": metric, "max_results": _MAX_POINTS}
    try:
        answer = review.server.call(
            "GET", "metrics/get-history", visitor.credentials, params=params
        )
    except MlflowException:
        return []
    return [(int(m.get("step") or 0), _number(m.get("value"))) for m in answer.get("metrics", ())]


def _artifact(review: Review, visitor: Visitor, path: str, where: Mapping[str, str]) -> str | None:
    """Return a small text file of a run or version, or None if it cannot be read."""
    try:
        return review.server.text(path, visitor.credentials, where, recorded.LARGEST_BYTES)
    except (MlflowException, UnicodeError):  # the name of a file may not be one of an address
        return None


def _pairs(items: Any) -> dict[str, str]:
    return {str(item["key"]): str(item.get("value", "")) for item in items}


def _number(value: Any) -> float:
    # JSON has neither of "NaN" and "Infinity": protobuf writes them as text.
    return float(value if value is not None else "nan")
