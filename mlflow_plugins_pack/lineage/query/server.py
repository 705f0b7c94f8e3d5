"""Finds the runs that a walk starts at."""

from __future__ import annotations

from typing import Any

from mlflow_plugins_pack.lineage.document import network, wording
from mlflow_plugins_pack.lineage.document.datasets import name_digest, read_digest
from mlflow_plugins_pack.lineage.document.graph import Entry, Graph
from mlflow_plugins_pack.lineage.document.network import Network
from mlflow_plugins_pack.lineage.query import nodes
from mlflow_plugins_pack.lineage.query.registry import Registry
from mlflow_plugins_pack.lineage.query.search import RUNS, Match, RunSearch, like
from mlflow_plugins_pack.lineage.query.targets import Named, Place
from mlflow_plugins_pack.lineage.query.walk import NODES, Walk


class Server:
    """The searches of one server.

    Args:
        client: What asks it: an `MlflowClient`, or what has those of its methods that are used.
        runs: Most runs that one search finds.
        nodes: Most nodes of an answer.
        looks_further: Whether walks that end find out, by a search, if there is more.
    """

    def __init__(
        self, client: Any, runs: int = RUNS, nodes: int = NODES, *, looks_further: bool = True
    ) -> None:
        self.search = RunSearch(client, runs)
        self.registry = Registry(self.search)
        self.walk = Walk(self.search, self.registry, nodes, looks_further=looks_further)

    def run_of(self, named: Named, answer: Network) -> Any:
        """Return the run behind a run id, model, version or alias, and add what leads to it."""
        if named.uri.startswith("models:/"):
            return self.search.client.get_run(self.registry.add_target(named.uri, answer))
        answer.mark(named.uri)
        return self.search.client.get_run(named.uri)

    def starts(self, subject: Named | Place, answer: Network, kind: str) -> list[Any]:
        """Return the runs to start from, and add what leads to them."""
        if isinstance(subject, Named):
            if subject.uri.startswith("prompts:/"):
                return self._users_of_prompt(subject.uri, answer)
            return [self.run_of(subject, answer)]
        find = self.search.readers if kind == network.READ else self.search.writers
        matches = find(subject)
        if kind == network.WROTE:
            matches = _of_this_content(matches, answer)
        for match in matches:
            key = nodes.add_data(match.entry, answer, differs=match.differs)
            answer.mark(key)
            run_id = match.run.info.run_id
            source, sink = (key, run_id) if kind == network.READ else (run_id, key)
            answer.join(source, sink, kind)
        note_place(subject, matches, answer)
        return [match.run for match in matches]

    def note_limits(self, answer: Network) -> None:
        """Note in an answer what the searches for it left out."""
        for note in self.search.notes:
            answer.note(note)

    def users_of(self, named: Named) -> list[Match]:
        """Return the runs that read what a run wrote, or loaded a model, version or alias."""
        answer = Network()
        if named.uri.startswith("prompts:/"):
            runs = self._users_of_prompt(named.uri, answer)
            return [Match(run, Entry(named.uri)) for run in runs]
        maker = self.run_of(named, answer)
        names = {key for key in answer.targets if "@" not in key}
        files: dict[str, Entry] = {}
        if maker.info.run_id in names:
            record = self.search.record(maker) or Graph()
            files = {read_digest(entry): entry for entry in record.outputs}
            for version in self.registry.versions_of([maker]).get(maker.info.run_id, ()):
                names.add(f"models:/{version.name}/{version.version}")
        found = []
        for run in self.search.with_digests([*files, *map(name_digest, names)]):
            record = self.search.record(run) or Graph()
            fetched = names & {*record.upstream_runs, *record.upstream_models}
            read = [entry for entry in record.inputs if read_digest(entry) in files]
            if run.info.run_id != maker.info.run_id and (fetched or read):
                found.append(Match(run, read[0] if read else Entry(min(fetched))))
        return found

    def _users_of_prompt(self, uri: str, answer: Network) -> list[Any]:
        name, _, version = uri.removeprefix("prompts:/").rpartition("/")
        answer.add(network.Node(uri, network.PROMPT, f"{name}/{version}"))
        answer.mark(uri)
        runs = list(self.search.runs(f"tags.`mlflow.linkedPrompts` LIKE '%{like(name)}%'"))
        found = [run for run in runs if uri in nodes.prompts_of(run)]
        for run in found:
            answer.join(uri, run.info.run_id, network.READ)
        return found


def connect(tracking_uri: str | None, registry_uri: str | None) -> Server:
    """Return the searches of a server, or of a database.

    Args:
        tracking_uri: Where the runs are; the current tracking URI if None.
        registry_uri: Where the model versions are; the tracking URI if None.
    """
    from mlflow import MlflowClient

    return Server(MlflowClient(tracking_uri, registry_uri))


def _of_this_content(matches: list[Match], answer: Network) -> list[Match]:
    """Leave out, of those who wrote to a file, the ones who wrote what is there no longer."""
    if not any(not match.differs for match in matches):
        return matches
    if any(match.differs for match in matches):
        answer.note("Runs that wrote an earlier content of the file are left out.")
    return [match for match in matches if not match.differs]


def note_place(place: Place, matches: list[Match], answer: Network) -> None:
    """Note if the file that was asked about is gone, or has another content than it had."""
    if place.is_local and not place.exists:
        answer.note(f"{place.shown} does not exist here; what is recorded of this place is shown.")
    others = sum(match.differs for match in matches)
    if others:
        answer.note(
            f"{place.shown} has another content now than in {others} of the {len(matches)} records "
            f"that name it."
        )


def all_notes(answer: Network) -> list[str]:
    """Return an answer's notes, and which of its runs have incomplete records."""
    incomplete = wording.incompleteness(answer)
    return [*answer.notes, *([incomplete] if incomplete else [])]
