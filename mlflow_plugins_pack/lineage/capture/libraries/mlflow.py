"""The mlflow layer: runs and models that are fetched through MLflow, and versions registered.

``mlflow.artifacts.download_artifacts``, ``load_model`` and a client's `download_artifacts` all end
in one of these methods. What is fetched becomes upstream of the run; the files that it consists of
are MLflow's own. tests/lineage/test_mlflow_internals.py guards the names.
"""

from __future__ import annotations

from typing import Any

from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture.event import READ
from mlflow_plugins_pack.lineage.capture.observing import Arguments


def run_fetched(arguments: Arguments, _: Any) -> None:
    """Record the run of a ``runs:/`` URI."""
    repository = arguments["self"]
    run_id, _path = repository.parse_runs_uri(str(repository.artifact_uri))
    _emit(f"runs:/{run_id}")


def model_fetched(arguments: Arguments, _: Any) -> None:
    """Record the model version or logged model of a ``models:/`` URI."""
    repository = arguments["self"]
    if repository.model_name:
        _emit(f"models:/{repository.model_name}/{repository.model_version}")
    else:
        model_id = str(repository.artifact_uri).removeprefix("models:/").partition("/")[0]
        _emit(f"models:/{model_id}")


def client_fetched(arguments: Arguments, _: Any) -> None:
    """Record the run whose artifacts a client fetched."""
    _emit(f"runs:/{arguments['run_id']}")


def version_created(arguments: Arguments, _: Any) -> None:
    """Report that a model version was registered."""
    sink.current().version_created(arguments["self"].registry_uri, str(arguments["name"]))


def _emit(uri: str) -> None:
    sink.current().emit_object(READ, uri, "mlflow")
