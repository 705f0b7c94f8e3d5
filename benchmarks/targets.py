"""Storage of the artifact cases: an S3 server of our own on loopback, or a folder."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol


class Target(Protocol):
    """A place that gives out empty roots.

    Attributes:
        environment: What a process needs to reach it.
    """

    environment: Mapping[str, str]

    def requests(self, root: str) -> RequestCounter | None:
        """Return what counts the requests to a root; None if it gets none."""

    def new_root(self) -> str:
        """Return the stock URI of an empty root."""

    def stored_bytes(self, root: str) -> int:
        """Return how many bytes a root holds."""

    def remove(self, root: str) -> None:
        """Delete a root and all it holds."""


class RequestCounter:
    """Counts the requests for one bucket in the log of the storage server."""

    _LINE = re.compile(r'"(?P<method>[A-Z]+) /(?P<bucket>[^/?]+)/?(?P<key>[^? ]*)')

    def __init__(self, log: Path, bucket: str) -> None:
        self._log, self._bucket, self._at = log, bucket, 0
        self.since()

    def since(self) -> Counter[str]:
        """Return how often each method was asked for since the last call."""
        with self._log.open("rb") as file:
            file.seek(self._at)
            text = file.read()
        self._at += len(text)
        found: Counter[str] = Counter()
        for match in self._LINE.finditer(text.decode(errors="replace")):
            if match["bucket"] == self._bucket:
                found[match["method"] if match["key"] else "LIST"] += 1
        return found


class Disk:
    """Folders below one folder."""

    environment: Mapping[str, str] = MappingProxyType({})

    def requests(self, root: str) -> RequestCounter | None:
        return None

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def new_root(self) -> str:
        path = self._folder / uuid.uuid4().hex
        path.mkdir(parents=True)
        return path.as_uri()

    def stored_bytes(self, root: str) -> int:
        return sum(path.stat().st_size for path in self._path(root).rglob("*") if path.is_file())

    def remove(self, root: str) -> None:
        shutil.rmtree(self._path(root))

    def _path(self, root: str) -> Path:
        return Path(root.removeprefix("file://"))


class S3:
    """Buckets of a server on loopback, spoken to as any client does."""

    def __init__(self, endpoint: str, log: Path) -> None:
        import boto3

        self._log = log

        self.environment: Mapping[str, str] = {
            "MLFLOW_S3_ENDPOINT_URL": endpoint,
            "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "path",
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        os.environ.update(self.environment)
        self.endpoint = endpoint
        self._client = boto3.client("s3", endpoint_url=endpoint)

    def new_root(self) -> str:
        bucket = f"b{uuid.uuid4().hex}"
        self._client.create_bucket(Bucket=bucket)
        return f"s3://{bucket}/mlflow"

    def requests(self, root: str) -> RequestCounter | None:
        return RequestCounter(self._log, self._bucket(root))

    def stored_bytes(self, root: str) -> int:
        return sum(size for _, size in self._objects(root))

    def remove(self, root: str) -> None:
        for key, _ in self._objects(root):
            self._client.delete_object(Bucket=self._bucket(root), Key=key)
        # The bucket stays: a store is written to once more some seconds after the last call.

    def _objects(self, root: str) -> list[tuple[str, int]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket(root))
        return [(o["Key"], o["Size"]) for page in pages for o in page.get("Contents", [])]

    def _bucket(self, root: str) -> str:
        return root.removeprefix("s3://").partition("/")[0]


# The server answers in two writes; with Nagle's algorithm on, each GET and LIST would wait 40 ms
# for a delayed acknowledgement, which no real S3 does and which hides what is measured. It walks
# over the whole bucket for each listing, too: a real one finds a prefix without that. And it closes
# the connection of who asks for an object that does not exist, which a real one keeps.
_LOCALBUCKET = """
import http.server, os, socketserver, sys, threading, time, types
import localbucket
socketserver.StreamRequestHandler.disable_nagle_algorithm = True
listing = threading.local()
walk = lambda top, **options: os.walk(getattr(listing, "folder", None) or top, **options)
localbucket.os = types.SimpleNamespace(**{**vars(os), "walk": walk})
handler = next(v for v in vars(localbucket).values() if hasattr(v, "_list_entries"))
entries = handler._list_entries
def list_entries(handler, bucket_folder, prefix, *rest):
    listing.folder = bucket_folder / prefix.rpartition("/")[0]
    try:
        return entries(handler, bucket_folder, prefix, *rest)
    finally:
        listing.folder = None
handler._list_entries = list_entries
send_headers = handler._send_headers
def keep_connection(handler, status, length, headers=None):
    headers = dict(headers or {})
    if status == 404 and handler.command == "GET":
        headers.pop("Connection", None)
        handler.close_connection = False
    return send_headers(handler, status, length, headers)
handler._send_headers = keep_connection
delay_seconds = float(sys.argv.pop())
parse = http.server.BaseHTTPRequestHandler.parse_request
def parse_request(handler):
    time.sleep(delay_seconds)
    return parse(handler)
if delay_seconds:
    http.server.BaseHTTPRequestHandler.parse_request = parse_request
localbucket.main()
"""

DELAY_SECONDS = {"s3": 0.0, "far-s3": 0.020}
"""Seconds that the server waits before it answers a request. On loopback nothing else waits, while
a bucket answers a small request in some 10 to 50 ms."""


@contextlib.contextmanager
def target(kind: str, folder: Path) -> Iterator[Target]:
    """Start a target, ``disk`` or one of `DELAY_SECONDS`, below a folder."""
    if kind == "disk":
        yield Disk(folder / "disk")
        return
    from tests.support import servers

    if importlib.util.find_spec("localbucket") is None and not DELAY_SECONDS[kind]:
        # Slower than localbucket, and keeps everything in memory.
        with servers.moto() as store:
            # It prints no requests, so that none are counted.
            (folder / "moto.log").touch()
            yield S3(store.environment["MLFLOW_S3_ENDPOINT_URL"], folder / "moto.log")
        return
    data, port = folder / "buckets", servers.free_port()
    data.mkdir(parents=True)
    with servers.running(
        [
            sys.executable,
            *("-c", _LOCALBUCKET, str(data), "--port", str(port), str(DELAY_SECONDS[kind])),
        ],
        log=folder / "localbucket.log",
        ready=lambda: servers.accepts_connections(port),
    ):
        yield S3(f"http://127.0.0.1:{port}", folder / "localbucket.log")
