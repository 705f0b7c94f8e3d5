"""The main job, end to end, as a user's script: stock client calls and nothing else.

Usage: ``python main_job.py MEASUREMENTS.csv DIAGNOSES.parquet``; MLFLOW_TRACKING_URI says where.
alice searches, logs, registers; her promotion is refused; bob and carol approve through stock
tags; the same promotion applies; what is served is what was trained. Each step checks itself; the
last line printed is a JSON document of what was made.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

MODEL = "tumour-classifier"
PEOPLE = ("alice", "bob", "carol")
POLICY = """\
version: 1
identity: {sources: [basic_auth]}
groups: {ml-leads: [bob], risk: [carol]}
policies:
  - name: production
    match: {models: ["tumour-*"]}
    targets: {aliases: [prod]}
    approvals: [{group: ml-leads, count: 1}, {group: risk, count: 1}]
"""


@contextlib.contextmanager
def acting_as(name: str) -> Iterator[None]:
    """Sign in as a user while the block runs."""
    before = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    # Everybody has the same password here; it is in the environment from the start.
    os.environ["MLFLOW_TRACKING_USERNAME"] = name
    try:
        yield
    finally:
        os.environ["MLFLOW_TRACKING_USERNAME"] = before


def main() -> None:
    """Do the job."""
    with acting_as("alice"):
        if os.environ.get("MAIN_JOB_WORKSPACE"):
            mlflow.set_workspace(os.environ["MAIN_JOB_WORKSPACE"])
        made = do_job(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write("\n" + json.dumps(made) + "\n")


def do_job(measurements: Path, diagnoses: Path) -> dict[str, str]:
    """Do the whole job as alice; return what was made."""
    client = MlflowClient()
    data = pd.read_csv(measurements, index_col="patient")
    benign = pd.read_parquet(diagnoses).set_index("patient")["benign"]
    train_x, test_x, train_y, test_y = train_test_split(data, benign, random_state=7)

    mlflow.set_experiment("tumours")
    with mlflow.start_run(run_name="search") as search:
        best, best_score = None, -1.0
        for depth in (2, 6):
            with mlflow.start_run(run_name=f"depth {depth}", nested=True):
                forest = RandomForestClassifier(20, max_depth=depth, random_state=7)
                forest.fit(train_x, train_y)
                score = float(forest.score(test_x, test_y))
                mlflow.log_params({"max_depth": depth, "n_estimators": 20})
                mlflow.log_metrics({"accuracy": score})
                if score > best_score:
                    best, best_score = forest, score
        mlflow.log_metric("best accuracy", best_score)
        wanted = best.predict(data)
        files = write_artifacts()
        mlflow.log_artifacts(str(files), "evaluation")
        mlflow.log_text("0 bytes follow", "notes/read me, 100 % ümlaut.txt")
        _log_model(best, train_x, register_as=MODEL)
        mlflow.set_tag("purpose", "tumours")
    run_id = search.info.run_id

    # What was logged comes back, byte for byte.
    local = Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/evaluation"))
    for path in files.rglob("*"):
        if path.is_file():
            got = (local / path.relative_to(files)).read_bytes()
            assert got == path.read_bytes(), f"{path.name} differs"
    listed = {(entry.path, entry.is_dir) for entry in client.list_artifacts(run_id, "evaluation")}
    assert listed == {("evaluation/empty.bin", False), ("evaluation/tables", True)}, listed
    notes = [entry.path for entry in client.list_artifacts(run_id, "notes")]
    assert notes == ["notes/read me, 100 % ümlaut.txt"], notes

    # The run says what it read.
    tags = client.get_run(run_id).data.tags
    read = {Path(entry["u"]).name for entry in json.loads(tags["lineage.inputs"])}
    assert read == {measurements.name, diagnoses.name}, read

    # No user reaches production alone.
    client.set_model_version_tag(MODEL, "1", "reviewed-notebook", "yes")
    refused("APPROVAL_REQUIRED", lambda: client.set_registered_model_alias(MODEL, "prod", "1"))
    for name in ("bob", "carol"):
        with acting_as(name):
            client.set_model_version_tag(MODEL, "1", "approvals.approve", f"prod: {name} agrees")
    state = client.get_model_version(MODEL, "1").tags["mlflow_approvals.prod"]
    assert state.startswith("APPROVED"), state
    client.set_registered_model_alias(MODEL, "prod", "1")
    refused("PROTECTED_DELETE", lambda: client.delete_model_version(MODEL, "1"))

    # What production serves is what was trained.
    served = mlflow.pyfunc.load_model(f"models:/{MODEL}@prod").predict(data)
    assert list(served) == list(wanted)

    # The same model again, as any retraining does; version 2 is not production.
    with mlflow.start_run(run_name="again") as again:
        _log_model(best, train_x, register_as=MODEL)
    assert client.get_model_version_by_alias(MODEL, "prod").version == "1"
    versions = client.search_model_versions(f"name = '{MODEL}'")
    assert sorted(version.version for version in versions) == ["1", "2"]
    found = client.search_runs([search.info.experiment_id], "attributes.run_name = 'again'")
    assert [run.info.run_id for run in found] == [again.info.run_id]
    return {
        "run_id": run_id,
        "experiment_id": search.info.experiment_id,
        "artifact_uri": search.info.artifact_uri,
        "model": MODEL,
        "again": again.info.run_id,
    }


def _log_model(model: RandomForestClassifier, features: pd.DataFrame, register_as: str) -> None:
    mlflow.sklearn.log_model(
        model,
        name="model",
        serialization_format="cloudpickle",
        signature=infer_signature(features, model.predict(features)),
        # Named, so that MLflow need not load the model once more to find it out.
        pip_requirements=["scikit-learn", "cloudpickle"],
        registered_model_name=register_as,
    )


def write_artifacts() -> Path:
    """Write files worth logging: nested, repetitive, random and empty."""
    folder = Path(tempfile.mkdtemp())
    (folder / "tables" / "deep").mkdir(parents=True)
    (folder / "empty.bin").touch()
    (folder / "tables" / "scores.csv").write_text("fold,score\n" + "1,0.95\n" * 20_000)
    (folder / "tables" / "deep" / "random.bin").write_bytes(os.urandom(300_000))
    return folder


def refused(code: str, call: object) -> None:
    """Expect a refusal with the given code."""
    try:
        call()  # type: ignore[operator]
    except MlflowException as exc:
        message = exc.message
    else:
        message = "nothing was refused"
    # Whatever the transport puts before it, the store's message must be there verbatim.
    if code not in message or not re.search(r"(not|Nothing was) changed", message):
        raise AssertionError(f"expected {code}: {message}")


if __name__ == "__main__":
    main()
