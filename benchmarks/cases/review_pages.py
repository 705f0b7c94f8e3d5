"""Measures how long the review app's pages take with 10,000 open requests and 100,000 runs.

Stock MLflow with basic-auth, the review app next to it, a reviewer with READ; all of it over
loopback. Only the rows are inserted, by `benchmarks.review_rows`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.frame import Options, Survey
from benchmarks.lineage_rows import entry
from benchmarks.review_rows import WITH_FILES, Filled, fill

MODELS, REQUESTS, RUNS = 1_000, 10_000, 100_000
ROUNDS = 21


def _run(options: Options, _only: str) -> str:
    import requests
    import sqlalchemy

    from mlflow_plugins_pack.lineage.query import indexes
    from tests.approvals.support import review_sites

    models, asked, runs = (options.count(n) for n in (MODELS, REQUESTS, RUNS))
    lines = ["| page | median | slowest | bytes |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory(prefix="review-", dir=options.work) as name:
        folder = Path(name)
        database = f"sqlite:///{folder / 'mlflow.db'}"
        registry = f"approval-{database}"
        with review_sites.served_mlflow(folder, registry) as mlflow:
            options.progress(f"{runs} runs are inserted")
            made = fill(database, folder / "artifacts", models=models, requests=asked, runs=runs)
            indexes.install(sqlalchemy.create_engine(database))
            with review_sites.review_app(folder, mlflow, registry) as url:
                session = requests.Session()
                session.trust_env = False
                session.auth = review_sites.password_of("bob")
                for page, paths in _pages(made).items():
                    seconds, size = [], 0
                    for number in range(ROUNDS + 1):
                        path = paths[number % len(paths)]
                        began = time.perf_counter()
                        answer = session.get(f"{url}/approvals{path}", timeout=120)
                        seconds.append(time.perf_counter() - began)
                        size = len(answer.content)
                        if answer.status_code != requests.codes.ok:
                            raise RuntimeError(f"{path} answered {answer.status_code}")
                    del seconds[0]  # the first visit loads templates
                    middle, most = statistics.median(seconds), max(seconds)
                    lines.append(
                        f"| {page} | {middle * 1000:.0f} ms | {most * 1000:.0f} ms | {size} |"
                    )
                    options.progress(lines[-1])
    return (
        f"{asked} open requests, {models} models, {runs} runs, SQLite with the indexes of "
        "`mlflow-pack lineage index`, basic-auth, one process of each server\n\n" + "\n".join(lines)
    )


def _pages(made: Filled) -> dict[str, list[str]]:
    """Return the paths of each page, other ones in each round."""
    return {
        "Inbox, waiting for me": ["/"],
        "Inbox, all open": ["/?view=open"],
        "Inbox, history": ["/?view=history"],
        "Request": [f"/requests/{request}" for request in made.requests],
        "Models": ["/models"],
        "Model": [f"/models/model?name={name}" for name in made.models[:WITH_FILES]],
        "Lineage of a version": [
            f"/lineage?target=models:/{name}/2" for name in made.models[:WITH_FILES]
        ],
        "Lineage of a file": [
            f"/lineage?target={entry('train', number * 7).uri}" for number in range(WITH_FILES)
        ],
        "Audit log": ["/audit"],
        "Policy": [f"/policy?model={name}" for name in made.models[:WITH_FILES]],
    }


SURVEY = Survey("review-pages", "the review app's pages with 10,000 open requests", _run)
