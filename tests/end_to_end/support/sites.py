"""Servers of every kind, and the main job on them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.end_to_end.support.main_job import PEOPLE, POLICY
from tests.support.servers import (
    ADMIN,
    PASSWORD,
    MlflowServer,
    clean_environment,
    create_user,
    make_sign_in_cheap,
    mlflow_server,
)

HERE = Path(__file__).parent


WORKSPACE = "tumour-team"


@dataclass(frozen=True)
class Deployment:
    """One combination.

    Attributes:
        database: ``sqlite``, ``postgresql`` or ``mariadb``; backend and registry alike.
        artifacts: ``file``, ``s3``, ``gs`` or ``wasbs``.
        is_direct: Clients write to the artifact store themselves.
        has_workspaces: The server runs with ``--enable-workspaces``.
        workers: Worker processes.
        options: Further options of ``mlflow server``.
    """

    database: str = "sqlite"
    artifacts: str = "file"
    is_direct: bool = False
    has_workspaces: bool = False
    workers: int = 1
    options: tuple[str, ...] = field(default=())


@contextlib.contextmanager
def started(
    deployment: Deployment, folder: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[MlflowServer, dict[str, str]]]:
    """Start a deployment; give its server and what a client's environment needs."""
    backend = request.getfixturevalue("mlflow_database")(deployment.database, folder)
    store_environment: dict[str, str] = {}
    if deployment.artifacts == "file":
        root = f"cas-file://{folder / 'artifacts'}"
    else:
        store = request.getfixturevalue(
            {"s3": "moto", "gs": "gcs", "wasbs": "azurite"}[deployment.artifacts]
        )
        store_environment = store.environment
        root = f"cas-{store.new_root()}"
    policy = folder / "policy.yaml"
    policy.write_text(POLICY)
    options = [*deployment.options, *(["--enable-workspaces"] if deployment.has_workspaces else [])]
    place = {"default_artifact_root": root} if deployment.is_direct else {"artifacts": root}
    with mlflow_server(
        folder,
        backend=backend,
        registry=f"approval-{backend}",
        app_name="basic-auth",
        workers=deployment.workers,
        options=options,
        MLFLOW_PACK_APPROVALS_POLICY=str(policy),
        **place,
        **store_environment,
    ) as server:
        for name in PEOPLE:
            create_user(server, name, PASSWORD)
        make_sign_in_cheap(folder)
        client_environment = {
            "MLFLOW_TRACKING_URI": server.url,
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        }
        if deployment.is_direct:
            client_environment |= store_environment
        if deployment.has_workspaces:
            open_workspace(server)
            client_environment["MAIN_JOB_WORKSPACE"] = WORKSPACE
        yield server, client_environment


def open_workspace(server: MlflowServer) -> None:
    """Create the team's workspace and let the people in."""
    ask_as_admin(server, "workspaces", name=WORKSPACE)
    role = ask_as_admin(server, "roles/create", workspace=WORKSPACE, name="team")["role"]["id"]
    ask_as_admin(
        server,
        "roles/permissions/add",
        role_id=role,
        resource_type="workspace",
        resource_pattern="*",
        permission="MANAGE",
    )
    for name in PEOPLE:
        ask_as_admin(server, "roles/assign", username=name, role_id=role)


def ask_as_admin(server: MlflowServer, path: str, **body: Any) -> dict[str, Any]:
    """Send a request for which MLflow's client would import its whole server."""
    answer = requests.post(f"{server.url}/api/3.0/mlflow/{path}", json=body, auth=ADMIN, timeout=60)
    assert answer.ok, f"{path}: {answer.text}"
    answered: dict[str, Any] = answer.json()
    return answered


def run_main_job(
    folder: Path, data: tuple[Path, Path], environment: dict[str, str]
) -> dict[str, Any]:
    """Run the job in a process of its own and return what it made."""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error::UserWarning:mlflow_plugins_pack",
            HERE / "main_job.py",
            *data,
        ],
        env=clean_environment(
            MLFLOW_DISABLE_TELEMETRY="true",
            MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
            **environment,
        ),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made
