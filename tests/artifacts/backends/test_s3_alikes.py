"""Services that speak a part of S3: a store works on each, or the error names the setting."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.backends import s3, s3_client
from mlflow_plugins_pack.artifacts.maintenance import doctor
from mlflow_plugins_pack.artifacts.store.opening import backend_of
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from mlflow_plugins_pack.errors import StorageError, StorageUnavailableError
from tests.artifacts.support.commands import run_json
from tests.artifacts.support.hosts import DATA, expect_good, fresh_host
from tests.auth.support.certificates import Authority
from tests.contracts.artifact_repository import (
    ArtifactRepositoryContract,
    listing,
    new_run_uri,
    random_bytes,
)
from tests.support import s3_alike, servers
from tests.support.fault_proxy import FaultProxy, fault_proxy

# Over TLS, since boto3 sends checksums after the body only there.
POOREST = frozenset(
    {
        "conditions ignored",
        "etag",
        "expect 417",
        "md5 wanted on deletes",
        "second listing ignored",
        "trailers 411",
    }
)


IN_EVERY_RUN = ("conditions 501", "conditions ignored", "no DeleteObjects", "trailers stored")
"""The other lacks are met one by one, without a whole store, in `test_lacks_are_remembered`."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def service(
    moto: servers.ObjectStore, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3_client, "_services", {})
    with fault_proxy(moto.environment["MLFLOW_S3_ENDPOINT_URL"], authority.issue("s3")) as service:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", service.url)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.ca))
        yield service


@pytest.fixture
def root(service: FaultProxy, moto: servers.ObjectStore) -> str:
    return f"cas-{moto.new_root()}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(DATA)
    (folder / "small.txt").write_bytes(b"small")
    return folder


def forget(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Go on as a process on another host would."""
    monkeypatch.setattr(s3_client, "_services", {})
    fresh_host(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    "lacks",
    [
        pytest.param(frozenset({lack}), marks=() if lack in IN_EVERY_RUN else pytest.mark.nightly)
        for lack in s3_alike.LACKS
    ]
    + [POOREST],
    ids=lambda lacks: next(iter(lacks)) if len(lacks) == 1 else "poorest",
)
def test_store_works(service, root, source, tmp_path, monkeypatch, lacks):
    service.lacks = lacks
    first, second = (get_artifact_repository(new_run_uri(root)) for _ in range(2))
    first.log_artifacts(str(source))
    expect_good(first)
    forget(monkeypatch, tmp_path)
    (source / "other.bin").write_bytes(random_bytes(1_500_000, seed=5))
    second.log_artifact(str(source / "other.bin"))
    expect_good(first)
    assert listing(second) == [("other.bin", False, 1_500_000)]
    forget(monkeypatch, tmp_path)
    second.delete_artifacts()
    assert listing(second) == []
    assert run_json("gc", root, "--grace", "0s")["removed_bytes"] > 1_400_000
    assert run_json("fsck", root, "--read-data")["problems"] == []
    expect_good(first)


@pytest.mark.nightly
class TestPoorest(ArtifactRepositoryContract):
    @pytest.fixture
    def root(self, service: FaultProxy, moto: servers.ObjectStore) -> str:
        service.lacks = POOREST
        return f"cas-{moto.new_root()}"


@pytest.mark.nightly
@pytest.mark.parametrize("lack", s3_alike.LACKS)
class TestEach(ArtifactRepositoryContract):
    @pytest.fixture
    def root(self, service: FaultProxy, moto: servers.ObjectStore, lack: str) -> str:
        service.lacks = frozenset({lack})
        return f"cas-{moto.new_root()}"


# --- what is found out once -----------------------------------------------------------------------


def test_lacks_are_remembered(service, root):
    """The second time, no request is refused."""
    service.lacks = frozenset(
        {"conditions 501", "expect 417", "md5 wanted on deletes", "trailers 501"}
        | {"no second listing"}
    )
    backend = backend_of(parse_location(root))
    long = random_bytes(s3._SMALL_BYTES + 1)

    def use() -> None:
        backend.write("a/1", long)
        assert backend.write_if_absent("a/2", b"2")
        assert not backend.write_if_absent("a/2", b"3")
        assert [found.key for found in backend.list("a/")] == ["a/1", "a/2"]
        assert list(backend.folders("")) == ["a"]
        assert (backend.read("a/1"), backend.read("a/2")) == (long, b"2")
        backend.delete(["a/1", "a/2"])
        assert not list(backend.list("a/"))

    use()
    assert len(service.refused) >= 5
    service.refused.clear()
    use()
    assert service.refused == []


def test_all_of_s3_is_used_where_it_is_offered(service, root):
    backend = backend_of(parse_location(root))
    backend.write("a", b"1")
    assert backend.creates_exclusively("x")
    backend.delete(["a", "b"])
    assert backend._service == s3_client.Service(is_tried=True, honours_conditions=True)
    assert s3_client.sends_trailers(backend._uploader)


def test_condition_is_not_given_up_where_it_was_honoured(service, root):
    """A gateway's 400 in passing must not cost a store the order of its calls."""
    backend = backend_of(parse_location(root))
    assert backend.creates_exclusively("x")
    service.lacks = frozenset({"conditions 400"})
    with pytest.raises(StorageError):
        backend.write_if_absent("a", b"1")
    assert backend.size("a") is None


def test_listing_that_does_not_go_on_is_an_error(service, root, monkeypatch):
    """Else a collection would take for unreferenced what the missing pages refer to."""
    backend = backend_of(parse_location(root))
    for name in "abcdef":
        backend.write(name, b"1")
    service.lacks = frozenset({"token ignored"})
    with pytest.raises(StorageUnavailableError, match="the same page again"):
        list(backend.list(""))


# --- addresses ------------------------------------------------------------------------------------


def test_service_that_wants_the_bucket_in_the_host(moto, root, source, monkeypatch):
    monkeypatch.delenv("AWS_CA_BUNDLE")
    resolve = socket.getaddrinfo

    def local(host, *arguments, **named):
        return resolve("127.0.0.1" if host.endswith("s3.test") else host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", local)
    with fault_proxy(moto.environment["MLFLOW_S3_ENDPOINT_URL"]) as plain:
        plain.lacks = frozenset({"virtual hosts only"})
        port = plain.url.rpartition(":")[2]
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://s3.test:{port}")
        repository = get_artifact_repository(new_run_uri(root))
        with pytest.raises(StorageError, match="MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE=virtual"):
            repository.log_artifacts(str(source))
        monkeypatch.setenv("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", "virtual")
        repository.log_artifacts(str(source))
        expect_good(repository)


def test_service_that_wants_the_bucket_in_the_path(service, root, source, monkeypatch):
    monkeypatch.setattr(s3, "_ATTEMPTS", 1)
    port = service.url.rpartition(":")[2]
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"https://s3.invalid:{port}")
    monkeypatch.setenv("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", "virtual")
    with pytest.raises(StorageUnavailableError, match="MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE=path"):
        get_artifact_repository(new_run_uri(root)).log_artifacts(str(source))


# --- a store that was made on another service -----------------------------------------------------


def test_doctor_finds_a_service_that_no_longer_honours_conditions(service, root, source):
    get_artifact_repository(new_run_uri(root)).log_artifacts(str(source))
    (found,) = doctor.check(root)
    assert found.level == "ok"
    service.lacks = frozenset({"conditions ignored"})
    (found,) = doctor.check(root)
    assert found.level == "error"
    assert "ignores conditional writes" in found.message
