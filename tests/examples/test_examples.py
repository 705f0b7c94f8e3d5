"""Every example does what its README says, against real servers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from tests.support import servers

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = Path(sys.executable).parent
PASSWORD = "correct-horse-battery"


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


def test_single_user(tmp_path: Path) -> None:
    done = run(sys.executable, str(EXAMPLES / "single-user" / "train.py"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    stored, read = done.stdout.strip().splitlines()
    first, second = (int(word) for word in stored.replace(",", "").split() if word.isdigit())
    assert second < first / 2
    assert f"read {(tmp_path / 'wine.csv').resolve().as_uri()} sha256:" in read
    run_id = read.split()[1]
    shown = run(
        "mlflow-pack",
        "lineage",
        "show",
        run_id,
        folder=tmp_path,
        MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path / 'mlflow.db'}",
    )
    assert shown.returncode == 0, shown.stderr
    assert "wine.csv" in shown.stdout
    size = run(
        "mlflow-pack", "artifacts", "du", f"cas-file://{tmp_path / 'artifacts'}", folder=tmp_path
    )
    assert size.returncode == 0, size.stderr


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
            script = str(example / "log_a_run.py")
            settings = {"MLFLOW_TRACKING_URI": url, "MLFLOW_PACK_AUTH_CONFIG": str(profile)}
            done = run(sys.executable, script, folder=tmp_path, **settings)
            assert done.returncode == 0, done.stderr
            assert "answer 42, note: signed in" in done.stdout

            status = run("mlflow-pack", "auth", "status", folder=tmp_path, **settings)
            assert status.returncode == 0, status.stderr
            assert "first-token" not in status.stdout + status.stderr

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
    script = str(EXAMPLES / "register-test-promote" / "pipeline.py")

    def as_user(name: str) -> dict[str, str]:
        profile = write_profile(tmp_path / "people", team.url, name)
        return {"MLFLOW_TRACKING_URI": team.url, "MLFLOW_PACK_AUTH_CONFIG": str(profile)}

    training = run(
        sys.executable,
        "-c",
        "import mlflow; from mlflow.models import infer_signature\n"
        "from sklearn.datasets import load_wine\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import StandardScaler\n"
        "wine = load_wine(as_frame=True).frame\n"
        "wine.sample(frac=0.3, random_state=1).to_csv('held_out.csv', index=False)\n"
        "x, y = wine.drop(columns='target'), wine['target']\n"
        "model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)\n"
        "with mlflow.start_run() as run:\n"
        "    mlflow.sklearn.log_model(model, name='model', signature=infer_signature(x, y),\n"
        "                             pip_requirements=['scikit-learn'])\n"
        "print(run.info.run_id)",
        folder=tmp_path,
        **as_user("alice"),
    )
    assert training.returncode == 0, training.stderr
    run_id = training.stdout.strip().splitlines()[-1]

    registered = run(
        sys.executable, script, "register", run_id, "pricing", folder=tmp_path, **as_user("alice")
    )
    assert registered.returncode == 0, registered.stderr
    assert registered.stdout.strip().splitlines()[-1] == "1"

    testing = [sys.executable, script, "test", "pricing", "1", "--data", "held_out.csv"]
    testing += ["--target", "target"]
    failed = run(*testing, "--at-least", "1.01", folder=tmp_path, **as_user("svc-ci"))
    assert failed.returncode == 1, failed.stderr
    tested = run(*testing, folder=tmp_path, **as_user("svc-ci"))
    assert tested.returncode == 0, tested.stderr

    waiting = run(
        sys.executable, script, "promote", "pricing", "1", folder=tmp_path, **as_user("svc-ci")
    )
    assert waiting.returncode == 3, waiting.stdout + waiting.stderr

    results: list[subprocess.CompletedProcess[str]] = []
    promoting = threading.Thread(
        target=lambda: results.append(
            run(
                sys.executable,
                script,
                "promote",
                "pricing",
                "1",
                "--wait",
                "60s",
                folder=tmp_path,
                **as_user("svc-ci"),
            )
        )
    )
    promoting.start()
    with servers.credentials("bob", PASSWORD):
        mlflow.MlflowClient(tracking_uri=team.url).set_model_version_tag(
            "pricing", "1", "approvals.approve", "prod: metrics hold"
        )
    promoting.join()
    assert results[0].returncode == 0, results[0].stdout + results[0].stderr
    assert results[0].stdout.strip().endswith("@prod of pricing is version 1")

    # Version 2 fails on fresh data, and the pipeline goes back to version 1 without an approval.
    client = mlflow.MlflowClient(tracking_uri=team.url)
    with servers.credentials("alice", PASSWORD):
        client.copy_model_version("models:/pricing/1", "pricing")
    with servers.credentials("svc-ci", PASSWORD):
        client.set_model_version_tag("pricing", "2", "approvals.request", "prod: better")
    with servers.credentials("bob", PASSWORD):
        client.set_model_version_tag("pricing", "2", "approvals.approve", "prod: looked fine")
        client.set_registered_model_alias("pricing", "prod", "2")
    watch = [sys.executable, script, "watch", "pricing", "--data", "held_out.csv"]
    watch += ["--target", "target", "--at-least", "1.01"]
    failing = run(*watch, folder=tmp_path, **as_user("svc-ci"))
    assert failing.returncode == 4, failing.stdout + failing.stderr
    assert failing.stdout.strip().endswith("@prod of pricing is version 1 again")
