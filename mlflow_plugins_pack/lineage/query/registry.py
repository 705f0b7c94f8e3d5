"""Finds logged models, registered versions and aliases, and adds them to an answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from mlflow_plugins_pack.lineage.document import network
from mlflow_plugins_pack.lineage.document.network import Network, Node
from mlflow_plugins_pack.lineage.query.search import RunSearch

_PAGE = 1_000
_RUNS_A_FILTER = 50
"""The filter travels in an address, which may be some 4,000 characters long."""


class Registry:
    """The registry of one server.

    Args:
        search: Has the client, and sends several requests at a time.
    """

    def __init__(self, search: RunSearch) -> None:
        self._search = search
        self._client = search.client
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
        self._learn_aliases({version.name for versions in found.values() for version in versions})
        return found

    def add_models(self, run: Any, versions: Iterable[Any], answer: Network) -> list[str]:
        """Add what a run logged and what became of it in the registry.

        Args:
            run: The run.
            versions: The model versions that came of it, as `versions_of` gives them.
            answer: What to add to.

        Returns:
            The versions' keys.
        """
        run_id = run.info.run_id
        logged = getattr(getattr(run, "outputs", None), "model_outputs", None) or ()
        for output in logged:
            key = f"models:/{output.model_id}"
            answer.add(
                Node(
                    key,
                    network.MODEL,
                    output.model_id,
                    time=run.info.start_time,
                    experiment_id=run.info.experiment_id,
                )
            )
            answer.join(run_id, key, network.LOGGED)
        return [self._add_version(version, answer) for version in versions]

    def add_named_model(self, uri: str, answer: Network) -> tuple[str | None, str]:
        """Add a model or version that a record names; return the run that made it, and its key."""
        version = self.version(uri)
        if version is not None:
            return version.run_id, self._add_version(version, answer)
        answer.add(Node(uri, network.MODEL, uri.removeprefix("models:/")))
        return None, uri

    def add_target(self, uri: str, answer: Network) -> str:
        """Add the version, alias or logged model that is asked about; return its run's id.

        Raises:
            MlflowException: If it does not exist.
            LineageTargetError: If no run made it.
        """
        from mlflow_plugins_pack.errors import LineageTargetError

        version = self._version(uri)
        if version is None:
            key = f"models:/{uri.removeprefix('models:/').partition('/')[0]}"
            run_id = self._add_logged_model(key, answer)
            # Runs that load a logged model record the run that made it.
            answer.mark(run_id)
        else:
            logged = _logged_model(version)
            maker = self._add_logged_model(logged, answer) if logged else ""
            run_id = version.run_id or maker
            key = self._add_version(version, answer)
        if not run_id:
            raise LineageTargetError(
                f"{uri} was not made by a run, so nothing is known of its data. Nothing was "
                f"changed. Ask about a version that was registered from a run."
            )
        for marked in dict.fromkeys((uri, key)):
            if marked in answer.nodes:
                answer.mark(marked)
        return str(run_id)

    def _add_logged_model(self, uri: str, answer: Network) -> str:
        """Add a logged model; return the run that made it, or an empty text."""
        model = self._client.get_logged_model(uri.removeprefix("models:/"))
        answer.add(
            Node(
                uri,
                network.MODEL,
                model.name or uri,
                time=model.creation_timestamp,
                experiment_id=model.experiment_id,
            )
        )
        run_id = str(model.source_run_id or "")
        if run_id:
            answer.join(run_id, uri, network.LOGGED)
        return run_id

    def version(self, uri: str) -> Any | None:
        """Return the version that a URI names; None if it names none, or if that is gone."""
        from mlflow.exceptions import MlflowException

        try:
            return self._version(uri)
        except MlflowException:
            return None

    def _version(self, uri: str) -> Any | None:
        name, _, number = uri.removeprefix("models:/").rpartition("/")
        if name and number.isdigit():
            return self._client.get_model_version(name, number)
        name, at, alias = uri.removeprefix("models:/").rpartition("@")
        return self._client.get_model_version_by_alias(name, alias) if at else None

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

    def _learn_aliases(self, names: Iterable[str]) -> None:
        # A listing of versions leaves them out.
        new = [name for name in names if name not in self._known_aliases]
        found = self._search.each(self._client.get_registered_model, new)
        self._known_aliases.update(
            (name, dict(model.aliases or {})) for name, model in zip(new, found, strict=True)
        )

    def _add_version(self, version: Any, answer: Network) -> str:
        key = f"models:/{version.name}/{version.version}"
        stage = getattr(version, "current_stage", None)
        answer.add(
            Node(
                key,
                network.VERSION,
                f"{version.name} {version.version}",
                time=version.creation_timestamp,
                stage=stage if stage and stage != "None" else None,
            )
        )
        model = _logged_model(version)
        if model in answer.nodes:
            answer.join(model, key, network.REGISTERED)
        elif version.run_id:
            answer.join(version.run_id, key, network.REGISTERED)
        self._learn_aliases([version.name])
        for alias, number in self._known_aliases[version.name].items():
            if str(number) == str(version.version):
                name = f"models:/{version.name}@{alias}"
                answer.add(Node(name, network.ALIAS, f"{version.name}@{alias}"))
                answer.join(key, name, network.NAMED)
        return key


def _logged_model(version: Any) -> str:
    """Return the URI of the logged model that a version was registered from, or an empty text."""
    model_id = getattr(version, "model_id", None)
    source = f"models:/{model_id}" if model_id else str(version.source or "")
    return source if source.startswith("models:/m-") else ""
