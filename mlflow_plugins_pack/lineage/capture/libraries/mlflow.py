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

from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture.event import READ
from mlflow_plugins_pack.lineage.capture.wrapping import Call, look


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
    sink.current().emit_object(READ, uri, "mlflow")


def _registry(module: Any) -> None:
    look(
        module.ModelRegistryClient,
        "create_model_version",
        lambda call: sink.current().version_created(call.args[0].registry_uri, call.result),
    )


_WRAPPERS: dict[str, Callable[[Any], None]] = {
    "mlflow.store.artifact.runs_artifact_repo": _runs,
    "mlflow.store.artifact.models_artifact_repo": _models,
    "mlflow.tracking.client": _client,
    "mlflow.tracking._model_registry.client": _registry,
}
MODULES = tuple(_WRAPPERS)
