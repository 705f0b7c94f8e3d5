"""What storage refuses is said clearly: which storage, why, what to do."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.errors import (
    ConfigurationError,
    StorageCredentialsError,
    StorageDeniedError,
    StorageError,
    StorageMissingError,
    StorageUnavailableError,
)
from tests.support import servers
from tests.support.fault_proxy import Fault, fault_proxy

S3_ROOT = "cas-s3://no-such-bucket-here/mlflow"
GCS_ROOT = "cas-gs://no-such-bucket-here/mlflow"
AZURE_ROOT = "cas-wasbs://nowhere@devstoreaccount1.blob.core.windows.net/mlflow"


@pytest.fixture
def local_file(tmp_path: Path) -> str:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 50_000)
    return str(path)


def use(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def assert_refused(uri: str, local_file: str, kind: type[Exception], words: str) -> None:
    repository = get_artifact_repository(uri)
    for call in (lambda: repository.log_artifact(local_file), repository.list_artifacts):
        with pytest.raises(kind, match=words) as caught:
            call()
        assert caught.value.__cause__ is not None
        assert "Traceback" not in str(caught.value)


def test_missing_bucket(moto, monkeypatch, local_file):
    use(monkeypatch, moto.environment)
    assert_refused(S3_ROOT, local_file, StorageMissingError, "no such bucket; create it first")


def test_s3_without_credentials(moto, monkeypatch, local_file):
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", moto.environment["MLFLOW_S3_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert_refused(S3_ROOT, local_file, StorageCredentialsError, "AWS_ACCESS_KEY_ID")


def test_s3_that_does_not_answer(monkeypatch, local_file):
    from mlflow_plugins_pack.artifacts.backends import s3

    monkeypatch.setattr(s3, "_ATTEMPTS", 1)
    environment = {
        "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{servers.free_port()}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    use(monkeypatch, environment)
    assert_refused(S3_ROOT, local_file, StorageUnavailableError, "endpoint")


@pytest.mark.parametrize("arguments", ["{", "[1]"])
def test_s3_upload_arguments_that_are_no_json_object(moto, monkeypatch, local_file, arguments):
    use(monkeypatch, {**moto.environment, "MLFLOW_S3_UPLOAD_EXTRA_ARGS": arguments})
    with pytest.raises(ConfigurationError, match="MLFLOW_S3_UPLOAD_EXTRA_ARGS"):
        get_artifact_repository(S3_ROOT).log_artifact(local_file)


def test_s3_upload_arguments_go_with_every_object(moto, monkeypatch, local_file):
    import boto3

    use(
        monkeypatch,
        {**moto.environment, "MLFLOW_S3_UPLOAD_EXTRA_ARGS": '{"ServerSideEncryption": "AES256"}'},
    )
    root = moto.new_root()
    get_artifact_repository(f"cas-{root}").log_artifact(local_file)
    client = boto3.client("s3", endpoint_url=moto.environment["MLFLOW_S3_ENDPOINT_URL"])
    bucket = root.split("/")[2]
    keys = [o["Key"] for o in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert len(keys) == 4
    for key in keys:
        assert client.head_object(Bucket=bucket, Key=key)["ServerSideEncryption"] == "AES256"


def test_missing_bucket_of_google(gcs, monkeypatch, local_file):
    use(monkeypatch, gcs.environment)
    assert_refused(GCS_ROOT, local_file, StorageMissingError, "no such bucket; create it first")


def test_google_with_unusable_credentials(monkeypatch, tmp_path, local_file):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    assert_refused(GCS_ROOT, local_file, StorageCredentialsError, "GOOGLE_APPLICATION_CREDENTIALS")


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, StorageCredentialsError, "does not accept these credentials"),
        (403, StorageDeniedError, "IAM roles"),
        (503, StorageUnavailableError, "slow down"),
    ],
)
def test_what_google_answers(gcs, monkeypatch, local_file, status, kind, words):
    from mlflow_plugins_pack.artifacts.backends import gs

    monkeypatch.setattr(gs, "_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(gs, "_BACKOFF_SECONDS", 0.01)
    with fault_proxy(gcs.environment["STORAGE_EMULATOR_HOST"]) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        proxy.faults += [Fault(str(status), method, "", times=-1) for method in ("GET", "POST")]
        assert_refused(GCS_ROOT, local_file, kind, words)


def test_google_settings_of_stock(gcs, monkeypatch, local_file, tmp_path):
    """Uploads in parts, downloads in parts, no limit of time."""
    use(monkeypatch, gcs.environment)
    monkeypatch.setenv("MLFLOW_GCS_UPLOAD_CHUNK_SIZE", str(1 << 18))
    monkeypatch.setenv("MLFLOW_GCS_DOWNLOAD_CHUNK_SIZE", str(1 << 18))
    monkeypatch.setenv("MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT", "-1")
    data = os.urandom(9 << 20)
    Path(local_file).write_bytes(data)
    repository = get_artifact_repository(f"cas-{gcs.new_root()}/1/{7:032x}/artifacts")
    repository.log_artifact(local_file)
    assert Path(repository.download_artifacts("f")).read_bytes() == data
    monkeypatch.setenv("MLFLOW_GCS_UPLOAD_CHUNK_SIZE", "1000")
    with pytest.raises(ConfigurationError, match="multiple of 262144 bytes"):
        repository.log_artifact(local_file)


def test_missing_library_names_the_extra(monkeypatch, local_file):
    for name in [name for name in sys.modules if name.startswith("google.cloud")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "mlflow_plugins_pack.artifacts.backends.gs", raising=False)
    monkeypatch.setitem(sys.modules, "google.cloud", None)
    assert_refused(GCS_ROOT, local_file, ConfigurationError, r"pip install '.*\[gs\]'")


def test_missing_container(azurite, monkeypatch, local_file):
    use(monkeypatch, azurite.environment)
    assert_refused(AZURE_ROOT, local_file, StorageMissingError, "no such container; create it")


def test_azure_with_a_wrong_key(azurite, monkeypatch, local_file):
    text = azurite.environment["AZURE_STORAGE_CONNECTION_STRING"]
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING", text.replace(servers.AZURITE_KEY, "d3Jvbmc=")
    )
    # Azurite answers AuthorizationFailure where Azure says AuthenticationFailed.
    assert_refused(AZURE_ROOT, local_file, StorageDeniedError, "AZURE_")


def test_azure_with_a_malformed_connection_string(monkeypatch, local_file):
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "nonsense")
    assert_refused(AZURE_ROOT, local_file, StorageCredentialsError, "malformed")


def test_file_where_the_store_should_be(tmp_path, local_file):
    with pytest.raises(StorageMissingError, match="file stands where a folder is needed"):
        get_artifact_repository(f"cas-file://{local_file}/store").log_artifact(local_file)


def test_name_too_long_for_the_disk(tmp_path, local_file):
    with pytest.raises(StorageError, match="longer than the file system allows"):
        get_artifact_repository(f"cas-file://{tmp_path}/{'x' * 300}").log_artifact(local_file)


@pytest.mark.skipif(os.geteuid() != 0, reason="as root the test drops to another user")
def test_unwritable_disk(tmp_path, local_file):
    """As an unprivileged user, since root may write anywhere."""
    locked = tmp_path / "locked"
    locked.mkdir(0o755)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o755)
    code = f"""
