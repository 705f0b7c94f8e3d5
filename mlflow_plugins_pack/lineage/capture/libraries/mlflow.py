"""The mlflow layer: runs and models that are fetched through MLflow, and models being registered.

Whoever calls ``mlflow.artifacts.download_artifacts``, ``load_model`` or a client's
`download_artifacts` ends in one of these three methods. What is fetched becomes upstream of the
run; the files it consists of are MLflow's own.
tests/lineage/test_mlflow_internals.py guards the names.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from mlflow_plugins_pack.lineage.capture.event import READ
from mlflow_plugins_pack.lineage.capture.wrapping import Call, look
from mlflow_plugins_pack.lineage.session import session


def wrap(module: ModuleType) -> None:
    """Wrap the class of a module that was just imported."""
    _WRAPPERS[module.__name__](module)


def _runs(module: Any) -> None:
    def fetched(call: Call) -> None:
        uri = str(call.args[0].artifact_uri)
        _emit(f"runs:/{module.RunsArtifactRepository.parse_runs_uri(uri)[0]}")

    look(module.RunsArtifactRepository, "download_artifacts", fetched)


def _models(module: Any) -> None:
    def fetched(call: Call) -> None:
        repository = call.args[0]
        if repository.model_name:
            _emit(f"models:/{repository.model_name}/{repository.model_version}")
        else:
            model_id = str(repository.artifact_uri).removeprefix("models:/").partition("/")[0]
            _emit(f"models:/{model_id}")

    look(module.ModelsArtifactRepository, "download_artifacts", fetched)


def _client(module: Any) -> None:
    look(
        module.MlflowClient,
        "download_artifacts",
        lambda call: _emit(f"runs:/{call.get(1, 'run_id')}"),
    )


def _emit(uri: str) -> None:
    session.current().emit_object(READ, uri, "mlflow")


def _registry(module: Any) -> None:
    def registered(call: Call) -> None:
        current = session.current()
        if current.is_on() and not current.is_muted():
            with current.muted():
                _copy_tags(call.args[0], call.result)

    look(module.ModelRegistryClient, "create_model_version", registered)


def _copy_tags(registry: Any, version: Any) -> None:
    """Give a version the lineage of the run that made it, if that run has ended."""
    from mlflow import MlflowClient

    client = MlflowClient(registry_uri=registry.registry_uri)
    run_id = version.run_id
    if not run_id and getattr(version, "model_id", None):
        run_id = client.get_logged_model(version.model_id).source_run_id
    if run_id:
        tags = client.get_run(run_id).data.tags
        copy_tags(client, version, {k: v for k, v in tags.items() if k.startswith("lineage.")})


ON_VERSIONS = tuple(
    f"lineage.{name}"
    for name in ("inputs", "truncated", "upstream.runs", "upstream.models", "digest")
)
"""What a version is given: what it was made from. The rest is one click away, at its run."""


def copy_tags(client: Any, version: Any, tags: dict[str, str]) -> None:
    """Set on a model version that has no lineage those of a run's tags that concern it."""
    if "lineage.digest" in tags and "lineage.digest" not in (version.tags or {}):
        # The digest comes last: where it is, the others are.
        for key in ON_VERSIONS:
            if key in tags:
                client.set_model_version_tag(version.name, version.version, key, tags[key])


_WRAPPERS: dict[str, Callable[[Any], None]] = {
    "mlflow.store.artifact.runs_artifact_repo": _runs,
    "mlflow.store.artifact.models_artifact_repo": _models,
    "mlflow.tracking.client": _client,
    "mlflow.tracking._model_registry.client": _registry,
}
MODULES = tuple(_WRAPPERS)
