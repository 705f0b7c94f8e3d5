"""Questions about lineage as Python functions; ``mlflow-pack lineage`` prints their answers.

`targets` says what can be asked about. Every function takes the tracking URI, and the registry URI
where models are involved; without them the current ones count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_plugins_pack.lineage.document import network
from mlflow_plugins_pack.lineage.document.graph import INTERMEDIATE, Entry, Graph, inputs_digest
from mlflow_plugins_pack.lineage.document.network import Network
from mlflow_plugins_pack.lineage.query import nodes, targets
from mlflow_plugins_pack.lineage.query.server import Server, all_notes, connect, note_place
from mlflow_plugins_pack.lineage.query.targets import Named, Place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_plugins_pack.lineage.query.answers import Affected, UsedBy
    from mlflow_plugins_pack.lineage.query.difference import Comparison
    from mlflow_plugins_pack.lineage.query.verify import Check

DEPTH = 10
"""Default number of runs that the walks follow."""


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


def _find_run(target: str, tracking_uri: str | None, registry_uri: str | None) -> Any:
    """Return the client and the run behind a run id, model, version or alias."""
    server = connect(tracking_uri, registry_uri)
    return server.search.client, server.run_of(_one_run(target), Network())


def _one_run(target: str) -> Named:
    """Return the run or model that a text names.

    Raises:
        LineageTargetError: If it names data.
    """
    from mlflow_plugins_pack.errors import LineageTargetError

    subject = targets.parse(target)
    if isinstance(subject, Place) or subject.uri.startswith("prompts:/"):
        raise LineageTargetError(
            f"{target!r} is not a run or a model, and this question is about one run. Nothing was "
            f"changed. Name a run id, models:/NAME/VERSION or models:/NAME@ALIAS; "
            f"`mlflow-pack lineage used-by` and `affected` are about files."
        )
    return subject


def run_lineage(
    target: str, *, tracking_uri: str | None = None, registry_uri: str | None = None
) -> RunLineage:
    """Return the record of a run.

    Args:
        target: The run, or a model, version or alias that it made.
        tracking_uri: Where it is; the current tracking URI if None.
        registry_uri: Where the model versions are; the tracking URI if None.

    Raises:
        LineageNotRecordedError: If the run has none.
        LineageTargetError: If the target is not a run or a model.
        MlflowException: If the run does not exist, or the server cannot be reached.
    """
    return _lineage_of(*_find_run(target, tracking_uri, registry_uri))


def _lineage_of(client: Any, run: Any) -> RunLineage:
    from mlflow_plugins_pack.errors import LineageNotRecordedError
    from mlflow_plugins_pack.lineage.document import stored

    graph = stored.read(client, run)
    if graph is None:
        began = "lineage.schema" in run.data.tags
        coverage = stored.coverage_of(run)
        raise LineageNotRecordedError(
            f"Run {run.info.run_id} has no lineage. "
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


def used_by(
    target: str, *, tracking_uri: str | None = None, registry_uri: str | None = None
) -> UsedBy:
    """Return the runs that read a file or model, with the models that came of them directly.

    Args:
        target: A local file or folder, a URI or a digest. Of a file, runs that read what is there
            now are found wherever they read it, and runs that read the place when it had another
            content, which their ``differs`` says. Of a model or version, those that loaded it; of
            a run, those that read what it wrote.
        tracking_uri: Where the runs are; the current tracking URI if None.
        registry_uri: Where the model versions are; the tracking URI if None.

    Raises:
        MlflowException: If the run or model does not exist, or the server cannot be reached.
    """
    from mlflow_plugins_pack.lineage.query.answers import Use, UsedBy

    subject, answer = targets.parse(target), Network()
    server = connect(tracking_uri, registry_uri)
    if isinstance(subject, Named):
        place, matches = Place(uris=(subject.uri,)), server.users_of(subject)
    else:
        place, matches = subject, server.search.readers(subject)
    versions = server.registry.versions_of(_distinct(match.run for match in matches))
    uses = []
    for match in matches:
        info, made = match.run.info, Network()
        nodes.add_run(match.run, server.search.record(match.run), answer)
        server.registry.add_models(match.run, versions.get(info.run_id, ()), made)
        models = (network.MODEL, network.VERSION, network.ALIAS)
        uses.append(
            Use(
                run=info.run_id,
                name=info.run_name or "",
                status=info.status,
                started=info.start_time,
                uri=match.entry.uri,
                digest=match.entry.digest,
                size=match.entry.size,
                differs=match.differs,
                changed=match.entry.changed,
                models=tuple(node.key for kind in models for node in made.of_kind(kind)),
                lacks=answer.nodes[info.run_id].lacks,
            )
        )
    note_place(place, matches, answer)
    server.note_limits(answer)
    return UsedBy(place, tuple(uses), tuple(all_notes(answer)))


def _distinct(runs: Iterable[Any]) -> list[Any]:
    return list({run.info.run_id: run for run in runs}.values())


def affected(
    target: str,
    *,
    depth: int = DEPTH,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
) -> Affected:
    """Return the models that stand on a file, run or model, directly or through other runs.

    Args:
        target: What `used_by` and `downstream` take.
        depth: How many runs far.
        tracking_uri: Where the runs are; the current tracking URI if None.
        registry_uri: Where the model versions are; the tracking URI if None.
    """
    from mlflow_plugins_pack.lineage.query.affected import models_in

    answer = downstream(target, depth=depth, tracking_uri=tracking_uri, registry_uri=registry_uri)
    return models_in(answer, target, tuple(all_notes(answer)))


def upstream(
    target: str,
    *,
    depth: int = DEPTH,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
) -> Network:
    """Return what a run or model was made from: data, runs, models, prompts.

    Args:
        target: A run, model, version, alias, file, URI or digest.
        depth: How many runs back.
        tracking_uri: Where the runs are; the current tracking URI if None.
        registry_uri: Where the model versions are; the tracking URI if None.
    """
    server, answer = connect(tracking_uri, registry_uri), Network()
    server.walk.upstream(server.starts(targets.parse(target), answer, network.WROTE), answer, depth)
    server.note_limits(answer)
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
    server, answer = connect(tracking_uri, registry_uri), Network()
    server.walk.downstream(
        server.starts(targets.parse(target), answer, network.READ), answer, depth
    )
    server.note_limits(answer)
    return answer


def around(
    target: str,
    *,
    depth: int = DEPTH,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
) -> Network:
    """Return both, `upstream` and `downstream`, as one network."""
    return network.joined(
        ask(target, depth=depth, tracking_uri=tracking_uri, registry_uri=registry_uri)
        for ask in (upstream, downstream)
    )


def around_for(
    client: Any, target: str, *, runs: int, most_nodes: int, depth: int = DEPTH
) -> Network:
    """Return the same for another person: with their rights, and without a look at this machine.

    Args:
        client: Asks the server in their place; what of `MlflowClient` the searches use.
        target: What `upstream` takes, but for files of this machine.
        runs: Most runs that one search finds.
        most_nodes: Nodes after which no further runs are followed in a direction.
        depth: How many runs far.
    """
    server = Server(client, runs, most_nodes, looks_further=False)
    subject = targets.parse(target, looks_here=False)
    up, down = Network(), Network()
    walks = (
        (server.walk.upstream, server.starts(subject, up, network.WROTE), up),
        (server.walk.downstream, server.starts(subject, down, network.READ), down),
    )
    server.search.each(lambda walk: walk[0](*walk[1:], depth), walks)
    server.note_limits(down)
    return network.joined((up, down))


def openlineage_event(
    target: str, *, tracking_uri: str | None = None, registry_uri: str | None = None
) -> dict[str, Any]:
    """Return the OpenLineage event of a run's end."""
    from datetime import datetime, timezone

    from mlflow_plugins_pack.lineage.delivery.openlineage import describe
    from mlflow_plugins_pack.lineage.export.openlineage import event

    client, run = _find_run(target, tracking_uri, registry_uri)
    found = _lineage_of(client, run)
    ended = datetime.fromtimestamp((run.info.end_time or run.info.start_time) / 1000, timezone.utc)
    return event(found.graph, describe(client, run, status=found.status, when=ended))


