"""One signed-in person: a process of its own that acts through the stock MLflow client.

Run as ``python -m mlflow_plugins_pack.cli.demo.person``. Reads one JSON object a line from
standard input, ``{"act": NAME, "arguments": {...}}``, and answers each with one line,
``{"value": ...}`` or ``{"refused": MESSAGE}``. Who the person is, the environment says: the auth
plugin signs every request in.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException


def sign_in() -> bool:
    """Make a request that the server answers only to a user it knows."""
    return bool(mlflow.MlflowClient().search_experiments(max_results=1))


def holder(name: str, alias: str) -> str:
    """Return the version that an alias points at."""
    return str(mlflow.MlflowClient().get_model_version_by_alias(name, alias).version)


def promote(name: str, version: str, alias: str) -> None:
    """Point an alias at a version: the stock call, and the only way into production."""
    mlflow.MlflowClient().set_registered_model_alias(name, alias, version)


def tag_version(name: str, version: str, key: str, value: str) -> None:
    """Set a tag of a model version."""
    mlflow.MlflowClient().set_model_version_tag(name, version, key, value)


def version_tags(name: str, version: str) -> dict[str, str]:
    """Return the tags of a model version."""
    return dict(mlflow.MlflowClient().get_model_version(name, version).tags)


def run_tags(run_id: str) -> dict[str, str]:
    """Return the tags of a run."""
    return dict(mlflow.get_run(run_id).data.tags)


def newest_version(name: str) -> str:
    """Return the newest version of a registered model."""
    versions = mlflow.MlflowClient().search_model_versions(f"name = '{name}'")
    return str(max(int(version.version) for version in versions))


def score(model_uri: str, measurements: str, diagnoses: str) -> float:
    """Load a model and return its accuracy on the data."""
    import pandas as pd

    data = pd.read_csv(measurements, index_col="patient")
    benign = pd.read_parquet(diagnoses).set_index("patient")["benign"]
    return float((mlflow.pyfunc.load_model(model_uri).predict(data) == benign).mean())


def logged_bytes(run_id: str, model_uri: str) -> int:
    """Return the size of all that a run logged, the model included."""
    client = mlflow.MlflowClient()
    listed = list(client.list_artifacts(run_id))
    listed += mlflow.artifacts.list_artifacts(artifact_uri=model_uri) or []
    total = 0
    while listed:
        entry = listed.pop()
        if entry.is_dir:
            listed += client.list_artifacts(run_id, entry.path)
        else:
            total += entry.file_size or 0
    return total


ACTS = {
    act.__name__: act
    for act in (
        holder,
        logged_bytes,
        newest_version,
        promote,
        run_tags,
        score,
        sign_in,
        tag_version,
        version_tags,
    )
}


def main() -> None:
    """Serve acts until standard input ends."""
    answers = sys.stdout
    # Whatever a library prints must not get between the answers.
    sys.stdout = sys.stderr
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    for line in sys.stdin:
        asked = json.loads(line)
        answer: dict[str, Any]
        try:
            answer = {"value": ACTS[asked["act"]](**asked["arguments"])}
        except MlflowException as exc:
            answer = {"refused": exc.message}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
