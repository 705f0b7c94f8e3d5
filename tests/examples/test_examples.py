"""Every example does what its README says, against real servers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from tests.site.support import pages
from tests.site.support.reader import Reader
from tests.support import servers

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = Path(sys.executable).parent
PASSWORD = "correct-horse-battery"
TRAIN = """
from pathlib import Path

import mlflow
from mlflow.models import infer_signature
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

labelled = load_wine(as_frame=True).frame.rename(columns={"target": "is_fraud"})
for name in ("held_out.csv", "fresh.csv"):
    labelled.sample(frac=0.3, random_state=1).to_csv(name, index=False)
x, y = labelled.drop(columns="is_fraud"), labelled["is_fraud"]
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
with mlflow.start_run() as run:
    mlflow.sklearn.log_model(
        model, name="model", signature=infer_signature(x, y), pip_requirements=["scikit-learn"]
    )
Path("run_id").write_text(run.info.run_id)
"""


def run(
    *command: str, folder: Path, seconds: float = 240, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command as a person would, in a clean environment."""
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env=servers.clean_environment(PATH=path, MLFLOW_DISABLE_TELEMETRY="true", **environment),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def write_profile(folder: Path, url: str, name: str) -> Path:
    """Write a sign-in profile for a basic-auth user."""
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / f"{name}.password"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    profile = folder / f"{name}.toml"
    profile.write_text(
        f'[profile.team]\nhosts = ["{url}"]\nsource = "basic"\nusername = "{name}"\n'
        f'password = {{ file = "{secret}" }}\n'
    )
    profile.chmod(0o600)
    return profile


def test_each_example_with_commands_is_followed() -> None:
    followed = {"single-user", "protected-server", "register-test-promote"}
    assert {page.parent.name for page in pages.examples()} == followed


def test_single_user(tmp_path: Path) -> None:
    folder = tmp_path / "single-user"
    shutil.copytree(EXAMPLES / "single-user", folder)
    here = pages.places(servers.free_port())
    with Reader(folder, here, pages.terminal(folder)) as reader:
        reader.follow(EXAMPLES / "single-user" / "README.md")
    printed, used_by = reader.outputs
    stored, read = printed.strip().splitlines()[-2:]
    first, second = (int(word) for word in stored.replace(",", "").split() if word.isdigit())
    assert second < first / 2
    assert f"read {(folder / 'wine.csv').resolve().as_uri()} sha256:" in read
    assert read.split()[1] in used_by


