"""Walks lineage from a run, a version or data, reading only what the visitor may read in MLflow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.lineage.document.graph import Graph
from mlflow_plugins_pack.lineage.document.stored import graph_from_tags
from mlflow_plugins_pack.lineage.document.tags import PREFIX

Kind = Literal["run", "version", "data"]

MAX_NODES = 80
MAX_DEPTH = 4
"""Number of runs that a walk follows in each direction."""
_MAX_FOUND = 100
_MAX_EXPERIMENTS = 1000
_RUN = re.compile(r"[0-9a-f]{32}")
_VERSION = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>[1-9][0-9]{0,8})")
_ALIAS = re.compile(r"models:/(?P<name>[^/@]+)@(?P<alias>[\w-]+)")
_DIGEST = re.compile(r"(?:sha256:)?[0-9a-f]{12,64}")


@dataclass(frozen=True)
class Node:
    """A run, a registered version, or data.

    Attributes:
        key: The run's id, ``models:/NAME/VERSION``, or the URI of the data.
        kind: Which of the three.
        label: What people call it.
        depth: Its distance from the target: negative upstream, positive downstream.
        detail: More about it: a status, a digest, aliases.
    """

    key: str
    kind: Kind
    label: str
    depth: int
    detail: str = ""


@dataclass
class Walk:
    """What was found around a target.

    Attributes:
        nodes: By key.
        edges: From and to, in the direction in which the data went.
        is_cut: Whether there is more than was followed.
        hidden: How many runs or versions the visitor may not read.
    """

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str], str] = field(default_factory=dict)
    is_cut: bool = False
    hidden: int = 0

    def add(self, node: Node) -> bool:
        """Add a node; False if it is there already, or one too many."""
        if node.key in self.nodes:
            return False
        if len(self.nodes) >= MAX_NODES:
            self.is_cut = True
            return False
        self.nodes[node.key] = node
        return True

    def join(self, source: str, to: str, verb: str) -> None:
        """Add an edge between two nodes that are there."""
        if source in self.nodes and to in self.nodes and source != to:
            self.edges[source, to] = verb


class Walker:
    """Walks from one target.

    Args:
        review: The review app's parts.
        visitor: Who asks.
    """

    def __init__(self, review: Review, visitor: Visitor) -> None:
        self._review, self._visitor = review, visitor
        self._runs: dict[str, Mapping[str, Any] | None] = {}
        self._experiments: list[str] | None = None
        self._aliases: dict[str, list[Mapping[str, Any]]] = {}
        self.walk = Walk()

    def around(self, target: str) -> Walk:
        """Return what is upstream and downstream of a target.

        Args:
            target: A run's id, ``models:/NAME/VERSION`` or ``@ALIAS``, a URI, or a digest.

        Raises:
            MlflowException: If it does not exist or may not be read.
        """
        if _RUN.fullmatch(target):
            self._around_run(target)
        elif match := _VERSION.fullmatch(target):
            self._around_version(match["name"], match["version"])
        elif match := _ALIAS.fullmatch(target):
            found = self._call("registered-models/alias", name=match["name"], alias=match["alias"])
            self._around_version(match["name"], str(found["model_version"]["version"]))
        elif "'" in target or len(target) > 2000:
            raise MlflowException(
                "This cannot be searched for: it has a quote, or is too long. Nothing was read.",
                INVALID_PARAMETER_VALUE,
            )
        else:
            self._around_data(target)
        return self.walk

    # --- where to begin -------------------------------------------------------------------------

    def _around_run(self, run_id: str) -> None:
        run = self._call("runs/get", run_id=run_id)["run"]
        self._runs[run_id] = run
        self._upstream(run_id, 0)
        self._downstream(run_id, 0)

    def _around_version(self, name: str, number: str) -> None:
        found = self._call("model-versions/get", name=name, version=number)["model_version"]
        self.walk.add(_version_node(found, 0))
        if run_id := found.get("run_id"):
            self._upstream(run_id, -1)
            self.walk.join(run_id, _key_of(found), "made")
        self._users_of_version(found, 0)

    def _around_data(self, target: str) -> None:
        is_digest = _DIGEST.fullmatch(target) is not None
        label = target if is_digest else _tail(target)
        self.walk.add(Node(target, "data", label, 0, "bytes" if is_digest else ""))
        for run_id, graph in self._runs_with("inputs", target):
            if any(_is_about(entry, target) for entry in graph.inputs):
                self._add_run(run_id, 1)
                self.walk.join(target, run_id, "read by")
                self._downstream(run_id, 1)
        for run_id, graph in self._runs_with("outputs", target):
            if any(_is_about(entry, target) for entry in graph.outputs):
                self._upstream(run_id, -1)
                self.walk.join(run_id, target, "wrote")

    # --- directions -----------------------------------------------------------------------------

    def _upstream(self, run_id: str, depth: int) -> None:
        if not self._add_run(run_id, depth):
            return
        graph = self._graph(run_id)
        for entry in graph.inputs:
            if entry.role == "intermediate":
                continue
            self.walk.add(_data_node(entry, depth - 1))
            self.walk.join(entry.uri, run_id, "read by")
        if depth <= -MAX_DEPTH:
            self.walk.is_cut |= bool(graph.upstream_runs or graph.upstream_models)
            return
        for other in graph.upstream_runs:
            self._upstream(other, depth - 1)
            self.walk.join(other, run_id, "came before")
        for uri in graph.upstream_models:
            if match := _VERSION.fullmatch(uri):
                found = self._version(match["name"], match["version"])
                if found is not None:
                    self.walk.add(_version_node(found, depth - 1))
                    self.walk.join(_key_of(found), run_id, "loaded by")
                    if made_by := found.get("run_id"):
                        self._upstream(made_by, depth - 2)
                        self.walk.join(made_by, _key_of(found), "made")

    def _downstream(self, run_id: str, depth: int) -> None:
        self._add_run(run_id, depth)
        graph = self._graph(run_id)
        for found in self._versions_of(run_id):
            if self.walk.add(_version_node(found, depth + 1)):
                self.walk.join(run_id, _key_of(found), "made")
                self._users_of_version(found, depth + 1)
        for entry in graph.outputs:
            self.walk.add(_data_node(entry, depth + 1))
            self.walk.join(run_id, entry.uri, "wrote")
        if depth >= MAX_DEPTH:
            self.walk.is_cut = True
            return
        for other, _ in self._runs_with("upstream.runs", run_id):
            is_new = other not in self.walk.nodes
            self._add_run(other, depth + 1)
            self.walk.join(run_id, other, "came before")
            if is_new:
                self._downstream(other, depth + 1)

    def _users_of_version(self, version: Mapping[str, Any], depth: int) -> None:
        for run_id, graph in self._runs_with("upstream.models", _key_of(version)):
            if _key_of(version) in graph.upstream_models and run_id not in self.walk.nodes:
                self._add_run(run_id, depth + 1)
                self.walk.join(_key_of(version), run_id, "loaded by")

    # --- what MLflow says -------------------------------------------------------------------------

    def _call(self, path: str, **params: Any) -> dict[str, Any]:
        return self._review.server.call("GET", path, self._visitor.credentials, params=params)

    def _run(self, run_id: str) -> Mapping[str, Any] | None:
        if run_id not in self._runs:
            try:
                self._runs[run_id] = self._call("runs/get", run_id=run_id)["run"]
            except MlflowException:
                self._runs[run_id] = None
                self.walk.hidden += 1
        return self._runs[run_id]

    def _graph(self, run_id: str) -> Graph:
        run = self._run(run_id)
        return graph_from_tags(_lineage_tags(run) if run is not None else {})

    def _add_run(self, run_id: str, depth: int) -> bool:
        run = self._run(run_id)
        if run is None:
            return False
        info = run["info"]
        label = info.get("run_name") or run_id[:8]
        return self.walk.add(Node(run_id, "run", label, depth, str(info.get("status", ""))))

    def _version(self, name: str, number: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = self._call("model-versions/get", name=name, version=number)[
                "model_version"
            ]
        except MlflowException:
            self.walk.hidden += 1
            return None
        return found

    def _versions_of(self, run_id: str) -> list[Mapping[str, Any]]:
        found = self._call("model-versions/search", filter=f"run_id = '{run_id}'", max_results=50)
        # A search leaves the aliases out.
        return [
            {**version, "aliases": self._aliases_of(version)}
            for version in found.get("model_versions", ())
        ]

    def _aliases_of(self, version: Mapping[str, Any]) -> list[str]:
        name, number = version["name"], str(version["version"])
        if name not in self._aliases:
            try:
                model = self._call("registered-models/get", name=name)["registered_model"]
                self._aliases[name] = model.get("aliases", [])
            except MlflowException:
                self._aliases[name] = []
        return [a["alias"] for a in self._aliases[name] if str(a["version"]) == number]

    def _runs_with(self, tag: str, text: str) -> Iterator[tuple[str, Graph]]:
        """Yield the readable runs whose lineage tag contains a text, with their records."""
        body = {
            "experiment_ids": self._experiment_ids(),
            "filter": f"tags.`{PREFIX}{tag}` LIKE '%{text}%'",
            "max_results": _MAX_FOUND,
        }
        found = self._review.server.call(
            "POST", "runs/search", self._visitor.credentials, json=body
        )
        self.walk.is_cut |= bool(found.get("next_page_token"))
        for run in found.get("runs", ()):
            run_id = run["info"]["run_id"]
            self._runs[run_id] = run
            yield run_id, graph_from_tags(_lineage_tags(run))

    def _experiment_ids(self) -> list[str]:
        if self._experiments is None:
            found = self._call("experiments/search", max_results=_MAX_EXPERIMENTS)
            listed = found.get("experiments", ())
            self._experiments = [str(experiment["experiment_id"]) for experiment in listed]
        return self._experiments


def _lineage_tags(run: Mapping[str, Any]) -> dict[str, str]:
    tags = run.get("data", {}).get("tags", ())
    return {
        tag["key"].removeprefix(PREFIX): tag.get("value", "")
        for tag in tags
        if tag["key"].startswith(PREFIX)
    }


def _is_about(entry: Any, target: str) -> bool:
    if _DIGEST.fullmatch(target):
        return (
            (entry.digest or "").removeprefix("sha256:").startswith(target.removeprefix("sha256:"))
        )
    return bool(entry.uri == target)


def _key_of(version: Mapping[str, Any]) -> str:
    return f"models:/{version['name']}/{version['version']}"


def _version_node(version: Mapping[str, Any], depth: int) -> Node:
    aliases = [f"@{alias}" for alias in version.get("aliases", ())]
    stage = version.get("current_stage")
    aliases += [str(stage)] if stage not in (None, "", "None") else []
    label = f"{version['name']} version {version['version']}"
    return Node(_key_of(version), "version", label, depth, " ".join(aliases))


def _data_node(entry: Any, depth: int) -> Node:
    detail = (entry.digest or "")[:19]
    if entry.files:
        detail = f"{entry.files} files"
    return Node(entry.uri, "data", _tail(entry.uri), depth, detail)


def _tail(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2] or uri
