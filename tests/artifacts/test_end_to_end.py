"""Stock `mlflow server` and stock clients over the store: proxied, direct, several workers."""

from __future__ import annotations

import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from tests.artifacts.support import uploads
from tests.contracts.artifact_repository import ODD_NAMES, content, random_bytes
from tests.support import servers

# Stock MLflow's model code warns about type hints, signatures and versions of its own accord.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module", params=["proxied", "direct"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[servers.MlflowServer, Path, str]]:
    """A server with several workers, its artifacts below the folder given with it."""
    folder = tmp_path_factory.mktemp(request.param)
    store = folder / "store"
    uri = f"cas-file://{store}"
    where = {"artifacts": uri} if request.param == "proxied" else {"default_artifact_root": uri}
    with servers.mlflow_server(folder, workers=4, **where) as server:
        yield server, store, request.param


@pytest.fixture
def client(
    served: tuple[servers.MlflowServer, Path, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[MlflowClient]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(served[0].url)
    mlflow.set_experiment("artifacts")
    yield MlflowClient(served[0].url)
    mlflow.set_tracking_uri(None)


def test_clients_that_ask_for_parts_or_addresses_fall_back(client, served, tmp_path, monkeypatch):
    """What the server does not offer: parts and presigned addresses."""
    for name in ("UPLOAD", "DOWNLOAD"):
        monkeypatch.setenv(f"MLFLOW_ENABLE_PROXY_MULTIPART_{name}", "true")
    for name in ("UPLOAD_MINIMUM_FILE_SIZE", "UPLOAD_CHUNK_SIZE", "DOWNLOAD_CHUNK_SIZE"):
        monkeypatch.setenv(f"MLFLOW_MULTIPART_{name}", str(5 * 1024 * 1024))
    (tmp_path / "large.bin").write_bytes(random_bytes(6_000_000))
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(tmp_path / "large.bin"))
    path = client.download_artifacts(run.info.run_id, "large.bin")
    assert Path(path).read_bytes() == random_bytes(6_000_000)


def test_files_and_folders(client, served, tmp_path):
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    files = {f"sub/{name}": name.encode() for name in ODD_NAMES if "%" not in name}
    files |= {"empty": b"", "large.bin": random_bytes(6_000_000), "text.csv": b"1,2\n" * 9_000}
    for name, data in files.items():
        (source / name).write_bytes(data)
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(source), "data")
        mlflow.log_artifact(str(source / "text.csv"))
        mlflow.log_dict({"a": [1, 2]}, "config/params.json")
    assert [f.path for f in client.list_artifacts(run.info.run_id)] == [
        "config",
        "data",
        "text.csv",
    ]
    assert [(f.path, f.is_dir) for f in client.list_artifacts(run.info.run_id, "data")] == [
        ("data/empty", False),
        ("data/large.bin", False),
        ("data/sub", True),
        ("data/text.csv", False),
    ]
    target = tmp_path / "target"
    target.mkdir()
    local = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="data", dst_path=str(target)
    )
    assert content(local) == files
    assert mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/config/params.json") == {
        "a": [1, 2]
    }
    packs = list((served[1] / ".cas" / "packs").rglob("??/*"))
    assert packs, "the server's artifacts are not in our store"
    assert not list(served[1].rglob("large.bin")), "a raw file is in the store"


@pytest.mark.parametrize("served", ["proxied"], indirect=True)
def test_large_uploads_at_once_take_bounded_memory_and_block_nobody(served):
    """`python -m tests.artifacts.support.uploads` does it with 16 of 1 GiB."""
    server, store, _ = served
    outcome = uploads.measure(server, f"cas-file://{store}", uploads=12, mib=48)
    assert outcome.grown_mib[0] <= 150, outcome.grown_mib
    assert len(outcome.answers) >= 5, outcome.answers