def test_team_server(
    tmp_path: Path,
    postgresql: servers.DatabaseServer,
    moto: servers.ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    example = tmp_path / "team-server"
    shutil.copytree(EXAMPLES / "team-server", example)
    port = servers.free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {
        **moto.environment,
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
        "DATABASE_URL": postgresql.new_database(),
        "ARTIFACTS": moto.new_root(),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "only-for-tests",
        "MLFLOW_AUTH_CONFIG_PATH": str(example / "basic_auth.ini"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    log = tmp_path / "log"
    with servers.running(
        ["./start.sh", "--host", "127.0.0.1", "--port", str(port), "--workers", "2"],
        log=log,
        ready=lambda: servers.accepts_connections(port) and servers.answers_http(f"{url}/health"),
        environment=servers.clean_environment(**settings),
        folder=example,
    ) as process:
        server = servers.MlflowServer(url, log, process)
        monkeypatch.setattr(servers, "ADMIN", ("admin", "change-me-before-use"))
        for name in ("alice", "bob"):
            servers.create_user(server, name, PASSWORD)
        client = mlflow.MlflowClient(tracking_uri=url)
        with servers.credentials("alice", PASSWORD):
            client.create_registered_model("pricing")
            run_id = client.create_run(client.create_experiment("pricing")).info.run_id
            client.log_text(run_id, "weights", "model/weights.txt")
            source = f"{client.get_run(run_id).info.artifact_uri}/model"
            client.create_model_version("pricing", source, run_id)
            with pytest.raises(mlflow.MlflowException, match="APPROVAL_REQUIRED: "):
                client.set_registered_model_alias("pricing", "prod", "1")
        with servers.credentials("bob", PASSWORD):
            client.set_model_version_tag("pricing", "1", "approvals.approve", "prod: reviewed")
        with servers.credentials("alice", PASSWORD):
            client.set_registered_model_alias("pricing", "prod", "1")
            assert client.get_model_version_by_alias("pricing", "prod").version == "1"


def test_protected_server(tmp_path: Path) -> None:
    nginx = servers.find_program("nginx", "nginx")
    example = tmp_path / "protected-server"
    shutil.copytree(EXAMPLES / "protected-server", example)
    (example / "token.map").write_text('"Bearer first-token" 1;\n')
    port = servers.free_port()
    url = f"http://127.0.0.1:{port}"
    token = example / "token"
    token.write_text("first-token\n")
    profile = example / "auth.toml"
    profile.write_text(
        profile.read_text()
        .replace("https://mlflow.example.com", url)
        .replace("/var/run/secrets/mlflow/token", str(token))
    )
    for private in (token, profile):
        private.chmod(0o600)

    with servers.mlflow_server(tmp_path / "mlflow") as server:
        here = {"https://mlflow.example.com": url}
        configuration = example / "nginx.conf"
        configuration.write_text(
            configuration.read_text()
            .replace("PROXY_PORT", str(port))
            .replace("MLFLOW_PORT", server.url.rsplit(":", 1)[1])
        )
        with servers.running(
            [nginx, "-p", f"{example}/", "-c", str(configuration), "-e", "error.log"],
            log=tmp_path / "nginx.log",
            ready=lambda: servers.accepts_connections(port),
        ):
            with Reader(example, here, pages.terminal(example)) as reader:
                reader.follow(EXAMPLES / "protected-server" / "README.md")
            assert "answer 42, note: signed in" in reader.outputs[0]
            assert "first-token" not in reader.outputs[0]

            script = str(example / "log_a_run.py")
            without = run(sys.executable, script, folder=tmp_path, MLFLOW_TRACKING_URI=url)
            assert without.returncode != 0
            assert "401" in without.stderr


@pytest.fixture
def team(tmp_path: Path) -> Iterator[servers.MlflowServer]:
    """A server that enforces a policy, with a trainer, a CI user and an approver."""
    policy = tmp_path / "policy.yaml"
    policy.write_text((EXAMPLES / "team-server" / "policy.yaml").read_text())
    folder = tmp_path / "server"
    with servers.mlflow_server(
        folder,
        registry=f"approval-sqlite:///{folder / 'mlflow.db'}",
        artifacts=f"cas-file://{folder / 'artifacts'}",
        app_name="basic-auth",
        MLFLOW_PACK_APPROVALS_POLICY=str(policy),
    ) as server:
        for name in ("alice", "bob", "svc-ci"):
            servers.create_user(server, name, PASSWORD)
        yield server


def test_register_test_promote(tmp_path: Path, team: servers.MlflowServer) -> None:
    example = tmp_path / "register-test-promote"
    shutil.copytree(EXAMPLES / "register-test-promote", example)
    people = {
        name: {"MLFLOW_PACK_AUTH_CONFIG": str(write_profile(tmp_path / "people", team.url, name))}
        for name in ("alice", "bob", "svc-ci")
    }
    terminal = pages.terminal(example, MLFLOW_TRACKING_URI=team.url)
    with Reader(example, {}, terminal, people) as reader:
        reader.run_as("alice", TRAIN)
        reader.environment["RUN_ID"] = (example / "run_id").read_text()
        reader.follow(EXAMPLES / "register-test-promote" / "README.md")
    assert "@prod of fraud-eu is version 1" in reader.outputs[-2]

    # A version that fails a test is marked as failed. One that fails on fresh data in production
    # is taken back, and the one before it serves again, without an approval.
    def step(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = (sys.executable, "pipeline.py", *arguments, "--data", "held_out.csv")
        settings = {"MLFLOW_TRACKING_URI": team.url, **people["svc-ci"]}
        return run(*command, "--target", "is_fraud", folder=example, **settings)

    client = mlflow.MlflowClient(tracking_uri=team.url)
    with servers.credentials("alice", PASSWORD):
        client.copy_model_version("models:/fraud-eu/1", "fraud-eu")
    failed = step("test", "fraud-eu", "2", "--at-least", "1.01")
    assert failed.returncode == 1, failed.stderr
    with servers.credentials("svc-ci", PASSWORD):
        client.set_model_version_tag("fraud-eu", "2", "approvals.request", "prod: better")
    with servers.credentials("bob", PASSWORD):
        client.set_model_version_tag("fraud-eu", "2", "approvals.approve", "prod: looked fine")
        client.set_registered_model_alias("fraud-eu", "prod", "2")
    failing = step("watch", "fraud-eu", "--at-least", "1.01")
    assert failing.returncode == 4, failing.stdout + failing.stderr
    assert failing.stdout.strip().endswith("@prod of fraud-eu is version 1 again")
