"""An ordinary day of a stock MLflow user, run as a script in a fresh process.

Usage: ``python ordinary_day.py MEASUREMENTS.csv DIAGNOSES.parquet``; MLFLOW_TRACKING_URI says
where. Its last line is one JSON document: what each call gave back, and the whole history
afterwards. It knows nothing of the pack.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler


def main() -> None:
    measurements = pd.read_csv(sys.argv[1], index_col="patient")
    benign = pd.read_parquet(sys.argv[2]).set_index("patient")["benign"]
    # Scaled, so that the solver converges without a warning of its own.
    features = pd.DataFrame(
        StandardScaler().fit_transform(measurements),
        columns=measurements.columns,
        index=measurements.index,
    )
    mlflow.set_experiment("ordinary")
    client = MlflowClient()
    seen: dict[str, Any] = {}

    with mlflow.start_run(run_name="search", tags={"team": "risk"}) as parent:
        mlflow.log_param("solver", "lbfgs")
        mlflow.log_input(
            mlflow.data.from_pandas(features, source=sys.argv[1], name="cells"), context="training"
        )
        for strength in (0.1, 1.0):
            with mlflow.start_run(run_name=f"C={strength}", nested=True):
                model = LogisticRegression(C=strength).fit(features, benign)
                mlflow.log_params({"C": strength, "penalty": "l2"})
                for step in range(3):
                    mlflow.log_metrics(
                        {"accuracy": round(model.score(features, benign), 6), "s": step}, step=step
                    )
        mlflow.log_text("plain words", "notes/a note with ümlaut.txt")
        mlflow.log_dict({"a": [1, 2]}, "conf.json")
        with tempfile.TemporaryDirectory() as name:
            for index in range(3):
                (Path(name) / f"part-{index}.bin").write_bytes(bytes([index]) * 1000)
            mlflow.log_artifacts(name, "parts")
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            serialization_format="cloudpickle",
            signature=infer_signature(features, model.predict(features)),
            pip_requirements=["scikit-learn"],
            registered_model_name="ordinary",
        )
        mlflow.set_tag("done", "yes")
    client.set_registered_model_alias("ordinary", "prod", 1)
    client.set_model_version_tag("ordinary", "1", "checked", "yes")

    loaded = mlflow.pyfunc.load_model("models:/ordinary@prod")
    seen["predictions"] = np.asarray(loaded.predict(features)).tolist()
    seen["model"] = {"flavors": sorted(logged.flavors), "signature": str(logged.signature)}
    seen["downloaded"] = {
        path.name: path.read_bytes().hex()
        for path in sorted(
            Path(mlflow.artifacts.download_artifacts(f"runs:/{parent.info.run_id}/parts")).iterdir()
        )
    }
    seen["errors"] = [
        _error(lambda: client.get_run("0" * 32)),
        _error(lambda: client.get_model_version_by_alias("ordinary", "none")),
        _error(lambda: mlflow.artifacts.download_artifacts(f"runs:/{parent.info.run_id}/none")),
        _error(lambda: client.log_param(parent.info.run_id, "solver", "other")),
    ]
    client.delete_registered_model_alias("ordinary", "prod")
    seen["history"] = history(client)
    sys.stdout.write("\n" + json.dumps(seen, sort_keys=True, default=str) + "\n")


def _error(call: Any) -> str:
    try:
        call()
    except MlflowException as exc:
        return f"{type(exc).__name__} {exc.error_code}: {exc.message}"
    return "no error"


def history(client: MlflowClient) -> dict[str, Any]:
    """Return everything the experiment's runs and models hold."""
    experiment = client.get_experiment_by_name("ordinary")
    assert experiment is not None
    runs = []
    for run in reversed(client.search_runs([experiment.experiment_id])):
        run_id = run.info.run_id
        runs.append(
            {
                "run": run.to_dictionary(),
                "metrics": {
                    key: [(m.value, m.step) for m in client.get_metric_history(run_id, key)]
                    for key in sorted(run.data.metrics)
                },
                "artifacts": _tree(client, run_id, None),
            }
        )
    models = client.search_logged_models([experiment.experiment_id])
    versions = client.search_model_versions("name = 'ordinary'")
    return {
        "experiment": dict(experiment),
        "runs": runs,
        "logged_models": [model.to_dictionary() for model in models],
        "versions": [dict(version) for version in versions],
        "registered": [
            {**dict(model), "latest_versions": [dict(version) for version in model.latest_versions]}
            for model in client.search_registered_models()
        ],
    }


def _tree(client: MlflowClient, run_id: str, path: str | None) -> list[Any]:
    found: list[Any] = []
    for entry in client.list_artifacts(run_id, path):
        found.append((entry.path, entry.is_dir, entry.file_size))
        if entry.is_dir:
            found += _tree(client, run_id, entry.path)
    return found


if __name__ == "__main__":
    main()
