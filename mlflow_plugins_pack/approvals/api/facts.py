"""Reads what MLflow knows of versions and runs, as the visitor may read it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.version_files import (
    NoFiles,
    VersionFiles,
    files_of,
    served_text,
)
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
        files: The version's files.
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
    files: VersionFiles = field(default_factory=NoFiles)
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


def read_version(
    review: Review, visitor: Visitor, name: str, number: int, run_id: str | None = None
) -> VersionFacts:
    """Return what the visitor may know of a version; what they may not read is left out.

    Args:
        review: The review app's parts.
        visitor: Who asks.
        name: The model.
        number: The version.
        run_id: Its run, if it is known, so that MLflow is asked about both at once.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="mlflow-pack-review") as pool:
        early = pool.submit(_run, review, visitor, run_id) if run_id else None
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
        made_by = str(version.get("run_id") or "")
        run: dict[str, Any] = {}
        problem = ""
        if early is not None and made_by == run_id:
            run, problem = early.result()
        elif made_by:
            run, problem = _run(review, visitor, made_by)
    data = run.get("data", {})
    run_tags = _pairs(data.get("tags", ()))
    files = files_of(review, visitor, version, run)
    return VersionFacts(
        number=number,
        version=version,
        run_id=made_by,
        run=run,
        metrics={m["key"]: _number(m.get("value")) for m in data.get("metrics", ())},
        params=_pairs(data.get("params", ())),
        tags=_pairs(version.get("tags", ())),
        run_tags=run_tags,
        files=files,
        mlmodel=files.text("MLmodel"),
        lineage=recorded.lineage_in(run_tags, lambda: _lineage_text(review, visitor, run)),
        stepped=tuple(m["key"] for m in data.get("metrics", ()) if int(m.get("step") or 0) > 0),
        problem=problem,
    )


def _run(review: Review, visitor: Visitor, run_id: str) -> tuple[dict[str, Any], str]:
    """Return MLflow's fields of a run, or why the visitor cannot read it."""
    try:
        found = review.server.call(
            "GET", "runs/get", visitor.credentials, params={"run_id": run_id}
        )
    except MlflowException as exc:
        return {}, str(exc.message)
    return found.get("run", {}), ""


def _lineage_text(review: Review, visitor: Visitor, run: Mapping[str, Any]) -> str | None:
    """Return the whole record of a run that MLflow lets the visitor read."""
    info = run.get("info", {})
    if review.site.has_stores:
        with review.acting(visitor):
            place = posixpath.join(str(info.get("artifact_uri")), "lineage")
            return recorded.read_file(place, "lineage.json")
    where = {"run_id": str(info.get("run_id")), "path": "lineage/lineage.json"}
    return served_text(review, visitor, "/get-artifact", where)


_MAX_POINTS = 2000


def history_of(
    review: Review, visitor: Visitor, version: VersionFacts, metric: str
) -> list[tuple[int, float]]:
    """Return the steps and values of a metric; empty if the visitor cannot read them.

    MLflow shows the history of a run's metrics to those who may read the run.
    """
    if not version.run:
        return []
    try:
        if review.site.has_stores:
            with review.acting(visitor):
                store = location.tracking()
                points = store.get_metric_history(version.run_id, metric, _MAX_POINTS)
            return [(point.step, point.value) for point in points]
        params = {"run_id": version.run_id, "metric_key": metric, "max_results": _MAX_POINTS}
        answer = review.server.call(
            "GET", "metrics/get-history", visitor.credentials, params=params
        )
    except MlflowException:
        return []
    return [(int(m.get("step") or 0), _number(m.get("value"))) for m in answer.get("metrics", ())]


def _pairs(items: Any) -> dict[str, str]:
    return {str(item["key"]): str(item.get("value", "")) for item in items}


def _number(value: Any) -> float:
    # JSON has neither of "NaN" and "Infinity": protobuf writes them as text.
    return float(value if value is not None else "nan")
