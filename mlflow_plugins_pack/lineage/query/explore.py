"""Walks from runs to what they were made from and to what came of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from mlflow_plugins_pack.lineage.document import network, stored
from mlflow_plugins_pack.lineage.document.graph import (
    INTERMEDIATE,
    Entry,
    Graph,
    last_name,
    shown_uri,
)
from mlflow_plugins_pack.lineage.document.network import Network, Node
from mlflow_plugins_pack.lineage.document.tags import PREFIX
from mlflow_plugins_pack.lineage.query.search import RunSearch, like

_PAGE = 1_000
_SEARCHES = 100
"""Most files of one run that are searched for; more are named in the answer's notes."""
_RUNS_A_FILTER = 50
"""The filter travels in an address, which may be some 4,000 characters long."""


class Explorer:
    """Answers from one server.

    Args:
        search: Finds runs there.
        limit: Most nodes of an answer.
    """

    def __init__(self, search: RunSearch, limit: int = 500) -> None:
        self._search = search
        self._client = search.client
        self._limit = limit
        self._known_aliases: dict[str, dict[str, Any]] = {}

    def versions_of(self, runs: Iterable[Any]) -> dict[str, list[Any]]:
        """Return the model versions that came of each run, asking for many runs at once."""
        ids = [run.info.run_id for run in runs]
        groups = [
            ids[start : start + _RUNS_A_FILTER] for start in range(0, len(ids), _RUNS_A_FILTER)
        ]
        filters = ["run_id IN ({})".format(",".join(f"'{i}'" for i in group)) for group in groups]
        found: dict[str, list[Any]] = defaultdict(list)
        for versions in self._search.each(lambda text: list(self._versions(text)), filters):
            for version in versions:
                found[version.run_id].append(version)
        return found

    def add_models(self, run: Any, versions: Iterable[Any], answer: Network) -> None:
        """Add what a run logged and what became of it in the registry.

        Args:
            run: The run.
            versions: The model versions that came of it, as `versions_of` gives them.
            answer: What to add to.
        """
        run_id = run.info.run_id
        logged = getattr(getattr(run, "outputs", None), "model_outputs", None) or ()
        for output in logged:
            key = f"models:/{output.model_id}"
            answer.add(Node(key, network.MODEL, output.model_id))
            answer.join(run_id, key, network.LOGGED)
        for version in versions:
            self._add_version(version, answer)

    def _versions(self, filter_string: str) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_model_versions(
                filter_string, max_results=_PAGE, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _aliases(self, name: str) -> dict[str, Any]:
        # A listing of versions leaves them out.
        if name not in self._known_aliases:
            self._known_aliases[name] = dict(self._client.get_registered_model(name).aliases or {})
        return self._known_aliases[name]

    def _add_version(self, version: Any, answer: Network) -> str:
        key = f"models:/{version.name}/{version.version}"
        stage = getattr(version, "current_stage", None)
        facts = {"stage": stage} if stage and stage != "None" else {}
        answer.add(Node(key, network.VERSION, f"{version.name} {version.version}", facts))
        model = f"models:/{version.model_id}" if getattr(version, "model_id", None) else ""
        if model in answer.nodes:
            answer.join(model, key, network.REGISTERED)
        elif version.run_id:
            answer.join(version.run_id, key, network.REGISTERED)
        for alias, number in self._aliases(version.name).items():
            if str(number) == str(version.version):
                name = f"models:/{version.name}@{alias}"
                answer.add(Node(name, network.ALIAS, f"{version.name}@{alias}"))
                answer.join(key, name, network.NAMED)
        return key

    # --- walking ----------------------------------------------------------------------------------

    def downstream_of_runs(self, runs: Iterable[Any], answer: Network, depth: int) -> None:
        """Add what came of runs, and of what they wrote, so many runs far."""
        waiting, seen = list(runs), set()
        for _ in range(depth):
            later = []
            versions = self.versions_of(run for run in waiting if run.info.run_id not in seen)
            for run in waiting:
                if run.info.run_id in seen or self._is_full(answer):
                    continue
                seen.add(run.info.run_id)
                add_run(run, answer)
                self.add_models(run, versions.get(run.info.run_id, ()), answer)
                later += self._followers(run, answer)
            waiting = later
            if not waiting:
                return
        if waiting:
            answer.note("There is more downstream than was asked for.")

    def _followers(self, run: Any, answer: Network) -> list[Any]:
        run_id = run.info.run_id
        graph = stored.read(self._client, run) or Graph()
        outputs = [e for e in graph.outputs if e.digest][:_SEARCHES]
        if len(graph.outputs) > len(outputs):
            answer.note(f"Not every output of run {run_id} was searched for.")
        found = []
        readers = self._search.each(
            lambda e: self._search.readers(digest=e.digest, uri=None), outputs
        )
        for entry, users in zip(outputs, readers, strict=True):
            key = add_data(entry, answer)
            answer.join(run_id, key, network.WROTE)
            for user, _ in users:
                if user.info.run_id != run_id:
                    found.append(user)
                    answer.join(key, user.info.run_id, network.READ)
        names = [run_id, *(n.key for n in answer.nodes.values() if n.kind == network.VERSION)]
        for name in names:
            tag = "upstream.runs" if name == run_id else "upstream.models"
            for user in self._search.runs(
                f"tags.`{PREFIX}{tag}` LIKE '%{like(json.dumps(name))}%'"
            ):
                if user.info.run_id != run_id:
                    found.append(user)
                    answer.join(name, user.info.run_id, network.FED)
        return found

    def upstream_of_runs(self, runs: Iterable[Any], answer: Network, depth: int) -> None:
        """Add what runs were made from, so many runs back."""
        waiting, seen = list(runs), set()
        for _ in range(depth):
            earlier = []
            for run in waiting:
                if run.info.run_id in seen or self._is_full(answer):
                    continue
                seen.add(run.info.run_id)
                add_run(run, answer)
                earlier += self._makers(run, answer)
            waiting = earlier
            if not waiting:
                return
        if waiting:
            answer.note("There is more upstream than was asked for.")

    def _makers(self, run: Any, answer: Network) -> list[Any]:
        run_id = run.info.run_id
        graph = stored.read(self._client, run) or Graph()
        inputs = [entry for entry in graph.inputs if entry.role != INTERMEDIATE]
        for entry in inputs:
            answer.join(add_data(entry, answer), run_id, network.READ)
        found: list[Any] = []
        hashed = [entry for entry in inputs if entry.digest]
        if len(hashed) > _SEARCHES:
            answer.note(f"Not every input of run {run_id} was searched for.")
        makers = self._search.each(
            lambda e: self._search.writers(digest=e.digest, uri=None), hashed[:_SEARCHES]
        )
        for entry, users in zip(hashed, makers, strict=False):
            for user, _ in users:
                if user.info.run_id != run_id:
                    found.append(user)
                    answer.join(user.info.run_id, data_key(entry), network.WROTE)
        for other in graph.upstream_runs:
            found.append(self._client.get_run(other))
            answer.join(other, run_id, network.FED)
        for name in graph.upstream_models:
            found += self._made_model(name, run_id, answer)
        for name in _prompts(run):
            answer.add(Node(name, network.PROMPT, name.removeprefix("prompts:/")))
            answer.join(name, run_id, network.READ)
        return found

    def _made_model(self, name: str, run_id: str, answer: Network) -> list[Any]:
        version = self.version(name)
        if version is None:
            answer.add(Node(name, network.MODEL, name.removeprefix("models:/")))
            answer.join(name, run_id, network.FED)
            return []
        key = self._add_version(version, answer)
        answer.join(key, run_id, network.FED)
        return [self._client.get_run(version.run_id)] if version.run_id else []

    def version(self, uri: str) -> Any | None:
        """Return the version that ``models:/name/3`` or ``models:/name@alias`` names, or None."""
        name, _, number = uri.removeprefix("models:/").rpartition("/")
        if name and number.isdigit():
            return self._client.get_model_version(name, number)
        name, at, alias = uri.removeprefix("models:/").rpartition("@")
        return self._client.get_model_version_by_alias(name, alias) if at else None

    def run_of(self, target: str, answer: Network) -> Any:
        """Return the run behind a run id, ``runs:/``, a logged model, or a version or alias."""
        if not target.startswith("models:/"):
            return self._client.get_run(target.removeprefix("runs:/").partition("/")[0])
        version = self.version(target)
        if version is not None:
            key = self._add_version(version, answer)
            run_id = version.run_id
            if not run_id and getattr(version, "model_id", None):
                run_id = self._client.get_logged_model(version.model_id).source_run_id
            answer.join(run_id, key, network.REGISTERED)
            return self._client.get_run(run_id)
        model_id = target.removeprefix("models:/").partition("/")[0]
        model = self._client.get_logged_model(model_id)
        answer.add(Node(f"models:/{model_id}", network.MODEL, model.name or model_id))
        answer.join(model.source_run_id, f"models:/{model_id}", network.LOGGED)
        return self._client.get_run(model.source_run_id)

    def _is_full(self, answer: Network) -> bool:
        if len(answer.nodes) >= self._limit:
            answer.note(f"The answer was cut at {self._limit} nodes.")
            return True
        return False


def add_run(run: Any, answer: Network) -> None:
    """Add a run."""
    facts = {
        "status": run.info.status,
        "experiment_id": run.info.experiment_id,
        "digest": run.data.tags.get(f"{PREFIX}digest"),
    }
    answer.add(Node(run.info.run_id, network.RUN, run.info.run_name or run.info.run_id, facts))


def add_data(entry: Entry, answer: Network) -> str:
    """Add an entry's content in its place; return its key."""
    key = data_key(entry)
    facts = {"uri": entry.uri, "digest": entry.digest, "version": entry.version}
    facts = {name: value for name, value in facts.items() if value is not None}
    answer.add(Node(key, network.DATA, last_name(entry.uri) or shown_uri(entry.uri), facts))
    return key


def data_key(entry: Entry) -> str:
    """Return the key of an entry's content in its place."""
    mark = entry.digest or entry.version
    return f"{entry.uri}#{mark.removeprefix('sha256:')[:16]}" if mark else entry.uri


def _prompts(run: Any) -> list[str]:
    """Return the prompts that MLflow itself linked to a run."""
    try:
        linked = json.loads(run.data.tags.get("mlflow.linkedPrompts", "[]"))
        return [f"prompts:/{prompt['name']}/{prompt['version']}" for prompt in linked]
    except (ValueError, KeyError, TypeError):
        return []
