"""The azure layer: blobs read and written through azure-storage-blob, and all that use it.

Entries are named as stock MLflow names them, ``wasbs://container@account.../blob``; the names come
from the client's own attributes, so neither keys nor signatures are ever seen.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture.call_stack import is_users
from mlflow_plugins_pack.lineage.capture.event import READ, WRITE

MODULES = ("azure.storage.blob", "azure.storage.blob.aio")
_OPERATIONS = {
    "download_blob": READ,
    "upload_blob": WRITE,
    "commit_block_list": WRITE,
    "upload_blob_from_url": WRITE,
    "append_block": WRITE,
}


def wrap(module: ModuleType) -> None:
    """Wrap the blob client of a module that was just imported."""
    for name, kind in _OPERATIONS.items():
        _look(module.BlobClient, name, kind, is_async=module.__name__.endswith(".aio"))


def _look(owner: Any, name: str, kind: str, *, is_async: bool) -> None:
    original: Callable[..., Any] | None = getattr(owner, name, None)
    if original is None:
        return

    if is_async:

        @functools.wraps(original)
        async def call(client: Any, *args: Any, **kwargs: Any) -> Any:
            users = _is_users()
            result = await original(client, *args, **kwargs)
            if users:
                _record(kind, client, kwargs, result)
            return result

    else:

        @functools.wraps(original)
        def call(client: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(client, *args, **kwargs)
            if _is_users():
                _record(kind, client, kwargs, result)
            return result

    setattr(owner, name, call)


def _is_users() -> bool:
    return not sink.current().is_muted() and is_users(sys._getframe(2))


def _record(kind: str, client: Any, kwargs: dict[str, Any], result: Any) -> None:
    with contextlib.suppress(Exception):
        from mlflow_plugins_pack.lineage.document.graph import object_uri

        # In Azurite and other emulators the account stands in the path, not in the host.
        host = f"{client.account_name}.blob.core.windows.net"
        if ".blob." in client.primary_hostname:
            host = client.primary_hostname
        container = f"{client.container_name}@{host}"
        answer = getattr(result, "properties", result)
        version = _of(answer, "version_id") or kwargs.get("version_id")
        version = version or str(_of(answer, "etag") or "").strip('"') or None
        sink.current().emit_object(
            kind,
            object_uri("wasbs", container, client.blob_name),
            "azure",
            size=_of(answer, "size") if kind == READ else None,
            version=version,
        )


def _of(answer: Any, name: str) -> Any:
    return answer.get(name) if hasattr(answer, "get") else getattr(answer, name, None)