def test_page_of_a_run_reads_files_of_all_workers(client, served):
    with mlflow.start_run() as run:
        for number in range(12):
            mlflow.log_text(f"text {number}", f"t/{number}.txt")
    # Each request opens a connection of its own, so that all workers get their turn.
    for number in range(12):
        answer = requests.get(
            f"{served[0].url}/get-artifact",
            {"run_id": run.info.run_id, "path": f"t/{number}.txt"},
            timeout=30,
        )
        assert (answer.status_code, answer.text) == (200, f"text {number}")
        listed = requests.get(
            f"{served[0].url}/api/2.0/mlflow/artifacts/list",
            {"run_id": run.info.run_id, "path": "t"},
            timeout=30,
        ).json()
        assert len(listed["files"]) == 12


def test_model_is_logged_registered_loaded_and_served(client, served):
    import mlflow.pyfunc
    import mlflow.sklearn

    data, target = load_breast_cancer(return_X_y=True)
    model = LogisticRegression(max_iter=5000).fit(data, target)
    with mlflow.start_run():
        first = mlflow.sklearn.log_model(model, name="model", input_example=data[:2])
    version = mlflow.register_model(first.model_uri, f"model-{served[2]}")
    client.set_registered_model_alias(version.name, "prod", version.version)
    loaded = mlflow.pyfunc.load_model(f"models:/{version.name}@prod")
    assert np.array_equal(loaded.predict(data), model.predict(data))
    assert np.array_equal(
        mlflow.sklearn.load_model(first.model_uri).predict(data), model.predict(data)
    )


MODEL = """
from pathlib import Path
import mlflow
from mlflow.pyfunc import PythonModel

class Total(PythonModel):
    def load_context(self, context):
        self.bias = float(Path(context.artifacts["bias"]).read_text())

    def predict(self, context, model_input, params=None):
        return [float(total) + self.bias for total in model_input.sum(axis=1)]

mlflow.models.set_model(Total())
"""


def test_stock_command_serves_a_model_of_the_store(client, served, tmp_path):
    import mlflow.pyfunc

    (tmp_path / "bias.txt").write_text("0.5")
    (tmp_path / "total.py").write_text(MODEL)
    with mlflow.start_run():
        logged = mlflow.pyfunc.log_model(
            name="total",
            python_model=str(tmp_path / "total.py"),
            artifacts={"bias": str(tmp_path / "bias.txt")},
        )
    mlflow.register_model(logged.model_uri, f"total-{served[2]}")
    port = servers.free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"),
        *("-m", f"models:/total-{served[2]}/1", "--port", str(port), "--workers", "1"),
    ]
    environment = servers.clean_environment(
        MLFLOW_TRACKING_URI=served[0].url,
        MLFLOW_DISABLE_TELEMETRY="true",
        HOME=str(tmp_path),
    )
    with servers.running(
        command,
        log=tmp_path / "serve.log",
        ready=lambda: servers.answers_http(f"{url}/ping"),
        environment=environment,
        folder=tmp_path,
    ):
        asked = {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4.5]]}}
        answer = requests.post(f"{url}/invocations", json=asked, timeout=60)
    assert (answer.status_code, answer.json()) == (200, {"predictions": [3.5, 8.0]})


def test_gc_removes_deleted_runs_only(client, served, tmp_path):
    kept_file = tmp_path / "f"
    kept_file.write_bytes(random_bytes(100_000))
    runs = []
    for _ in range(2):
        with mlflow.start_run() as run:
            mlflow.log_artifact(str(kept_file))
        runs.append(run.info)
    client.delete_run(runs[0].run_id)
    folder = served[1].parent
    environment = servers.clean_environment(
        MLFLOW_TRACKING_URI=served[0].url, HOME=str(tmp_path), MLFLOW_DISABLE_TELEMETRY="true"
    )
    subprocess.run(
        [
            *(sys.executable, "-m", "mlflow", "gc", "--run-ids", runs[0].run_id),
            *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        ],
        check=True,
        env=environment,
        timeout=120,
        capture_output=True,
    )
    with pytest.raises(MlflowException):
        client.get_run(runs[0].run_id)
    local = mlflow.artifacts.download_artifacts(run_id=runs[1].run_id, artifact_path="f")
    assert Path(local).read_bytes() == kept_file.read_bytes()
    experiment = client.get_run(runs[1].run_id).info.experiment_id
    gone = get_artifact_repository(
        f"cas-file://{served[1]}/{experiment}/{runs[0].run_id}/artifacts"
    )
    assert gone.list_artifacts() == []


