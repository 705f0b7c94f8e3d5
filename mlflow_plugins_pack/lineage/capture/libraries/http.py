"""The http layer: files fetched by requests, urllib, httpx, and aiohttp (which fsspec uses).

Only answers in the 200s count, only the final address stands, and nothing of a URL but scheme,
host, port and path; no header is kept but the entity tag and the length.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mlflow_plugins_pack.lineage import mlflow_internals as adapter
from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture.call_stack import is_users, passes_through
from mlflow_plugins_pack.lineage.capture.event import READ, WRITE
from mlflow_plugins_pack.lineage.capture.wrapping import Call, look

_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")
# Their own layers see them, and name objects rather than addresses.
_OBJECT_STORES = ("/azure/core/", "/azure/storage/", "/botocore/", "/aiobotocore/")
_KINDS = {"GET": READ, "PUT": WRITE}


def wrap(module: ModuleType) -> None:
    """Wrap the client of a module that was just imported."""
    _WRAPPERS[module.__name__](module)


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


def _requests(module: Any) -> None:
    def sent(call: Call) -> None:
        answer = call.result
        _seen(answer.request.method, answer.url, answer.status_code, answer.headers)

    # `send` follows redirections itself, by calling itself.
    look(module.Session, "send", lambda call: None if call.result.is_redirect else sent(call))


def _urllib(module: Any) -> None:
    def opened(call: Call) -> None:
        request, answer = call.get(1, "fullurl"), call.result
        method = request.get_method() if hasattr(request, "get_method") else None
        method = method or ("GET" if call.get(2, "data") is None else "POST")
        _seen(method, answer.url, answer.status, answer.headers)

    look(module.OpenerDirector, "open", opened)


def _httpx(module: Any) -> None:
    def sent(answer: Any) -> None:
        _seen(answer.request.method, answer.url, answer.status_code, answer.headers)

    look(module.Client, "send", lambda call: sent(call.result))
    _look_async(module.AsyncClient, "send", sent)


def _aiohttp(module: Any) -> None:
    _look_async(
        module.ClientSession,
        "_request",
        lambda answer: _seen(answer.method, answer.url, answer.status, answer.headers),
    )


def _look_async(owner: Any, name: str, after: Callable[[Any], None]) -> None:
    original = getattr(owner, name, None)
    if original is None:
        return

    @functools.wraps(original)
    async def call(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        with contextlib.suppress(Exception):
            after(result)
        return result

    setattr(owner, name, call)


_WRAPPERS: dict[str, Callable[[Any], None]] = {
    "requests.sessions": _requests,
    "urllib.request": _urllib,
    "httpx": _httpx,
    "aiohttp.client": _aiohttp,
}
MODULES = tuple(_WRAPPERS)
