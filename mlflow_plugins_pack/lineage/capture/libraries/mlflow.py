"""The mlflow layer: runs and models that are fetched through MLflow, and versions registered.

``mlflow.artifacts.download_artifacts``, ``load_model`` and a client's `download_artifacts` all end
in one of these methods. What is fetched becomes upstream of the run; the files that it consists of
are MLflow's own. tests/lineage/test_mlflow_internals.py guards the names.
"""

from __future__ import annotations

import sys
import threading

from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture.call_stack import is_users
from mlflow_plugins_pack.lineage.capture.event import READ
from mlflow_plugins_pack.lineage.capture.observing.observers import Arguments


def run_fetched(arguments: Arguments) -> None:
    """Record the run of a ``runs:/`` URI."""
    repository = arguments["self"]
    run_id, _path = repository.parse_runs_uri(str(repository.artifact_uri))
    _emit(f"runs:/{run_id}")


def model_fetched(arguments: Arguments) -> None:
    """Record the model version or logged model of a ``models:/`` URI."""
    repository = arguments["self"]
    if repository.model_name:
        _emit(f"models:/{repository.model_name}/{repository.model_version}")
    else:
        model_id = str(repository.artifact_uri).removeprefix("models:/").partition("/")[0]
        _emit(f"models:/{model_id}")


def client_fetched(arguments: Arguments) -> None:
    """Record the run whose artifacts a client fetched."""
    _emit(f"runs:/{arguments['run_id']}")


class _Creating(threading.local):
    """Ids of the runs that MLflow made an object of while a client created one in this thread."""

    made: list[str] | None = None


_creating = _Creating()


def client_creates_run(arguments: Arguments) -> tuple[list[str], str] | None:
    """Begin to note the run that a client creates for the user, rather than for MLflow."""
    # Behind this function and its observer is `create_run`, then its caller.
    if not is_users(sys._getframe(3)):
        _creating.made = None
        return None
    _creating.made = []
    return _creating.made, str(arguments["self"].tracking_uri)


def run_made(arguments: Arguments) -> None:
    """Note a run that a client has just created."""
    if _creating.made is not None:
        _creating.made[:] = [str(arguments["run_info"].run_id)]


def client_created_run(noted: tuple[list[str], str]) -> None:
    """Report a run that was created by a client."""
    made, tracking_uri = noted
    _creating.made = None
    if made:
        sink.current().client_run_created(made[0], tracking_uri)


def client_ends_run(arguments: Arguments) -> None:
    """Report that a client is about to end a run."""
    sink.current().client_run_ends(str(arguments["run_id"]))


def version_created(arguments: Arguments) -> None:
    """Report that a model version was registered."""
    sink.current().version_created(arguments["self"].registry_uri, str(arguments["name"]))


def _emit(uri: str) -> None:
    sink.current().emit_object(READ, uri, "mlflow")
