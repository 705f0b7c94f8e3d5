"""A whole MLflow site in one folder: data, users, configuration and one stock server process."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

START_SECONDS = 120

PEOPLE = {
    "alice": "trains models",
    "svc-ci": "runs the tests",
    "bob": "approves for ml-leads",
    "carol": "approves for risk",
}
ADMIN = "admin"


class DemoError(Exception):
    """A step did not do what it says."""


class Site:
    """The demo's folder and server.

    Attributes:
        folder: the folder of all files of the site.
        url: The server's address.
        artifacts: The artifact store's folder.
        measurements: CSV file that training reads.
        diagnoses: Parquet file that training reads.
        registry_uri: The registry's database, as the server opens it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.artifacts = folder / "artifacts"
        self.measurements = folder / "data" / "measurements.csv"
        self.diagnoses = folder / "data" / "diagnoses.parquet"
        self.registry_uri = f"approval-sqlite:///{folder / 'mlflow.db'}"
        self.log = folder / "server.log"
        self._port = _free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._server: subprocess.Popen[bytes] | None = None

    def write_files(self) -> None:
        """Write the data, the policy, and a password and a sign-in profile for each person."""
        # Imported here: slow, and only the demo needs them.
        from sklearn.datasets import load_breast_cancer

        self.measurements.parent.mkdir(parents=True)
        self.artifacts.mkdir()
        bunch = load_breast_cancer(as_frame=True)
        frame = bunch.frame.rename_axis(index="patient").rename(columns={"target": "benign"})
        frame.drop(columns="benign").to_csv(self.measurements)
        frame[["benign"]].reset_index().to_parquet(self.diagnoses)

        shutil.copy(str(resources.files(__package__) / "policy.yaml"), self.folder / "policy.yaml")
        for name in (ADMIN, *PEOPLE):
            self._write_profile(name)
        # A copy of her own: what the pack's own modules read is not lineage.
        script = str(resources.files(__package__) / "train.py")
        shutil.copy(script, self.folder / "people" / "alice" / "train.py")
        (self.folder / "basic_auth.ini").write_text(
            "[mlflow]\n"
            "default_permission = EDIT\n"
            # By default MLflow checks the slow password hash for each request.
            "auth_cache_ttl_seconds = 60\n"
            f"database_uri = sqlite:///{self.folder / 'users.db'}\n"
            f"admin_username = {ADMIN}\n"
            f"admin_password = {self.password_of(ADMIN)}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )

    def _write_profile(self, name: str) -> None:
        home = self.folder / "people" / name
        home.mkdir(parents=True)
        _write_private(home / "password", secrets.token_urlsafe(12))
        _write_private(
            self.profile_of(name),
            "[profile.demo]\n"
            f'hosts = ["{self.url}"]\n'
            'source = "basic"\n'
            f'username = "{name}"\n'
            f'password = {{ file = "{home / "password"}" }}\n',
        )

    def profile_of(self, name: str) -> Path:
        """Return a person's sign-in profile file."""
        return self.folder / "people" / name / "auth.toml"

    def password_of(self, name: str) -> str:
        """Return a person's password."""
        return (self.folder / "people" / name / "password").read_text()

    def environment_of(self, name: str) -> dict[str, str]:
        """Return the environment of a person's processes: who signs in, and where."""
        return clean_environment(
            MLFLOW_TRACKING_URI=self.url, MLFLOW_PACK_AUTH_CONFIG=str(self.profile_of(name))
        )

    def start_server(self) -> None:
        """Start the stock server without waiting for it; it takes some seconds."""
        command = [sys.executable, "-m", "mlflow", "server"]
        command += ["--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--registry-store-uri", self.registry_uri]
        command += ["--artifacts-destination", f"cas-file://{self.artifacts}"]
        command += ["--app-name", "approvals-basic-auth"]
        with self.log.open("ab") as output:
            self._server = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=clean_environment(
                    MLFLOW_PACK_APPROVALS_POLICY=str(self.folder / "policy.yaml"),
                    MLFLOW_PACK_REVIEW_URL=self.url,
                    MLFLOW_AUTH_CONFIG_PATH=str(self.folder / "basic_auth.ini"),
                    MLFLOW_FLASK_SERVER_SECRET_KEY=secrets.token_urlsafe(16),
                    # The demo submits no server-side jobs: their runner only slows the start.
                    MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
                ),
                start_new_session=True,
            )

    def wait_for_server(self) -> None:
        """Wait until the server answers.

        Raises:
            DemoError: If it ended or took too long; with the end of its log.
        """
        if self._server is None:
            raise DemoError("the server was not started")
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._server.poll() is not None:
                raise DemoError(f"the server ended at once:\n{self._log_tail()}")
            if _is_healthy(self.url):
                return
            time.sleep(0.1)
        raise DemoError(f"the server did not answer in {START_SECONDS} s:\n{self._log_tail()}")

    def create_people(self) -> None:
        """Create the users, signed in as the admin through the auth plugin."""
        # Not MLflow's AuthServiceClient: it lives in the server's package, slow to import.
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request, verify_rest_response

        endpoint = "/api/2.0/mlflow/users/create"
        for name in PEOPLE:
            answer = http_request(
                host_creds=get_default_host_creds(self.url),
                endpoint=endpoint,
                method="POST",
                json={"username": name, "password": self.password_of(name)},
            )
            verify_rest_response(answer, endpoint)

    def refuses_strangers(self) -> bool:
        """Return whether a request without credentials is answered with 401."""
        try:
            urllib.request.urlopen(  # noqa: S310 - http, to our own server
                f"{self.url}/api/2.0/mlflow/experiments/get?experiment_id=0", timeout=30
            ).close()
        except urllib.error.HTTPError as exc:
            return exc.code == 401
        return False

    def file_request(self, model: str, version: int, target: str) -> str:
        """Have alice ask for approval on the review app, and return the page of her request."""
        api = f"{self.url}/approvals/api/v1/requests"
        body = {"model": model, "version": version, "target": target, "comment": "Trained again."}
        credentials = f"alice:{self.password_of('alice')}".encode()
        request = urllib.request.Request(  # noqa: S310 - http, to our own server
            api,
            data=json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Basic {base64.b64encode(credentials).decode()}",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                request_id = json.load(answer)["id"]
        except urllib.error.HTTPError as exc:
            raise DemoError(f"the request was refused: {exc.read().decode()}") from exc
        return f"{self.url}/approvals/requests/{request_id}"

    def stop(self) -> None:
        """Stop the server and everything it started."""
        if self._server is None:
            return
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._server.pid, signal_number)
                self._server.wait(10)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue

    def wait_until_interrupted(self) -> None:
        """Block while the server runs, until Ctrl-C."""
        if self._server is not None:
            try:
                self._server.wait()
            except KeyboardInterrupt:
                return

    def stored_bytes(self) -> int:
        """Return how many bytes the artifact store takes on disk."""
        return sum(path.stat().st_size for path in self.artifacts.rglob("*") if path.is_file())

    def packs(self) -> list[Path]:
        """Return the files that hold the chunks of what was logged."""
        return [path for path in self.artifacts.glob(".cas/packs/*/*") if path.is_file()]

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


def clean_environment(**settings: str) -> dict[str, str]:
    """Return this environment without the person's own MLflow settings, plus the given ones."""
    kept: Mapping[str, str] = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_", "_MLFLOW_"))
    }
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", "NO_PROXY": "127.0.0.1", **settings}


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:  # noqa: S310 - http
            return bool(answer.status == 200)
    except OSError:
        return False