def test_locked_artifacts_over_the_server(client, served, tmp_path):
    with mlflow.start_run() as run:
        mlflow.log_text("approved", "x.txt")
    info = run.info
    repository = get_artifact_repository(
        f"cas-file://{served[1]}/{info.experiment_id}/{info.run_id}/artifacts"
    )
    repository.lock("approved for alias 'prod'")
    digest = repository.content_digest()
    for name in ("x.txt", "y.txt"):
        with pytest.raises(Exception, match="CONTENT_LOCKED"):
            client.log_text(info.run_id, "other", name)
    client.delete_run(info.run_id)
    environment = servers.clean_environment(
        MLFLOW_TRACKING_URI=served[0].url, HOME=str(tmp_path), MLFLOW_DISABLE_TELEMETRY="true"
    )
    collected = subprocess.run(
        [
            *(sys.executable, "-m", "mlflow", "gc", "--run-ids", info.run_id),
            *("--backend-store-uri", f"sqlite:///{served[1].parent / 'mlflow.db'}"),
        ],
        env=environment,
        timeout=120,
        capture_output=True,
        text=True,
    )
    # What is locked stays, and does not stop the deletion of the other runs.
    assert collected.returncode == 0, collected.stderr
    assert repository.content_digest() == digest


def test_missing_artifact_is_a_404(client, served):
    with mlflow.start_run() as run:
        mlflow.log_text("x", "x.txt")
    answer = requests.get(
        f"{served[0].url}/get-artifact",
        {"run_id": run.info.run_id, "path": "y.txt"},
        timeout=30,
    )
    assert answer.status_code == 404
    assert "y.txt" in answer.json()["message"]


@pytest.mark.parametrize("path", ["../../x", "/etc/passwd", "a//../b", "%2e%2e/x"])
def test_climbing_path_is_refused_over_http(client, served, path):
    with mlflow.start_run() as run:
        mlflow.log_text("x", "x.txt")
    answer = requests.get(
        f"{served[0].url}/get-artifact", {"run_id": run.info.run_id, "path": path}, timeout=30
    )
    assert answer.status_code == 400, answer.text


def test_server_opens_no_other_root(client, served, tmp_path):
    """A client may name any artifact location; the server must not read there."""
    foreign = tmp_path / "foreign"
    experiment = client.create_experiment(
        f"foreign-{served[2]}", artifact_location=f"cas-file://{foreign}"
    )
    run = client.create_run(experiment)
    # As a client, this process may write where its user may.
    client.log_text(run.info.run_id, "secret", "s.txt")
    assert foreign.exists()
    answer = requests.get(
        f"{served[0].url}/get-artifact",
        {"run_id": run.info.run_id, "path": "s.txt"},
        timeout=30,
    )
    assert answer.status_code == 403
    assert "MLFLOW_PACK_ARTIFACT_ROOTS" in answer.json()["message"]
    listed = requests.get(
        f"{served[0].url}/api/2.0/mlflow/artifacts/list",
        {"run_id": run.info.run_id},
        timeout=30,
    )
    assert listed.status_code == 403


def test_percent_in_a_name_over_http(client, served, tmp_path):
    """Stock's own client sends the name unquoted: what arrives is what is stored."""
    name = "100%.txt"
    (tmp_path / name).write_text("x")
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(tmp_path / name))
    listed = [f.path for f in client.list_artifacts(run.info.run_id)]
    assert [urllib.parse.unquote(path) for path in listed] == [name]
    local = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=listed[0])
    assert Path(local).read_text() == "x"