import os
import mlflow.store.artifact.artifact_repository_registry as registry
from mlflow_plugins_pack.artifacts import repository
from mlflow_plugins_pack.artifacts.backends import local
os.setegid(65534); os.seteuid(65534)
try:
    registry.get_artifact_repository("cas-file://{locked}/store").log_artifact({local_file!r})
except Exception as exc:
    print(type(exc).__name__, exc)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=servers.clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert StorageDeniedError.__name__ in done.stdout, done.stderr
    assert "grant access to the folder" in done.stdout
    assert list(locked.iterdir()) == []


def as_user(user: int, umask: int, code: str) -> str:
    """Run code as a user without rights of its own; returns what it prints."""
    prologue = f"""
import os
import mlflow.store.artifact.artifact_repository_registry as registry
from mlflow_plugins_pack.artifacts import reading, repository
from mlflow_plugins_pack.artifacts.backends import local
from mlflow_plugins_pack.artifacts.maintenance import fsck, gc, usage
from mlflow_plugins_pack.artifacts.store.opening import find_store
from mlflow_plugins_pack.artifacts.uri.location import parse_location
os.setegid(65534); os.seteuid({user}); os.umask({umask})
"""
    done = subprocess.run(
        [sys.executable, "-c", prologue + code],
        env=servers.clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user can reach; pytest keeps its own from others."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


LOG = """
import tempfile
path = tempfile.mkdtemp() + "/f"
open(path, "wb").write(os.urandom(100_000))
registry.get_artifact_repository({uri!r}).log_artifact(path)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="as root the test drops to other users")
@pytest.mark.parametrize("mode", [0o2775, 0o700])
def test_store_is_shared_as_its_root_is(shared, mode):
    """A process's umask neither shuts others out of one run nor opens a private store."""
    root = f"cas-file://{shared}/store"
    run = f"{root}/1/{7:032x}/artifacts"
    (shared / "store").mkdir()
    os.chown(shared / "store", 65533, 65534)
    (shared / "store").chmod(mode)
    as_user(65533, 0o077 if mode != 0o700 else 0, LOG.format(uri=run))
    found = list((shared / "store").rglob("*"))
    assert found
    for path in found:
        expected = mode & (0o2777 if path.is_dir() else 0o666)
        assert oct(stat.S_IMODE(path.stat().st_mode)) == oct(expected), path
    if mode == 0o2775:
        said = as_user(
            65532,
            0o077,
            LOG.format(uri=run.replace("7/artifacts", "8/artifacts"))
            + f"""
store = find_store(parse_location({root!r}))
print(len(list(usage.usage_by_scope(store))), fsck.check_store(store).problems)
gc.collect(store, 0)
print([f.path for f in registry.get_artifact_repository({run!r}).list_artifacts()])
""",
        )
        assert said == "2 []\n['f']\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="as root the test drops to other users")
def test_user_who_may_not_write_is_told_whose_folder_it_is(shared):
    root = f"cas-file://{shared}/store"
    (shared / "store").mkdir()
    os.chown(shared / "store", 65533, 65534)
    as_user(65533, 0o022, LOG.format(uri=f"{root}/1/{7:032x}/artifacts"))
    code = LOG.format(uri=f"{root}/1/{8:032x}/artifacts").strip()
    body = code.replace("\n", "\n    ")
    said = as_user(
        65532, 0o022, f"try:\n    {body}\nexcept Exception as exc: print(type(exc).__name__, exc)"
    )
    assert "StorageDeniedError" in said
    assert "belongs to 65533 and has the mode 755; grant access to the folder" in said


def test_full_disk(tmp_path, local_file, monkeypatch):
    """The one failure that is pretended: a full disk cannot be had without a file system."""
    import errno

    def write(handle: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    repository = get_artifact_repository(f"cas-file://{tmp_path}/store")
    repository.list_artifacts()
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(StorageUnavailableError, match="make room and try again"):
        repository.log_artifact(local_file)
    monkeypatch.undo()
    assert repository.list_artifacts() == []
    assert not list(tmp_path.rglob(".writing-*"))
