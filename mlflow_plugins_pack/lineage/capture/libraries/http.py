"""The http layer: files fetched by requests, urllib, httpx, and aiohttp (which fsspec uses).

Only answers in the 200s count, only the final address stands, and nothing of a URL but scheme,
host, port and path; no header is kept but the entity tag and the length.
"""

from __future__ import annotations

import re
import sys
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mlflow_plugins_pack.lineage import mlflow_internals as adapter
from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture.call_stack import is_users, passes_through
from mlflow_plugins_pack.lineage.capture.event import READ, WRITE
from mlflow_plugins_pack.lineage.capture.observing.observers import Arguments

_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")
# Their own layers see them, and name objects rather than addresses.
_OBJECT_STORES = ("/azure/core/", "/azure/storage/", "/botocore/", "/aiobotocore/")
_KINDS = {"GET": READ, "PUT": WRITE}
_GOOGLE = "storage.googleapis.com"
_GOOGLE_JSON = re.compile(
    r"(?:/(?P<verb>download|upload|resumable/upload))?/storage/v1/b/(?P<bucket>[^/]+)/o(?:/(?P<name>.+))?"
)


def place_of(method: str, url: str) -> tuple[str, str] | None:
    """Return what an HTTP request did to which URI; None if it moved no data.

    Requests to Google Cloud Storage name its objects, ``gs://bucket/object``; those that ask for
    an object's metadata read no data. Forms of their addresses:
    https://cloud.google.com/storage/docs/request-endpoints.

    Args:
        method: Such as ``GET``.
        url: With its query.
    """
    from mlflow_plugins_pack.lineage.document.graph import object_uri, without_secrets

    kind = _KINDS.get(method)
    parts = urlsplit(url)
    host, path = parts.hostname or "", parts.path
    if host != _GOOGLE and not host.endswith(f".{_GOOGLE}"):
        return (kind, without_secrets(url)) if kind else None
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    if api := _GOOGLE_JSON.fullmatch(path):
        name = unquote(api["name"] or "")
        if (api["verb"] or "").endswith("upload"):
            name = name or query.get("name", "")
            kind = WRITE if method in ("POST", "PUT") and name else None
        elif query.get("alt") != "media":
            kind = None
        return (kind, object_uri("gs", unquote(api["bucket"]), name)) if kind and name else None
    if path.startswith("/storage/v1/"):
        return None
    bucket, path = host.removesuffix(_GOOGLE).rstrip("."), unquote(path).removeprefix("/")
    if not bucket:
        bucket, _, path = path.partition("/")
    return (kind, object_uri("gs", bucket, path)) if kind and path else None


def _seen(method: Any, url: Any, status: Any, headers: Any) -> None:
    text = str(url)
    if not text.startswith(("http://", "https://")) or not 200 <= int(status) < 300:
        return
    frame = sys._getframe(1)
    if sink.current().is_muted() or not is_users(frame) or passes_through(frame, _OBJECT_STORES):
        return
    found = place_of(str(method).upper(), text)
    if found is None or _is_tracking_server(text):
        return
    kind, uri = found
    encoded = str(headers.get("Content-Encoding") or "identity") != "identity"
    size = _size(headers) if kind == READ and not encoded else None
    version = headers.get("X-Goog-Generation") if uri.startswith("gs://") else None
    if version is None and kind == READ and (etag := headers.get("ETag")):
        version = str(etag).removeprefix("W/").strip('"')
    sink.current().emit_object(kind, uri, "http", size=size, version=version)


def _is_tracking_server(url: str) -> bool:
    server = adapter.tracking_uri()
    return server.startswith("http") and url.startswith(server.rstrip("/") + "/")


def _size(headers: Any) -> int | None:
    if match := _TOTAL.fullmatch(str(headers.get("Content-Range") or "")):
        return int(match[1])
    length = str(headers.get("Content-Length") or "")
    return int(length) if length.isdigit() else None


def requests_answered(arguments: Arguments) -> None:
    """Record an answer of requests: each is given to the hooks of its session."""
    answer = arguments["hook_data"]
    if not answer.is_redirect:
        _seen(answer.request.method, answer.url, answer.status_code, answer.headers)


def urllib_answered(arguments: Arguments) -> None:
    """Record an answer of urllib: each passes the processor of HTTP errors."""
    request, answer = arguments["request"], arguments["response"]
    _seen(request.get_method(), request.full_url, answer.status, answer.headers)


def httpx_answered(arguments: Arguments) -> None:
    """Record an answer of httpx: cookies are taken from each."""
    answer = arguments["response"]
    _seen(answer.request.method, answer.url, answer.status_code, answer.headers)


def aiohttp_answered(arguments: Arguments) -> None:
    """Record an answer of aiohttp, whose headers have come."""
    answer = arguments["self"]
    _seen(answer.method, answer.url, answer.status, answer.headers)
