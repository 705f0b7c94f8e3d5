"""Azure accounts: Entra identities, shared access signatures, hierarchical namespaces."""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.store.opening import backend_of
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from mlflow_plugins_pack.errors import StorageCredentialsError, StorageDeniedError
from tests.artifacts.support.commands import run_json
from tests.artifacts.support.hosts import DATA, expect_good
from tests.auth.support.certificates import Authority
from tests.contracts.artifact_repository import listing, new_run_uri
from tests.support import servers

_NAME = "AZURE_STORAGE_CONNECTION_STRING"
_NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def account(authority: Authority) -> Iterator[servers.ObjectStore]:
    """Azurite over TLS, which tokens need."""
    with servers.azurite(authority.issue("azurite")) as account:
        yield account


@pytest.fixture
def root(
    account: servers.ObjectStore, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.ca))
    return f"cas-{account.new_root()}"


@pytest.fixture
def endpoint(account: servers.ObjectStore) -> str:
    return account.environment[_NAME].split("BlobEndpoint=")[1].rstrip(";")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(DATA)
    (folder / "small.txt").write_bytes(b"small")
    return folder


@contextlib.contextmanager
def identity_endpoint(audience: str) -> Iterator[tuple[str, list[str]]]:
    """Answer as the identity endpoint of a machine does; yield its address, and what is asked."""
    asked: list[str] = []
    now = int(time.time())
    claims = {"aud": audience, "iss": f"https://sts.windows.net/{_NOBODY}/", "nbf": now - 60}
    claims |= {"iat": now - 60, "exp": now + 3600, "oid": _NOBODY, "sub": _NOBODY, "tid": _NOBODY}
    parts = ({"alg": "RS256", "typ": "JWT"}, claims, "signature")
    token = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answer = {"access_token": token, "expires_on": str(now + 3600), "token_type": "Bearer"}
            body = json.dumps(answer | {"resource": audience}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use_store(root: str, source: Path) -> None:
    repository = get_artifact_repository(new_run_uri(root))
    repository.log_artifacts(str(source))
    expect_good(repository)
    repository.delete_artifacts()
    assert listing(repository) == []
    assert run_json("gc", root, "--grace", "0s")["removed_packs"] == 1
    assert run_json("fsck", root, "--read-data")["problems"] == []


def test_identity_of_a_machine(root, endpoint, source, monkeypatch):
    """`DefaultAzureCredential`, with an endpoint that is not the account's own."""
    monkeypatch.setenv(_NAME, f"BlobEndpoint={endpoint}")
    with identity_endpoint("https://storage.azure.com") as (address, asked):
        monkeypatch.setenv("IDENTITY_ENDPOINT", address)
        monkeypatch.setenv("IDENTITY_HEADER", "secret")
        use_store(root, source)
    assert asked
    assert "resource=https://storage.azure.com" in asked[0]


def test_token_for_another_service_is_refused(root, endpoint, source, monkeypatch):
    monkeypatch.setenv(_NAME, f"BlobEndpoint={endpoint}")
    with identity_endpoint("https://vault.azure.net") as (address, _):
        monkeypatch.setenv("IDENTITY_ENDPOINT", address)
        monkeypatch.setenv("IDENTITY_HEADER", "secret")
        with pytest.raises((StorageCredentialsError, StorageDeniedError), match="AZURE_"):
            get_artifact_repository(new_run_uri(root)).log_artifacts(str(source))


def signature(hours: float, permission: str = "rwdlc") -> str:
    from azure.storage.blob import (
        AccountSasPermissions,
        ResourceTypes,
        generate_account_sas,
    )

    now = datetime.datetime.now(datetime.timezone.utc)
    return generate_account_sas(
        servers.AZURITE_ACCOUNT,
        servers.AZURITE_KEY,
        ResourceTypes(container=True, object=True),
        AccountSasPermissions.from_string(permission),
        now + datetime.timedelta(hours=hours),
        now - datetime.timedelta(hours=48),
    )


def test_shared_access_signature(root, endpoint, source, monkeypatch):
    monkeypatch.setenv(_NAME, f"BlobEndpoint={endpoint};SharedAccessSignature={signature(1)}")
    use_store(root, source)


@pytest.mark.parametrize(("hours", "permission"), [(-1, "rwdlc"), (1, "rl")])
def test_signature_that_does_not_allow_it(root, endpoint, source, monkeypatch, hours, permission):
    text = signature(hours, permission)
    monkeypatch.setenv(_NAME, f"BlobEndpoint={endpoint};SharedAccessSignature={text}")
    repository = get_artifact_repository(new_run_uri(root))
    with pytest.raises((StorageCredentialsError, StorageDeniedError), match="AZURE_") as caught:
        repository.log_artifacts(str(source))
    assert text not in caught.value.message


def test_abfss_names_the_same_store(account, root, source, monkeypatch):
    monkeypatch.setenv(_NAME, account.environment[_NAME])
    other = root.replace("cas-wasbs:", "cas-abfss:").replace(".blob.core.", ".dfs.core.")
    use_store(other, source)
    run = new_run_uri(root)
    get_artifact_repository(run).log_artifacts(str(source))
    expect_good(
        get_artifact_repository(
            run.replace("cas-wasbs:", "cas-abfss:").replace(".blob.core.", ".dfs.core.")
        )
    )


def test_folders_of_a_hierarchical_namespace_are_not_objects(account, root, monkeypatch):
    """Such accounts list each folder as an empty blob that is marked."""
    monkeypatch.setenv(_NAME, account.environment[_NAME])
    backend = backend_of(parse_location(root))
    backend.write("a/b", b"1")
    backend._client.upload_blob("a", b"", metadata={"hdi_isfolder": "true"})
    backend._client.upload_blob("a/c", b"", metadata={"hdi_isfolder": "true"})
    assert [found.key for found in backend.list("")] == ["a/b"]
    assert list(backend.folders("")) == ["a"]
