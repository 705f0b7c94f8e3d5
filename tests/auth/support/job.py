"""A stock training job, with nothing in it about signing in.

``python -m tests.auth.support.job SECONDS THREADS`` logs in every way there is, for so
long, and ends with 1 at the first error.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow import MlflowClient

_queue_in_use = threading.Lock()
"""In stock MLflow the threads of a process share one queue for asynchronous logging, and the end of
any run shuts it down: a thread that has something in it then may wait for ever."""


def work(deadline: float, name: str, folder: Path) -> int:
    """Do runs until the deadline; return how many."""
    client = MlflowClient()
    data = folder / f"{name}.bin"
    data.write_bytes(os.urandom(300_000))
    model = f"model-{name}"
    client.create_registered_model(model)
    rounds = 0
    while time.monotonic() < deadline or rounds == 0:
        run = client.create_run("0", run_name=name)
        run_id = run.info.run_id
        client.log_param(run_id, "p", rounds)
        for step in range(5):
            client.log_metric(run_id, "m", step * 0.5, step=step)
        with _queue_in_use:
            waiting = [
                client.log_metric(run_id, "async", step, step=step, synchronous=False)
                for step in range(5)
            ]
            for operation in waiting:
                operation.wait()
        client.log_artifact(run_id, str(data), "a")
        path = client.download_artifacts(run_id, f"a/{data.name}", str(folder))
        assert Path(path).read_bytes() == data.read_bytes()
        assert len(client.get_metric_history(run_id, "async")) == 5
        client.create_model_version(model, f"{run.info.artifact_uri}/a", run_id)
        client.set_registered_model_alias(model, "latest-good", "1")
        assert client.search_model_versions(f"name = '{model}'")
        with _queue_in_use:
            client.set_terminated(run_id)
        rounds += 1
    return rounds


def train() -> None:
    """Autolog one small model and one trace."""
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import LinearRegression

    # Without the model, whose requirements take longer to find than the job lasts.
    mlflow.sklearn.autolog(silent=True, log_models=False)
    features, target = load_diabetes(return_X_y=True)
    with _queue_in_use, mlflow.start_run():
        LinearRegression().fit(features, target)

    @mlflow.trace
    def predict(value: int) -> int:
        return value + 1

    predict(1)
    mlflow.flush_trace_async_logging()
    mlflow.flush_artifact_async_logging()


def main() -> None:
    seconds, threads = float(sys.argv[1]), int(sys.argv[2])
    deadline = time.monotonic() + seconds
    rounds: list[int] = []
    failed: list[str] = []

    with TemporaryDirectory() as name:

        def run(number: int) -> None:
            try:
                rounds.append(work(deadline, f"{os.getpid()}-{number}", Path(name)))
            except BaseException:
                failed.append(traceback.format_exc())

        workers = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        try:
            train()
        finally:
            for worker in workers:
                worker.join()
    sys.stdout.write(f"{sum(rounds)} rounds\n")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
