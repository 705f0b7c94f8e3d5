"""Every fault of network and storage: nothing wrong is given out, nothing committed is lost."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from cachetools import TTLCache
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.artifacts.store.opening import open_store
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from mlflow_plugins_pack.errors import (
    ArtifactCorruptError,
    ConfigurationError,
    StorageCredentialsError,
    StorageDeniedError,
    StorageUnavailableError,
)
from tests.artifacts.support.commands import run_json
from tests.artifacts.support.hosts import DATA, expect_good, fresh_host
from tests.contracts.artifact_repository import content, listing, new_run_uri, random_bytes
from tests.support import servers
from tests.support.fault_proxy import Fault, FaultProxy, fault_proxy

CLASSES = {"pack": "/packs/", "index": "/.cas/index/", "segment": "/.m/"}


@pytest.fixture
def proxy(moto: servers.ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with fault_proxy(moto.environment["MLFLOW_S3_ENDPOINT_URL"]) as proxy:
        for name, value in moto.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def root(proxy: FaultProxy, moto: servers.ObjectStore) -> str:
    return f"cas-{moto.new_root()}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(DATA)
    (folder / "small.txt").write_bytes(b"small")
    return folder


# --- what comes and goes --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("what", ["cut request", "no answer", "500", "slow down", "429", "slow"])
def test_passing_fault_of_an_upload(proxy, root, source, what, kind):
    repository = get_artifact_repository(new_run_uri(root))
    repository.list_artifacts()
    proxy.faults.append(Fault(what, "PUT", CLASSES[kind]))
    repository.log_artifacts(str(source))
    assert len(proxy.done) == 1
    expect_good(repository)
    assert run_json("fsck", root, "--read-data")["problems"] == []


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("what", ["cut answer", "500", "slow down", "429", "slow", "flip answer"])
def test_passing_fault_of_a_download(
    proxy, root, source, what, kind, tmp_path, monkeypatch, request
):
    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifacts(str(source))
    fresh_host(monkeypatch, tmp_path)
    proxy.faults.append(Fault(what, "GET", CLASSES[kind]))
    if kind == "index":
        # Only an upload reads the index; a damaged part of it costs bytes and nothing else.
        other = get_artifact_repository(new_run_uri(root))
        other.log_artifacts(str(source))
        expect_good(other)
    else:
        expect_good(repository)
    assert proxy.done


@pytest.mark.parametrize("kind", CLASSES)
def test_bit_that_flips_on_the_way_up(proxy, root, source, kind):
    """S3 is told a checksum, but no server here checks it: what arrived wrong is found later."""
    repository = get_artifact_repository(new_run_uri(root))
    kept = get_artifact_repository(new_run_uri(root))
    (source / "small.txt").write_bytes(b"kept")
    kept.log_artifact(str(source / "small.txt"))
    (source / "small.txt").write_bytes(b"small")
    proxy.faults.append(Fault("flip request", "PUT", CLASSES[kind]))
    repository.log_artifacts(str(source))
    problems = run_json("fsck", root, "--read-data", code=1)["problems"]
    assert problems
    if kind == "index":
        assert {p["kind"] for p in problems} == {"index"}
        expect_good(repository)
    else:
        opening._stores.clear()
        with pytest.raises(ArtifactCorruptError) as caught:
            repository.download_artifacts("")
        if kind == "pack":
            assert "'weights.bin'" in caught.value.message
            assert "chunk" in caught.value.message
    assert content(kept.download_artifacts("")) == {"small.txt": b"kept"}


# --- what stays -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(CLASSES.keys() - {"index"}))
@pytest.mark.parametrize(
    ("what", "error"),
    [("500", StorageUnavailableError), ("expired", StorageCredentialsError)],
)
def test_lasting_fault_of_an_upload_shows_nothing(
    proxy, root, source, kind, what, error, monkeypatch
):
    from mlflow_plugins_pack.artifacts.backends import s3

    monkeypatch.setattr(s3, "_ATTEMPTS", 2)
    opening._backends.clear()
    repository = get_artifact_repository(new_run_uri(root))
    repository.list_artifacts()
    proxy.faults.append(Fault(what, "PUT", CLASSES[kind], times=-1))
    with pytest.raises(error, match="What was committed before is unchanged") as caught:
        repository.log_artifacts(str(source))
    assert CLASSES[kind].strip("/") in caught.value.message
    proxy.faults.clear()
    assert listing(repository) == []
    # Going on where it stopped: a pack that arrived and is indexed is not sent again.
    repository.log_artifacts(str(source))
    expect_good(repository)
    assert run_json("fsck", root, "--read-data")["problems"] == []


def test_an_index_that_cannot_be_written_does_not_fail_a_call_that_is_committed(
    proxy, root, source, monkeypatch, caplog
):
    from mlflow_plugins_pack.artifacts.backends import s3

    monkeypatch.setattr(s3, "_ATTEMPTS", 2)
    opening._backends.clear()
    repository = get_artifact_repository(new_run_uri(root))
    proxy.faults.append(Fault("500", "PUT", CLASSES["index"], times=-1))
    repository.log_artifacts(str(source))
    assert "index" in caplog.text
    proxy.faults.clear()
    opening._stores.clear()
    expect_good(repository)
    repository.log_artifacts(str(source))
    expect_good(repository)
    assert run_json("fsck", root, "--read-data", "--repair-index")["problems"] == []


def test_credentials_that_expire_are_read_again(proxy, root, source, tmp_path, monkeypatch):
    """A profile that is renewed on disk is used without a new process."""
    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifacts(str(source))
    proxy.faults.append(Fault("expired", "GET", "/packs/"))
    with pytest.raises(StorageCredentialsError, match="expired"):
        repository.download_artifacts("weights.bin")
    monkeypatch.setattr(opening, "_backends", TTLCache(256, 1e-9))
    expect_good(repository)


def test_time_out_can_be_configured(proxy, root, source, monkeypatch):
    from mlflow_plugins_pack.artifacts.backends import s3

    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifacts(str(source))
    monkeypatch.setattr(s3, "_ATTEMPTS", 1)
    monkeypatch.setenv("MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT", "1")
    opening._backends.clear()
    proxy.seconds_per_answer = 60
    proxy.faults.append(Fault("slow", "GET", "/packs/", times=-1))
    with pytest.raises(StorageUnavailableError, match=r"(?i)time"):
        repository.download_artifacts("weights.bin")


def test_read_only_bucket(proxy, root, source, monkeypatch):
    """Reading goes on; writing and deleting are refused and change nothing."""
    from botocore.exceptions import ClientError

    from mlflow_plugins_pack.artifacts.backends.s3 import S3Backend

    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifacts(str(source))
    # moto checks no policies: the refusal is S3's own answer, given on the client's side.
    denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "PutObject")

    def refuse(**arguments):
        raise denied

    backend = open_store(parse_location(root)).backend
    assert isinstance(backend, S3Backend)
    monkeypatch.setattr(backend._client, "put_object", refuse)
    for call in (lambda: repository.log_artifacts(str(source), "x"), repository.delete_artifacts):
        with pytest.raises(StorageDeniedError, match="do not allow it"):
            call()
    expect_good(repository)


def test_deleted_pack_is_named(proxy, root, source):
    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifacts(str(source))
    store = open_store(parse_location(root))
    (pack,) = [s.key for s in store.backend.list(store.key(".cas/packs/"))]
    store.backend.delete([pack])
    with pytest.raises(ArtifactCorruptError) as caught:
        repository.download_artifacts("")
    assert "'weights.bin'" in caught.value.message
    assert pack.rpartition("/")[2] in caught.value.message
    assert "chunk" in caught.value.message
    assert content(repository.download_artifacts("small.txt")).keys() <= {"small.txt"}


# --- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-30 * 24, 30 * 24])
def test_clock_that_is_wrong_by_a_month(tmp_path, source, monkeypatch, hours):
    """Neither order of commits nor a collection depends on this machine's clock."""
    root = f"cas-file://{tmp_path}/store"
    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifacts(str(source))
    real_ns, real = time.time_ns, time.time
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + hours * 3600 * 10**9)
    monkeypatch.setattr(time, "time", lambda: real() + hours * 3600)
    (source / "small.txt").write_bytes(b"newer")
    repository.log_artifact(str(source / "small.txt"))
    doomed = get_artifact_repository(new_run_uri(root))
    (source / "doomed").write_bytes(random_bytes(200_000, seed=5))
    doomed.log_artifact(str(source / "doomed"))
    doomed.delete_artifacts()
    assert run_json("gc", root)["condemned_packs"] == 0
    monkeypatch.setattr(time, "time_ns", real_ns)
    monkeypatch.setattr(time, "time", real)
    assert content(repository.download_artifacts("small.txt").rpartition("/")[0])["small.txt"] == (
        b"newer"
    )
    (source / "small.txt").write_bytes(b"newest")
    repository.log_artifact(str(source / "small.txt"))
    assert Path(repository.download_artifacts("small.txt")).read_bytes() == b"newest"


