"""Versions to ship, made by a stock client as training code would make them."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
)

STEPS = 1_500
"""More than the points that one call of MLflow takes."""


def client_of(url: str) -> MlflowClient:
    return MlflowClient(tracking_uri=url, registry_uri=url)


def random_bytes(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def write_model(folder: Path, *, large: bytes = b"") -> Path:
    """Write files such as a logged model has."""
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\nmodel_id: m-source\n")
    (folder / "data" / "weights.bin").write_bytes(large or random_bytes(300_000, 1))
    (folder / "data" / "empty").write_bytes(b"")
    return folder


def make_run(client: MlflowClient, experiment: str) -> str:
    """Create a run with everything that a run can have but artifacts."""
    run = client.create_run(
        experiment, 1_700_000_000_000, {"mlflow.user": "erin", "team": "fraud"}, "the good one"
    )
    run_id: str = run.info.run_id
    client.log_batch(
        run_id,
        metrics=[Metric("loss", 1 / (1 + i), 1_700_000_000_000 + i, i) for i in range(1_000)],
        params=[Param("lr", "0.1"), Param("depth", "3")],
        tags=[RunTag("lineage.digest", "sha256:00"), RunTag("mlflow.parentRunId", "0" * 32)],
    )
    rest = [Metric("loss", 1 / (1 + i), 1_700_000_000_000 + i, i) for i in range(1_000, STEPS)]
    client.log_batch(run_id, metrics=[*rest, Metric("odd", math.nan, 5, 0)])
    used = Dataset("measurements", "d1", "local", '{"uri": "file:///m.csv"}', "{}", "{}")
    client.log_inputs(run_id, datasets=[DatasetInput(used, [InputTag("context", "read")])])
    client.log_text(run_id, '{"inputs": []}', "lineage/lineage.json")
    client.log_text(run_id, "much", "checkpoints/1.txt")
    return run_id


def make_version(
    url: str, name: str, folder: Path, *, experiment: str = "work", large: bytes = b""
) -> Any:
    """Train, log and register a model; return the version."""
    client = client_of(url)
    found = client.get_experiment_by_name(experiment)
    place = found.experiment_id if found else client.create_experiment(experiment)
    run_id = make_run(client, place)
    model = client.create_logged_model(
        place, "model", run_id, {"kind": "tree", "lineage.digest": "x"}, {"depth": "3"}, "sklearn"
    )
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 7)])
    client.log_batch(
        run_id, metrics=[Metric("auc", 0.9, 1_700_000_000_000, 7, model.model_id, run_id=run_id)]
    )
    client.log_model_artifacts(model.model_id, str(write_model(folder, large=large)))
    client.finalize_logged_model(model.model_id, "READY")
    client.set_terminated(run_id, "FINISHED", 1_700_000_009_000)
    register(client, name)
    made = client.create_model_version(
        name,
        f"models:/{model.model_id}",
        run_id,
        tags={"tests": "passed"},
        description="trained on Monday",
        model_id=model.model_id,
    )
    return client.get_model_version(name, made.version)


def model_of(version: Any) -> str:
    """Return the id of the logged model of a version."""
    model_id: str = version.source.removeprefix("models:/")
    return model_id


def register(client: MlflowClient, name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, {"owner": "fraud"}, "scores payments")


def files_of(url: str, location: str, folder: Path) -> dict[str, bytes]:
    """Download what a stock client gets from a place of a server."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    folder.mkdir(parents=True)
    root = Path(
        get_artifact_repository(location, tracking_uri=url).download_artifacts("", str(folder))
    )
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def all_of(url: str) -> dict[str, int]:
    """Count everything that a server has, to see duplicates."""
    client = client_of(url)
    experiments = [e.experiment_id for e in client.search_experiments()]
    return {
        "experiments": len(experiments),
        "runs": len(client.search_runs(experiments)),
        "models": len(client.search_logged_models(experiments)),
        "versions": len(client.search_model_versions()),
    }
