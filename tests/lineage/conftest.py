"""Scripts as people write them, run in their own process against a real server and a database."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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


@dataclass
class Outcome:
    """What a script did.

    Attributes:
        code: Its exit code.
        output: All it printed, both streams.
        value: The JSON of its last line of standard output, if it is JSON.
        folder: Where it ran.
    """

    code: int
    output: str
    value: Any
    folder: Path


RunScript = Callable[..., Outcome]


def run_in(
    folder: Path,
    code: str,
    tracking_uri: str,
    *,
    expect: int | None = 0,
    timeout: float = 120,
    warns: bool = False,
    **environment: str,
) -> Outcome:
    """Run Python code as the file ``train.py`` of a folder, in a process of its own."""
    script = folder / "train.py"
    script.write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=servers.clean_environment(
            MLFLOW_TRACKING_URI=tracking_uri,
            MLFLOW_DISABLE_TELEMETRY="true",
            HOME=str(folder / "home"),
            **environment,
        ),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    output = done.stdout + done.stderr
    if expect is not None:
        assert done.returncode == expect, output
    if not warns:
        # On the happy path nothing is heard of us.
        assert not re.search(r"^(The lineage of|Lineage:)|plugins_pack", done.stderr, re.M), output
    value = None
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(("{", "[", '"')):
            value = json.loads(line)
            break
    return Outcome(done.returncode, output, value, folder)


@pytest.fixture
def run_script(tmp_path: Path, dataset_folder: Path) -> RunScript:
    """Run Python code as a file ``train.py`` in its own folder; DATA names the data's folder."""
    return functools.partial(run_in, tmp_path, DATA=str(dataset_folder))
