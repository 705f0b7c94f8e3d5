"""The steps of a release pipeline, on the stock MLflow client."""

import argparse
import sys
import time

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException

ALIAS = "prod"
STATE = f"mlflow_approvals.{ALIAS}"
"""The tag in which the server shows where the promotion stands; read-only."""

DONE, REFUSED, STILL_WAITING, ROLLED_BACK = 0, 1, 3, 4
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def register(run_id: str, name: str) -> int:
    """Register a run's model and print its version."""
    version = mlflow.register_model(f"runs:/{run_id}/model", name)
    print(version.version)
    return DONE


def score(model: str, data: str, target: str) -> float:
    """Return a model's accuracy on labelled data."""
    labelled = pd.read_csv(data)
    predicted = mlflow.pyfunc.load_model(model).predict(labelled.drop(columns=target))
    return float((predicted == labelled[target]).mean())


def test(name: str, version: str, data: str, target: str, at_least: float) -> int:
    """Load the version as a consumer would, score it, and say in a tag whether it passed."""
    accuracy = score(f"models:/{name}/{version}", data, target)
    verdict = "passed" if accuracy >= at_least else "failed"
    mlflow.MlflowClient().set_model_version_tag(name, version, "tests", verdict)
    print(f"accuracy {accuracy:.3f}, tests {verdict}")
    return DONE if verdict == "passed" else REFUSED


def promote(name: str, version: str, wait_seconds: float) -> int:
    """Ask for @prod, wait for the approvers, and set it."""
    client = mlflow.MlflowClient()
    deadline = time.monotonic() + wait_seconds
    shown = ""
    while True:
        try:
            client.set_registered_model_alias(name, ALIAS, version)
        except MlflowException as exc:
            # Large files are read once more before an approved change is made.
            is_reading = "DIGESTING: " in exc.message
            if not is_reading and "APPROVAL_REQUIRED: " not in exc.message:
                print(exc.message, file=sys.stderr)
                return REFUSED
        else:
            print(f"@{ALIAS} of {name} is version {version}")
            return DONE
        # The state is one cheap read; the promotion itself is tried again when it has changed.
        while True:
            state = client.get_model_version(name, version).tags.get(STATE, "")
            if state != shown:
                print(f"{STATE} = {state}", flush=True)
                shown = state
            if state.startswith("APPROVED") and not is_reading:
                break
            if not state.startswith(("PENDING", "APPROVED")):
                return REFUSED
            if time.monotonic() > deadline:
                print("the request is not decided yet; run this again later", file=sys.stderr)
                return STILL_WAITING
            time.sleep(min(2.0, max(0.1, wait_seconds / 100)))
            if is_reading:
                break


def watch(name: str, data: str, target: str, at_least: float) -> int:
    """Score what production serves on fresh data; where it fails, go back to what it replaced."""
    client = mlflow.MlflowClient()
    current = client.get_model_version_by_alias(name, ALIAS).version
    accuracy = score(f"models:/{name}@{ALIAS}", data, target)
    print(f"version {current}: accuracy {accuracy:.3f}")
    if accuracy >= at_least:
        return DONE
    replaced = f"REPLACED by version {current}"
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get(STATE) == replaced:
            # The policy lets every user go back to an approved, unchanged holder at once.
            client.set_registered_model_alias(name, ALIAS, version.version)
            print(f"@{ALIAS} of {name} is version {version.version} again")
            return ROLLED_BACK
    print(f"version {current} has replaced nothing that could be gone back to", file=sys.stderr)
    return REFUSED


def duration(text: str) -> float:
    """Read 30s, 15m, 24h or 2d."""
    return float(text[:-1]) * SECONDS[text[-1]]


def main() -> int:
    """Run one step and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    registering = steps.add_parser("register")
    registering.add_argument("run_id")
    registering.add_argument("name")
    testing = steps.add_parser("test")
    testing.add_argument("name")
    testing.add_argument("version")
    promoting = steps.add_parser("promote")
    promoting.add_argument("name")
    promoting.add_argument("version")
    promoting.add_argument("--wait", type=duration, default=0.0, metavar="DURATION")
    watching = steps.add_parser("watch")
    watching.add_argument("name")
    for step in (testing, watching):
        step.add_argument("--data", required=True, metavar="CSV")
        step.add_argument("--target", required=True, metavar="COLUMN")
        step.add_argument("--at-least", type=float, default=0.9, metavar="ACCURACY")
    arguments = parser.parse_args()
    if arguments.step == "register":
        return register(arguments.run_id, arguments.name)
    if arguments.step == "test":
        return test(
            arguments.name,
            arguments.version,
            arguments.data,
            arguments.target,
            arguments.at_least,
        )
    if arguments.step == "watch":
        return watch(arguments.name, arguments.data, arguments.target, arguments.at_least)
    return promote(arguments.name, arguments.version, arguments.wait)


if __name__ == "__main__":
    sys.exit(main())
