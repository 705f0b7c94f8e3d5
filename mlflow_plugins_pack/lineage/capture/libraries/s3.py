"""The botocore layer: what is read from and written to S3, by boto3, s3fs and all that use them.

Registered through botocore's public `register_initializer`, so each session has it. Clients that
MLflow or the pack makes for artifacts are recognised when they are made, by their caller, and the
handlers are taken off their own event system; worker threads of a transfer need no telling apart.
"""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture.call_stack import is_users
from mlflow_plugins_pack.lineage.capture.event import READ, WRITE

_READS = ("GetObject", "SelectObjectContent")
_WRITES = ("PutObject", "CompleteMultipartUpload", "CopyObject")
_KEY = "mlflow_pack_lineage"
_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")


def register(_module: ModuleType) -> None:
    """Have every botocore session from now on report what it reads and writes."""
    import botocore

    botocore.register_initializer(_new_session)


def _new_session(botocore_session: Any) -> None:
    for operation in (*_READS, *_WRITES):
        botocore_session.register(f"provide-client-params.s3.{operation}", _asked)
        botocore_session.register(f"after-call.s3.{operation}", _answered)
    botocore_session.register("creating-client-class.s3", _creating_client)


def _creating_client(base_classes: list[type], **_: Any) -> None:
    if sink.current().is_muted() or not is_users(sys._getframe(1)):
        base_classes.insert(0, _Unseen)


class _Unseen:
    """Put before the base classes of a client whose traffic is MLflow's own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for operation in (*_READS, *_WRITES):
            events = self.meta.events  # type: ignore[attr-defined]
            events.unregister(f"provide-client-params.s3.{operation}", _asked)
            events.unregister(f"after-call.s3.{operation}", _answered)


def _asked(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    context[_KEY] = (params.get("Bucket"), params.get("Key"), params.get("VersionId"))


def _answered(parsed: dict[str, Any], context: dict[str, Any], model: Any, **_: Any) -> None:
    try:
        from mlflow_plugins_pack.lineage.document.graph import object_uri

        bucket, key, version = context.get(_KEY) or (None, None, None)
        current = sink.current()
        failed = parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) >= 300
        if not bucket or not key or failed or current.is_muted():
            return
        version = parsed.get("VersionId") or version
        # The version that a bucket without versioning reports names no content.
        if not version or version == "null":
            etag = parsed.get("ETag") or (parsed.get("CopyObjectResult") or {}).get("ETag")
            version = str(etag).strip('"') if etag else None
        kind = READ if model.name in _READS else WRITE
        uri = object_uri("s3", str(bucket), str(key))
        size = _size(parsed) if kind == READ else None
        current.emit_object(kind, uri, "boto", size=size, version=version)
    except Exception:  # noqa: BLE001, S110  # the user's request succeeded; ours may not spoil it
        pass


def _size(parsed: dict[str, Any]) -> int | None:
    if match := _TOTAL.fullmatch(str(parsed.get("ContentRange", ""))):
        return int(match[1])
    length = parsed.get("ContentLength")
    return int(length) if isinstance(length, int) else None
