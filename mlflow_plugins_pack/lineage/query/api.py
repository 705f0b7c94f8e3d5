"""Questions about lineage as Python functions; ``mlflow-pack lineage`` prints their answers.

A TARGET is a run id, ``runs:/...``, ``models:/name/3``, ``models:/name@alias``, ``models:/m-...``,
a local file, a URI as the records have it, or a digest (``sha256:`` and 12 digits or more).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_plugins_pack.lineage.document.graph import (
    INTERMEDIATE,
    Entry,
    Graph,
    file_uri,
    inputs_digest,
)

if TYPE_CHECKING:
    from mlflow_plugins_pack.lineage.document.network import Network
    from mlflow_plugins_pack.lineage.query.compare import Difference
    from mlflow_plugins_pack.lineage.query.explore import Explorer
    from mlflow_plugins_pack.lineage.query.search import RunSearch
    from mlflow_plugins_pack.lineage.query.verify import Check

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})")
_RUN = re.compile(r"[0-9a-f]{32}")
DEPTH = 5
"""Default number of runs that `upstream` and `downstream` follow."""


@dataclass(frozen=True)
class RunLineage:
    """A run's record.

    Attributes:
        run_id: The run.
        name: Its name.
        status: Its status, such as ``FINISHED``.
        experiment_id: Its experiment.
        digest: The one digest of all data it read, as its tag says.
        graph: What it read and wrote.
    """

    run_id: str
    name: str
    status: str
    experiment_id: str
    digest: str
    graph: Graph

    def to_json(self) -> dict[str, Any]:
        """Return all of it for scripts."""
        return {
            "run_id": self.run_id,
            "run_name": self.name,
            "status": self.status,
            "experiment_id": self.experiment_id,
            **self.graph.to_json(),
            "digest": self.digest,
        }


def run_lineage(run_id: str, *, tracking_uri: str | None = None) -> RunLineage:
    """Return the record of a run.

    Args:
        run_id: The run.
        tracking_uri: Where it is; the current tracking URI if None.

    Raises:
        LineageNotRecordedError: If the run has none.
        MlflowException: If the run does not exist, or the server cannot be reached.
    """
    from mlflow import MlflowClient

    from mlflow_plugins_pack.errors import LineageNotRecordedError
    from mlflow_plugins_pack.lineage.document import stored

    client = MlflowClient(tracking_uri)
    run = client.get_run(run_id)
    graph = stored.read(client, run)
    if graph is None:
        began = "lineage.schema" in run.data.tags
        coverage = stored.coverage_of(run)
        raise LineageNotRecordedError(
            f"Run {run_id} has no lineage. "
            + (
                "It was made by MlflowClient while other runs were open, so nothing could be "
                "attributed to it; mlflow_plugins_pack.lineage.attach(run_id) does that."
                if coverage.get("applies") == "not"
                else f"Its capture was on, but the run is {run.info.status} and its record is not "
                f"written yet; a run that was killed may never get one."
                if began
                else "It was logged without mlflow-plugins-pack, with MLFLOW_PACK_LINEAGE_ENABLED="
                "false, or by MlflowClient without mlflow_plugins_pack.lineage.attach(run_id)."
            )
            + " Nothing was changed. To check an installation, run `mlflow-pack doctor`."
        )
    return RunLineage(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        experiment_id=run.info.experiment_id,
        digest=run.data.tags.get("lineage.digest") or inputs_digest(graph.inputs),
        graph=graph,
    )


@dataclass(frozen=True)
class Place:
    """A file or content that was asked about: by its digest if it has one, else by its URI."""

    digest: str | None
    uri: str | None


def place_of(target: str) -> Place | None:
    """Return what file or content a target names; None if it names a run or model.

    A local file is hashed, so that every run that read these bytes is found, wherever they lay.

    Raises:
        LineageTargetError: If it is neither.
    """
    from mlflow_plugins_pack.errors import LineageTargetError

    if target.startswith(("models:/", "runs:/")) or _RUN.fullmatch(target):
        return None
    if found := _DIGEST.fullmatch(target):
        return Place(f"sha256:{found[1]}", None)
    local = target.removeprefix("file://") if target.startswith("file://") else target
    if "://" not in local:
        from mlflow_plugins_pack import settings
        from mlflow_plugins_pack.lineage.files import file_state
        from mlflow_plugins_pack.lineage.fingerprints.hashing import (
            Fingerprinter,
            cache_folder,
        )

        path = os.path.abspath(local)  # noqa: PTH100
        state = file_state(path)
        if state is not None:
            full = state.size <= settings.LINEAGE_HASH_MAX_BYTES.get()
            made = Fingerprinter(cache_folder()).fingerprint(path, state, full=full)
            return Place(made.digest if made else None, file_uri(path))
        if not target.startswith("file://"):
            raise LineageTargetError(
                f"{target!r} is not a run, a model or a digest, and the file does not exist here. "
                f"Nothing was searched. Name a run id, models:/name/3, models:/name@alias, a URI "
                f"as `mlflow-pack lineage show` prints it, or sha256: and 12 or more digits."
            )
    return Place(None, target)


def who_used(
    target: str, *, tracking_uri: str | None = None, registry_uri: str | None = None
) -> list[dict[str, Any]]:
    """Return the runs that read a file or content, the newest first, with the models they led to.

    Args:
        target: A local file, a URI or a digest.
        tracking_uri: Where the runs are; the current tracking URI if None.
        registry_uri: Where the model versions are; the tracking URI if None.

    Returns:
        One row per run: ``run``, ``name``, ``status``, ``started`` (milliseconds since 1970),
        ``uri`` it read the content from, ``changed``, and ``models``.
    """
    from mlflow_plugins_pack.errors import LineageTargetError
    from mlflow_plugins_pack.lineage.document import network
    from mlflow_plugins_pack.lineage.document.network import Network
    from mlflow_plugins_pack.lineage.query.explore import Explorer
    from mlflow_plugins_pack.lineage.query.search import RunSearch

    place = place_of(target)
    if place is None:
        raise LineageTargetError(
            f"{target!r} is a run or model; who-used wants a file, a URI or a digest. Nothing was "
            f"searched. For what was made from a run, use `mlflow-pack lineage downstream`."
        )
    search = RunSearch(tracking_uri, registry_uri)
    explorer = Explorer(search)
    models = (network.MODEL, network.VERSION, network.ALIAS)
    users = search.readers(digest=place.digest, uri=place.uri)
    versions = explorer.versions_of(run for run, _ in users)

    def row(run: Any, entry: Entry) -> dict[str, Any]:
        made = Network()
        explorer.add_models(run, versions.get(run.info.run_id, ()), made)
        return {
            "run": run.info.run_id,
            "name": run.info.run_name,
            "status": run.info.status,
            "started": run.info.start_time,
            "uri": entry.uri,
            "changed": entry.changed,
            "models": [node.key for kind in models for node in made.of_kind(kind)],
        }

    return [row(run, entry) for run, entry in users]


def upstream(
    target: str,
    *,
    depth: int = DEPTH,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
) -> Network:
    """Return what a run or model was made from: data, runs, models, prompts.

    Args:
        target: A run, model, file, URI or digest.
        depth: How many runs back.
        tracking_uri: Where the runs are; the current tracking URI if None.
        registry_uri: Where the model versions are; the tracking URI if None.
    """
    from mlflow_plugins_pack.lineage.document.network import Network
    from mlflow_plugins_pack.lineage.query.explore import Explorer
    from mlflow_plugins_pack.lineage.query.search import RunSearch

    search, answer = RunSearch(tracking_uri, registry_uri), Network()
    explorer = Explorer(search)
    explorer.upstream_of_runs(_starts(search, explorer, target, answer, "wrote"), answer, depth)
    return answer


def downstream(
    target: str,
    *,
    depth: int = DEPTH,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
) -> Network:
    """Return what came of a file, run or model: runs, their files, models, versions, aliases.

    The arguments are those of `upstream`.
    """
    from mlflow_plugins_pack.lineage.document.network import Network
    from mlflow_plugins_pack.lineage.query.explore import Explorer
    from mlflow_plugins_pack.lineage.query.search import RunSearch

    search, answer = RunSearch(tracking_uri, registry_uri), Network()
    explorer = Explorer(search)
    explorer.downstream_of_runs(_starts(search, explorer, target, answer, "read by"), answer, depth)
    return answer


def _starts(
    search: RunSearch, explorer: Explorer, target: str, answer: Network, kind: str
) -> list[Any]:
    """Return the runs to start from, and add what leads to them."""
    from mlflow_plugins_pack.lineage.document import network
    from mlflow_plugins_pack.lineage.query.explore import add_data

    place = place_of(target)
    if place is None:
        return [explorer.run_of(target, answer)]
    find = search.readers if kind == network.READ else search.writers
    runs = []
    for run, entry in find(digest=place.digest, uri=place.uri):
        key = add_data(entry, answer)
        source, sink = key, run.info.run_id
        if kind == network.WROTE:
            source, sink = sink, source
        answer.join(source, sink, kind)
        runs.append(run)
    return runs


def around(
    target: str,
    *,
    depth: int = DEPTH,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
) -> Network:
    """Return both, `upstream` and `downstream`, as one network."""
    from mlflow_plugins_pack.lineage.document.network import joined

    return joined(
        ask(target, depth=depth, tracking_uri=tracking_uri, registry_uri=registry_uri)
        for ask in (upstream, downstream)
    )


def openlineage_event(run_id: str, *, tracking_uri: str | None = None) -> dict[str, Any]:
    """Return the OpenLineage event of a run's end."""
    from datetime import datetime, timezone

    from mlflow import MlflowClient

    from mlflow_plugins_pack.lineage.export.openlineage import event

    found = run_lineage(run_id, tracking_uri=tracking_uri)
    client = MlflowClient(tracking_uri)
    info = client.get_run(run_id).info
    ended = datetime.fromtimestamp((info.end_time or info.start_time) / 1000, timezone.utc)
    return event(
        found.graph,
        run_id=run_id,
        status=found.status,
        job=client.get_experiment(found.experiment_id).name,
        when=ended.isoformat(timespec="milliseconds"),
    )