def diff(
    first: str,
    second: str,
    *,
    depth: int = DEPTH,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
) -> Comparison:
    """Compare two runs or models, and the runs that made what differs between them.

    Args:
        first: A run, model, version or alias.
        second: The one to compare it with.
        depth: How many runs back.
        tracking_uri: Where the runs are; the current tracking URI if None.
        registry_uri: Where the model versions are; the tracking URI if None.

    Raises:
        LineageTargetError: If one of them is not a run or a model.
    """
    from mlflow_plugins_pack.lineage.query.compare import RunFacts
    from mlflow_plugins_pack.lineage.query.difference import Side, compare_back

    server = connect(tracking_uri, registry_uri)
    sides, notes = [], dict[str, None]()
    for target in (first, second):
        answer = Network()
        run = server.run_of(_one_run(target), answer)
        server.walk.upstream([run], answer, depth)
        runs = server.search.with_ids(node.key for node in answer.of_kind(network.RUN))
        records = server.search.each(server.search.document, runs.values())
        facts = {
            one.info.run_id: RunFacts.of(one, record)
            for one, record in zip(runs.values(), records, strict=True)
        }
        sides.append(Side(run.info.run_id, answer, facts))
        notes.update(dict.fromkeys(all_notes(answer)))
    return compare_back(sides[0], sides[1], (first, second), tuple(notes))


def verify(
    target: str, *, tracking_uri: str | None = None, registry_uri: str | None = None
) -> list[Check]:
    """Compare each input of a run with what is there now.

    Objects are looked up with the credentials of the environment, as stock MLflow reads them.
    """
    from mlflow_plugins_pack.lineage.fingerprints.hashing import Fingerprinter
    from mlflow_plugins_pack.lineage.query.verify import check

    found = run_lineage(target, tracking_uri=tracking_uri, registry_uri=registry_uri)
    fingerprinter = Fingerprinter()
    inputs: tuple[Entry, ...] = found.graph.inputs
    members = found.graph.members
    return [
        check(entry, fingerprinter, members.get(entry.uri, ()))
        for entry in inputs
        if entry.role != INTERMEDIATE
    ]