# --- a real full disk -----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_disk_that_fills_up(small_disk, tmp_path):
    root = f"cas-file://{small_disk}/store"
    repository = get_artifact_repository(new_run_uri(root))
    kept, big = tmp_path / "kept", tmp_path / "big"
    kept.write_bytes(random_bytes(500_000))
    big.write_bytes(random_bytes(6_000_000, seed=1))
    repository.log_artifact(str(kept))
    with pytest.raises(StorageUnavailableError, match="disk is full; make room"):
        repository.log_artifact(str(big))
    assert [path for path, *_ in listing(repository)] == ["kept"]
    assert not [p for p in small_disk.rglob("*") if ".writing-" in p.name]
    assert Path(repository.download_artifacts("kept")).read_bytes() == kept.read_bytes()
    # The destination of a download may fill up as well.
    elsewhere = get_artifact_repository(new_run_uri(f"cas-file://{tmp_path}/elsewhere"))
    elsewhere.log_artifact(str(big))
    with pytest.raises(StorageUnavailableError, match="disk is full"):
        elsewhere.download_artifacts("", str(small_disk))
    assert {p.name for p in small_disk.iterdir()} == {"store"}


# --- two hosts ------------------------------------------------------------------------------------


HOST = """
import random, sys
from pathlib import Path
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
number, folder, stock, ours, *runs = sys.argv[1:]
for turn in range(5):
    source = Path(folder) / f"{number}-{turn}"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / f"own-{number}-{turn}").write_bytes(random.Random(turn).randbytes(100_000))
    (source / "shared.txt").write_bytes(b"the same")
    for base in (stock, ours):
        repository = get_artifact_repository(f"{base}/{runs[turn % 2]}")
        repository.log_artifacts(str(source), f"t{turn}")
        if turn % 3 == 2:
            repository.delete_artifacts(f"t{turn}/sub/own-{number}-{turn}")
"""


