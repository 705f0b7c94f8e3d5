"""Runs in a tracking store, and versions made of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from mlflow.server import handlers
from mlflow.tracking import MlflowClient

from tests.approvals.support.bench import ClockBench
from tests.support.acting import signed_in

_runs = itertools.count(1)


def run_of(
    bench: ClockBench, monkeypatch: pytest.MonkeyPatch, **tags: str
) -> tuple[MlflowClient, str]:
    """Make a run in a tracking store next to the registry."""
    uri = f"sqlite:///{bench.folder / 'tracking.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(handlers, "_tracking_store", None)
    client = MlflowClient(uri)
    experiment = client.create_experiment(f"e{next(_runs)}", str(bench.folder / "runs"))
    run = client.create_run(experiment, tags={k.replace("_", "."): v for k, v in tags.items()})
    return client, run.info.run_id


def version_of(bench: ClockBench, run_id: str, mlmodel: str = "flavors: {}\n") -> int:
    number = bench.version()
    source = Path(bench.store.get_model_version_download_uri("gov-a", number))
    (source / "MLmodel").write_text(mlmodel)
    with signed_in("alice"):
        return int(bench.store.create_model_version("gov-a", str(source), run_id).version)
