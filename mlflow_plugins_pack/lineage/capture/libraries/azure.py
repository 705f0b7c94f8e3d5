"""The azure layer: blobs read and written through azure-storage-blob, and all that use it.

Entries are named as stock MLflow names them, ``wasbs://container@account.../blob``. Of an address
only host and path are looked at, so neither keys nor signatures are ever seen.
"""

from __future__ import annotations

import re
import sys
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture.call_stack import is_users
from mlflow_plugins_pack.lineage.capture.event import READ, WRITE
from mlflow_plugins_pack.lineage.capture.observing.observers import Arguments
from mlflow_plugins_pack.lineage.document.graph import object_uri

_WRITING = (None, "blocklist", "appendblock")
"""Values of the parameter ``comp`` of PUT requests that make content: put, commit and append."""
_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")


def uploaded(arguments: Arguments) -> None:
    """Record a blob whose content was set."""
    request = _http(arguments["response"]).request
    query = parse_qs(urlsplit(request.url).query)
    operation = query.get("comp", [None])[0]
    if request.method == "PUT" and operation in _WRITING and "restype" not in query:
        _record(WRITE, request.url, arguments["response_headers"], None)


def downloaded(arguments: Arguments) -> None:
    """Record a blob that was read."""
    headers = arguments["headers"]
    match = _TOTAL.fullmatch(str(headers.get("Content-Range") or ""))
    size = int(match[1]) if match else headers.get("Content-Length")
    _record(READ, _http(arguments["response"]).request.url, headers, size)


def _http(response: Any) -> Any:
    return getattr(response, "http_response", response)


def _record(kind: str, url: str, headers: Any, size: int | None) -> None:
    current = sink.current()
    if current.is_muted() or not is_users(sys._getframe(1)):
        return
    parts = urlsplit(url)
    host, path = parts.netloc.rpartition("@")[2], parts.path.removeprefix("/")
    if ".blob." not in host:
        # In Azurite and other emulators the account stands in the path.
        account, _, path = path.partition("/")
        host = f"{account}.blob.core.windows.net"
    container, _, blob = path.partition("/")
    version = headers.get("x-ms-version-id") or str(headers.get("ETag") or "").strip('"') or None
    current.emit_object(
        kind,
        object_uri("wasbs", f"{unquote(container)}@{host}", unquote(blob)),
        "azure",
        size=size,
        version=version,
    )
