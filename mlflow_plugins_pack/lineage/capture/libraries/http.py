"""The http layer: files fetched by requests, urllib, httpx, and aiohttp (which fsspec uses).

Only answers in the 200s count, only the final address stands, and nothing of a URL but scheme,
host, port and path; no header is kept but the entity tag and the length.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from mlflow_plugins_pack.lineage import mlflow_internals as adapter
from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture.call_stack import is_users, passes_through
from mlflow_plugins_pack.lineage.capture.event import READ, WRITE
from mlflow_plugins_pack.lineage.capture.observing import Arguments

_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")
# Their own layers see them, and name objects rather than addresses.
_OBJECT_STORES = ("/azure/core/", "/azure/storage/", "/botocore/", "/aiobotocore/")
_KINDS = {"GET": READ, "PUT": WRITE}


def _seen(method: Any, url: Any, status: Any, headers: Any) -> None:
    kind = _KINDS.get(str(method).upper())
    if kind is None or not 200 <= int(status) < 300:
        return
    frame = sys._getframe(1)
    if sink.current().is_muted() or not is_users(frame) or passes_through(frame, _OBJECT_STORES):
        return
    _emit(kind, url, headers)


def _emit(kind: str, url: Any, headers: Any) -> None:
    from mlflow_plugins_pack.lineage.document.graph import without_secrets

    text = str(url)
    if not text.startswith(("http://", "https://")) or _is_tracking_server(text):
        return
    encoded = str(headers.get("Content-Encoding") or "identity") != "identity"
    size = _size(headers) if kind == READ and not encoded else None
    etag = headers.get("ETag") if kind == READ else None
    version = str(etag).removeprefix("W/").strip('"') if etag else None
    sink.current().emit_object(kind, without_secrets(text), "http", size=size, version=version)


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


def aiohttp_answered(arguments: Arguments, _: Any) -> None:
    """Record an answer of aiohttp, whose headers have come."""
    answer = arguments["self"]
    _seen(answer.method, answer.url, answer.status, answer.headers)
