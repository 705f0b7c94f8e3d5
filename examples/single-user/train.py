"""Train on a CSV file twice; lineage and deduplication come without a line about them."""

import json
from pathlib import Path

import mlflow
import pandas as pd
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier

FOLDER = Path.cwd()
DATA = FOLDER / "wine.csv"


def train() -> str:
    """Train once and return the run's id."""
    wine = pd.read_csv(DATA)
    with mlflow.start_run() as run:
        model = RandomForestClassifier(n_estimators=200, random_state=0)
        model.fit(wine.drop(columns="target"), wine["target"])
        mlflow.log_metric("accuracy", model.score(wine.drop(columns="target"), wine["target"]))
        mlflow.log_artifact(str(DATA))
        mlflow.sklearn.log_model(
            model,
            name="model",
            serialization_format="cloudpickle",
            pip_requirements=["cloudpickle", "scikit-learn"],
        )
    return run.info.run_id


def stored_bytes() -> int:
    """Return what the artifact store takes on disk."""
    return sum(path.stat().st_size for path in (FOLDER / "artifacts").rglob("*") if path.is_file())


def main() -> None:
    """Run the story in the current folder."""
    load_wine(as_frame=True).frame.to_csv(DATA, index=False)
    mlflow.set_tracking_uri(f"sqlite:///{FOLDER / 'mlflow.db'}")
    if mlflow.get_experiment_by_name("wine") is None:
        mlflow.create_experiment("wine", artifact_location=f"cas-file://{FOLDER / 'artifacts'}")
    mlflow.set_experiment("wine")

    train()
    first = stored_bytes()
    run_id = train()
    print(f"the first run stored {first} bytes, the second {stored_bytes() - first}")

    for entry in json.loads(mlflow.get_run(run_id).data.tags["lineage.inputs"]):
        print(f"run {run_id} read {entry['u']} {entry['h']}")


if __name__ == "__main__":
    main()
