"""The main job against every kind of server, database and artifact store that the pack serves.

Not the full product: each value of each dimension is in at least one combination.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.support.data import write_breast_cancer
from tests.end_to_end.support.sites import (
    Deployment,
    run_main_job,
    started,
)

DEPLOYMENTS = {
    # One worker, since it runs on the oldest MLflow too: there, the workers of a basic-auth server
    # collide when they make its database.
    "uvicorn, SQLite, local folder": Deployment(),
    "gunicorn, SQLite, local folder": Deployment(
        workers=2, options=("--gunicorn-opts", "--timeout 120")
    ),
    "PostgreSQL, S3": Deployment("postgresql", "s3", workers=2),
    "MariaDB, Azure Blob": Deployment("mariadb", "wasbs"),
    "MariaDB, S3 direct": Deployment("mariadb", "s3", is_direct=True),
    "SQLite, Google Cloud Storage": Deployment(artifacts="gs"),
    "SQLite, local folder direct": Deployment(is_direct=True),
    "SQLite, workspaces": Deployment(has_workspaces=True),
    "PostgreSQL, workspaces, S3": Deployment("postgresql", "s3", has_workspaces=True, workers=2),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_breast_cancer(tmp_path_factory.mktemp("data"))


_COMPAT = "uvicorn, SQLite, local folder"
# Each of their values is in another combination, too.
_NIGHTLY = {"PostgreSQL, S3", "SQLite, local folder direct", "SQLite, workspaces"}


def _marks(name: str) -> list[pytest.MarkDecorator]:
    if name == _COMPAT:
        return [pytest.mark.compat]
    return [pytest.mark.nightly] if name in _NIGHTLY else []


@pytest.mark.parametrize("name", [pytest.param(n, marks=_marks(n)) for n in DEPLOYMENTS])
def test_main_job(
    name: str, tmp_path: Path, data: tuple[Path, Path], request: pytest.FixtureRequest
) -> None:
    site = DEPLOYMENTS[name]
    with started(site, tmp_path, request) as (server, environment):
        made = run_main_job(tmp_path, data, environment)
        text = server.log.read_text(errors="replace")
    assert made["artifact_uri"].startswith("cas-" if site.is_direct else "mlflow-artifacts:")
    assert "Traceback" not in text, text[-5000:]
    assert not list(tmp_path.rglob("mlruns")), "something was written outside the server's store"
