"""What a row of the table cannot say of arrays, models, Delta tables and hub data sets."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture.call_stack import is_users
from mlflow_plugins_pack.lineage.capture.event import READ, WRITE
from mlflow_plugins_pack.lineage.capture.observing.observers import Arguments
from mlflow_plugins_pack.lineage.capture.recording import record, record_written, where


def map_opens(arguments: Arguments) -> Any:
    """Record a memory map that is read; return the path of one that is written, else None."""
    path, mode = arguments.get("path"), arguments.get("mode") or "r"
    if not mode.startswith("w"):
        record(READ, path)
    return path if mode != "r" else None


def map_wrote(path: Any) -> None:
    """Record a memory map that is written."""
    record(WRITE, path)


def copy_begins(arguments: Arguments) -> tuple[Any, float, Any]:
    """Record a file that pyarrow copies; return the copy, the time and the file system."""
    filesystem = arguments["self"]
    record(READ, arguments["src"], filesystem)
    return arguments["dest"], time.time(), filesystem


def copied(noted: tuple[Any, float, Any]) -> None:
    """Record a copy that pyarrow made."""
    record_written(*noted)


def xgboost_matrix(arguments: Arguments) -> None:
    """Record the file of a matrix, named such as ``train.svm?format=libsvm#cache``."""
    data: Any = arguments.get("data")
    if where(data):
        record(READ, os.fsdecode(data).partition("#")[0].partition("?")[0])


def delta_opened(arguments: Arguments) -> None:
    """Record a Delta table that was opened, in the version that was opened."""
    _delta(READ, arguments["self"])


def delta_writes(arguments: Arguments) -> tuple[Any, Any]:
    """Return the Delta table that is written, and the options of its storage."""
    return arguments["table_or_uri"], arguments.get("storage_options")


def delta_wrote(noted: tuple[Any, Any]) -> None:
    """Record a Delta table that was written, in the version that it has now."""
    from deltalake import DeltaTable

    target, options = noted
    if not isinstance(target, DeltaTable):
        with sink.current().muted():
            target = DeltaTable(target, storage_options=options)
    _delta(WRITE, target)


def _delta(kind: str, table: Any) -> None:
    """Record a table as its folder, its version as the version."""
    from mlflow_plugins_pack.lineage.document.graph import object_uri, without_secrets

    if not is_users(sys._getframe(1)):
        return
    uri = without_secrets(str(table.table_uri)).rstrip("/") + "/"
    current = sink.current()
    if uri.startswith("file://") or "://" not in uri:
        if not current.is_data(uri.removeprefix("file://") + "_delta_log"):
            return
    else:
        scheme, _, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        uri = object_uri(scheme, bucket, key)
    current.emit_object(kind, uri, "wrap", version=f"delta:{table.version()}")


def hub_dataset(arguments: Arguments) -> None:
    """Record the files that a data set was made of; a warm cache opens none of them."""
    builder = arguments["self"]
    files = getattr(builder.config, "data_files", None) or {}
    named = [name for names in files.values() for name in names] if hasattr(files, "values") else []
    fetched = getattr(builder.info, "download_checksums", None) or ()
    for source in dict.fromkeys((*map(str, named), *map(str, fetched))):
        _hub_file(source)


def _hub_file(source: str) -> None:
    from mlflow_plugins_pack.lineage.document.graph import without_secrets

    if source.startswith("hf://"):
        # hf://datasets/owner/name@revision/path
        place, at, rest = source.partition("@")
        revision, _, path = rest.partition("/")
        uri = f"{place}/{path}" if at else source
        sink.current().emit_object(READ, uri, "wrap", version=revision or None)
    elif source.startswith(("http://", "https://")):
        sink.current().emit_object(READ, without_secrets(source), "wrap")
    elif "://" not in source or source.startswith("file://"):
        record(READ, source)
