"""Scripts as people write them, run in their own process against a real server and a database."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lineage.support.scripts import RunScript, run_in
from tests.support import servers


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.MlflowServer]:
    """A stock tracking server, with the lineage of its own process off."""
    with servers.mlflow_server(
        tmp_path_factory.mktemp("server"), MLFLOW_PACK_LINEAGE_ENABLED="false"
    ) as running:
        yield running


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of a tracking database that has its tables."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('database') / 'tracking.db'}"
    import mlflow

    mlflow.MlflowClient(uri).create_experiment("first")
    return uri


@pytest.fixture(scope="session")
def dataset_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real data in files: scikit-learn's breast-cancer measurements."""
    import numpy
    from sklearn.datasets import load_breast_cancer

    folder = tmp_path_factory.mktemp("datasets")
    frame = load_breast_cancer(as_frame=True).frame
    frame.to_csv(folder / "cancer.csv", index=False)
    frame.to_parquet(folder / "cancer.parquet")
    numpy.save(folder / "cancer.npy", frame.to_numpy())
    (folder / "settings.yaml").write_text("depth: 3\n")
    for part in range(3):
        place = folder / "parts" / f"part={part}"
        place.mkdir(parents=True)
        frame.iloc[part::3].to_parquet(place / "rows.parquet")
    return folder


@pytest.fixture
def run_script(tmp_path: Path, dataset_folder: Path) -> RunScript:
    """Run Python code as a file ``train.py`` in its own folder; DATA names the data's folder."""
    return functools.partial(run_in, tmp_path, DATA=str(dataset_folder))
