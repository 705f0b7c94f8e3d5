"""What is taken along of a version, and the tags by which both ends find each other; pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mlflow_plugins_pack.approvals.domain.attestation import AttestedApproval
from mlflow_plugins_pack.approvals.domain.tag_names import is_reserved_tag

PREFIX = "mlflow_pack.shipped."
"""Of all tags that a shipment writes; those of an earlier shipment are not taken along."""
ID_TAG = f"{PREFIX}id"
FROM_TAG = f"{PREFIX}from"
TO_PREFIX = f"{PREFIX}to."
RUN_TAG = f"{PREFIX}run"
MODEL_TAG = f"{PREFIX}model"

MAX_TAGS = 10_000
MAX_PARAMS = 20_000
MAX_METRICS = 20_000
MAX_POINTS = 5_000_000
"""Points of all metrics of a run together."""
MAX_DATASETS = 10_000
MAX_FILES = 100_000
MAX_PATH_LENGTH = 1_000

# What stays behind: it names other runs and versions of its own server.
_PARENT_TAG = "mlflow.parentRunId"
_VERSIONS_TAG = "mlflow.modelVersions"


class Point(NamedTuple):
    """One measured value of a metric; time in milliseconds since the epoch."""

    key: str
    value: float
    timestamp: int
    step: int


class ModelPoint(NamedTuple):
    """One measured value of a logged model, and the dataset that it was measured on."""

    point: Point
    dataset_name: str | None
    dataset_digest: str | None


@dataclass(frozen=True)
class Dataset:
    """A dataset that a run used, with the tags of that use."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None
    profile: str | None
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class RunRecord:
    """A run.

    Attributes:
        run_id: Its id at the source.
        name: Its name, if it has one.
        experiment: The name of its experiment.
        status: ``FINISHED`` or another of MLflow's words.
        started, ended: Milliseconds since the epoch; None while unknown.
        artifact_uri: Where its artifacts are.
        params, tags: As text.
        metrics: The names of its metrics; their histories are read one by one.
        datasets: What it read.
        output_steps: The steps at which it logged models, by model id.
    """

    run_id: str
    name: str | None
    experiment: str
    status: str
    started: int | None
    ended: int | None
    artifact_uri: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: tuple[str, ...]
    datasets: tuple[Dataset, ...]
    output_steps: Mapping[str, int]


@dataclass(frozen=True)
class ModelRecord:
    """A logged model; ``points`` are its own metrics that its run measured."""

    model_id: str
    name: str
    model_type: str | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    points: tuple[ModelPoint, ...]
    other_points: int = 0


@dataclass(frozen=True)
class SourceApproval:
    """An approval at the source, as its server shows it.

    Attributes:
        digest: The digest of the content that it is bound to.
        approval: What is attested of it.
    """

    digest: str
    approval: AttestedApproval


@dataclass(frozen=True)
class VersionRecord:
    """A registered version, and all that goes along.

    Attributes:
        name, version: Of the registered model.
        created: Milliseconds since the epoch.
        location: Where its files are, with logged models and runs resolved.
        path_in_run: The path of its files below the artifacts of its run, if they are there.
        description, tags: Of the version.
        model_description, model_tags: Of the registered model.
        run: The run that logged it, if there is one.
        model: The logged model that it was registered from, if there is one.
        approvals: The approvals by which it holds aliases and stages at the source.
    """

    name: str
    version: int
    created: int
    location: str
    path_in_run: str | None
    description: str | None
    tags: Mapping[str, str]
    model_description: str | None
    model_tags: Mapping[str, str]
    run: RunRecord | None
    model: ModelRecord | None
    approvals: tuple[SourceApproval, ...] = ()

    @property
    def approved_digests(self) -> frozenset[str]:
        """Digests of content that approvals of the source are bound to."""
        return frozenset(approval.digest for approval in self.approvals)

    @property
    def shipment_id(self) -> str:
        """Names the version wherever it goes: from ids that are never given again.

        No address is part of it: a server may have several.
        """
        identity = {
            "name": self.name,
            "version": self.version,
            "created": self.created,
            "run": self.run.run_id if self.run else None,
            "model": self.model.model_id if self.model else None,
            "location": None if self.run or self.model else self.location,
        }
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass
class Left:
    """What could not be taken along, in words."""

    lines: list[str] = field(default_factory=list)

    def add(self, count: int, what: str) -> None:
        """Note a number of things, if it is not 0."""
        if count:
            self.lines.append(f"{count} {what}")


def carried_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a version, model or run that mean the same at another server."""
    return {
        key: value
        for key, value in tags.items()
        if not key.startswith(PREFIX)
        and key not in (_PARENT_TAG, _VERSIONS_TAG)
        and not is_reserved_tag(key)
    }


def has_parent(tags: Mapping[str, str]) -> bool:
    """Return whether a run is a child of another one."""
    return _PARENT_TAG in tags


def link(server: str, workspace: str | None, **names: Any) -> str:
    """Return the value of a tag that leads to the other end, as JSON."""
    fields = {"server": server, "workspace": workspace, **names}
    return json.dumps(
        {key: value for key, value in fields.items() if value is not None}, sort_keys=True
    )


def read_link(text: str | None) -> dict[str, Any]:
    """Return the fields of a link; empty if it cannot be read."""
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def to_tag(server: str, workspace: str | None) -> str:
    """Return the tag of the source's version that leads to one target."""
    place = hashlib.sha256(f"{server}\0{workspace or ''}".encode()).hexdigest()[:12]
    return f"{TO_PREFIX}{place}"
