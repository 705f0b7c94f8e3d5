"""Looking again at inputs that lie elsewhere: on S3, in Azure Blob Storage, behind HTTP."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Callable, Iterator

import pytest

from mlflow_plugins_pack.lineage.document.graph import Entry
from mlflow_plugins_pack.lineage.fingerprints.hashing import Fingerprinter
from mlflow_plugins_pack.lineage.query.verify import check
from tests.support import servers


def result(uri: str, version: str | None) -> str:
    return check(Entry(uri, version=version), Fingerprinter()).result


@pytest.mark.parametrize("versioned", [False, True])
def test_s3(moto: servers.ObjectStore, monkeypatch: pytest.MonkeyPatch, versioned: bool) -> None:
    import boto3

    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    bucket = moto.new_root().removeprefix("s3://").partition("/")[0]
    if versioned:
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    uri = f"s3://{bucket}/my%20data.csv"

    def put(body: bytes) -> str:
        answer = client.put_object(Bucket=bucket, Key="my data.csv", Body=body)
        return str(answer["VersionId"] if versioned else answer["ETag"].strip('"'))

    first = put(b"one")
    assert result(uri, first) == "same"
    assert result(uri, None) == "unknown"
    put(b"two")
    assert result(uri, first) == "changed"
    client.delete_object(Bucket=bucket, Key="my data.csv")
    assert result(uri, None) == "missing"
    assert result(uri, first) == "changed"


def test_azure(azurite: servers.ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.storage.blob import BlobServiceClient

    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING", raising=False)
    assert result("wasbs://c@a.blob.core.windows.net/b", "1") == "unknown"
    for name, value in azurite.environment.items():
        monkeypatch.setenv(name, value)
    place = azurite.new_root().removeprefix("wasbs://").partition("/")[0]
    text = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
    with BlobServiceClient.from_connection_string(text) as service:
        blob = service.get_blob_client(place.partition("@")[0], "my data.csv")
        first = str(blob.upload_blob(b"one")["etag"]).strip('"')
        uri = f"wasbs://{place}/my%20data.csv"
        assert result(uri, first) == "same"
        assert result(uri, None) == "unknown"
        blob.upload_blob(b"two", overwrite=True)
        assert result(uri, first) == "changed"
        blob.delete_blob()
        assert result(uri, first) == "missing"


@pytest.fixture
def web() -> Iterator[Callable[[int, str | None], str]]:
    """A server whose answer a test chooses: status and entity tag."""
    answer: list[tuple[int, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            status, tag = answer[-1]
            self.send_response(status)
            if tag is not None:
                self.send_header("ETag", tag)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def choose(status: int, tag: str | None) -> str:
            answer.append((status, tag))
            return f"http://127.0.0.1:{server.server_address[1]}/data.csv"

        yield choose
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "tag", "expected"),
    [
        (200, '"one"', "same"),
        (200, 'W/"one"', "same"),
        (200, '"two"', "changed"),
        (200, None, "unknown"),
        (500, None, "unknown"),
        (404, None, "missing"),
    ],
)
def test_http(
    web: Callable[[int, str | None], str], status: int, tag: str | None, expected: str
) -> None:
    assert result(web(status, tag), "one") == expected
    assert result(web(status, tag), None) == "unknown"