def diff(first: str, second: str, *, tracking_uri: str | None = None) -> Difference:
    """Compare what two runs read, and their code and packages."""
    from mlflow_plugins_pack.lineage.query.compare import compare

    a, b = (run_lineage(run, tracking_uri=tracking_uri) for run in (first, second))
    return compare(a.graph, b.graph)


def verify(run_id: str, *, tracking_uri: str | None = None) -> list[Check]:
    """Compare each input of a run with what is there now.

    Objects are looked up with the credentials of the environment, as stock MLflow reads them.
    """
    from mlflow_plugins_pack.lineage.fingerprints.hashing import Fingerprinter
    from mlflow_plugins_pack.lineage.query.verify import check

    found = run_lineage(run_id, tracking_uri=tracking_uri)
    fingerprinter = Fingerprinter()
    inputs: tuple[Entry, ...] = found.graph.inputs
    members = found.graph.members
    return [
        check(entry, fingerprinter, members.get(entry.uri, ()))
        for entry in inputs
        if entry.role != INTERMEDIATE
    ]


def push_kept(*, tracking_uri: str | None = None) -> list[dict[str, Any]]:
    """Write the records that were kept locally, and delete those that are written.

    Args:
        tracking_uri: Write only there; else each where it belongs.

    Returns:
        One row per record: ``run``, ``tracking_uri`` and ``result``, which is ``written`` or says
        why not.
    """
    from mlflow_plugins_pack import settings
    from mlflow_plugins_pack.lineage.delivery import local_queue, openlineage, writer

    rows = []
    for path in local_queue.kept():
        row: dict[str, Any] = {"run": local_queue.run_id_of(path), "tracking_uri": tracking_uri}
        try:
            kept = local_queue.load(path)
            row["tracking_uri"] = target = tracking_uri or kept.tracking_uri
            written, _ = writer.write(kept.run_id, kept.graph, tracking_uri=target, base=None)
            path.unlink()
            row["result"] = "written"
            if url := settings.LINEAGE_OPENLINEAGE_URL.get():
                openlineage.report(url, kept.run_id, written, target)
        except Exception as exc:  # noqa: BLE001  # each record is tried; the row tells
            row["result"] = f"kept: {exc}"
        rows.append(row)
    return rows