def test_two_hosts_at_once_store_what_stock_stores(proxy, root, moto, tmp_path):
    """Processes with caches of their own, the same runs, at once, over a network that fails."""
    stock = moto.new_root()
    runs = [f"1/{uuid.uuid4().hex}/artifacts" for _ in range(2)]
    proxy.faults += [Fault("slow down", "PUT", "/packs/", 2), Fault("cut answer", "GET", "/.m/", 2)]
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST, str(number), str(tmp_path), stock, root, *runs],
            env=servers.clean_environment(
                **moto.environment
                | {
                    "MLFLOW_S3_ENDPOINT_URL": proxy.url,
                    "MLFLOW_PACK_ARTIFACT_CACHE_DIR": str(tmp_path / f"cache-{number}"),
                }
            ),
        )
        for number in range(2)
    ]
    try:
        assert [host.wait(120) for host in hosts] == [0, 0]
    finally:
        for host in hosts:
            host.kill()
            host.wait()
    for run in runs:
        ours, theirs = (get_artifact_repository(f"{base}/{run}") for base in (root, stock))
        folders: list[str | None] = [None]
        while folders:
            path = folders.pop()
            assert listing(ours, path) == listing(theirs, path)
            folders += [str(found) for found, is_dir, _ in listing(ours, path) if is_dir]
        assert content(ours.download_artifacts("")) == content(theirs.download_artifacts(""))


def test_credentials_that_may_list_below_a_prefix_only(proxy, root, source, tmp_path, monkeypatch):
    """A key that does not exist then answers 403; what is there and denied still is an error."""
    proxy.list_prefix = root.split("/", 3)[3] + "/"
    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifacts(str(source))
    fresh_host(monkeypatch, tmp_path)
    expect_good(repository)
    repository.log_artifacts(str(source), "again")
    repository.delete_artifacts("again")
    expect_good(repository)
    assert run_json("gc", root, "--grace", "0s")["removed_packs"] == 0
    assert run_json("fsck", root, "--read-data")["problems"] == []
    foreign = get_artifact_repository(new_run_uri(root.rpartition("/")[0] + "/not-ours"))
    with pytest.raises(StorageDeniedError):
        foreign.list_artifacts()


def test_bad_request_for_another_reason_is_an_error(proxy, root, source):
    proxy.faults.append(Fault("expired", "PUT", "", times=-1))
    with pytest.raises(StorageCredentialsError, match="expired"):
        get_artifact_repository(new_run_uri(root)).log_artifacts(str(source))


def test_encrypted_store_is_not_made_by_chance(proxy, root, source, monkeypatch):
    """Two hosts at once would each make one, where the service ignores conditions."""
    proxy.lacks = frozenset({"conditions ignored"})
    monkeypatch.setenv("ARTIFACT_KEY", "07" * 32)
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_KEYS", "env:ARTIFACT_KEY")
    monkeypatch.setenv("MLFLOW_PACK_ARTIFACT_ENCRYPT", "true")
    repository = get_artifact_repository(new_run_uri(root))
    with pytest.raises(ConfigurationError, match=f"artifacts init --encrypt {root}"):
        repository.log_artifacts(str(source))
    assert listing(repository) == []
    assert run_json("init", root, "--encrypt")["encrypted"]
    repository.log_artifacts(str(source))
    expect_good(repository)


@pytest.mark.parametrize("kind", ["pack", "segment"])
def test_answer_that_is_cut_on_its_way_is_not_reported_as_damage(
    proxy, root, source, tmp_path, monkeypatch, kind
):
    from mlflow_plugins_pack.artifacts.backends import s3

    monkeypatch.setattr(s3, "_ATTEMPTS", 2)
    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifacts(str(source))
    fresh_host(monkeypatch, tmp_path)
    proxy.faults.append(Fault("short answer", "GET", CLASSES[kind], times=-1))
    # A listing that is cut cannot be parsed: boto3 then reports a service that failed.
    with pytest.raises(StorageUnavailableError, match=r"was cut on its way|try again") as raised:
        repository.download_artifacts("")
    assert "fsck" not in str(raised.value)
    proxy.faults.clear()
    expect_good(repository)
