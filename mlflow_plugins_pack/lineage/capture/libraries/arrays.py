"""Arrays, images, weights and models: libraries that open files in native code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture.call_stack import is_users
from mlflow_plugins_pack.lineage.capture.event import READ, WRITE
from mlflow_plugins_pack.lineage.capture.wrapping import (
    Call,
    look,
    reads,
    record,
    record_database,
    where,
    writes,
)
from mlflow_plugins_pack.lineage.files import FileState, file_state


def wrap(module: ModuleType) -> None:
    """Wrap the readers and writers of a module that was just imported."""
    _WRAPPERS[module.__name__](module)


def _state_before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> FileState | None:
    path = args[1] if len(args) > 1 else kwargs.get("name", kwargs.get("filename", ""))
    return file_state(path)


def _hdf5_opened(call: Call, name: str, default: str) -> None:
    """Tell from the mode: r reads, w and x write, r+ and a do what was there to do."""
    path, mode = call.get(1, name), call.get(2, "mode") or default
    if mode == "r":
        record(READ, path)
    elif mode[:1] in ("w", "x") or call.before is None:
        record(WRITE, path)
    else:
        record_database(path, call.before)
        record(WRITE, path)


def _h5py(module: Any) -> None:
    look(module.File, "__init__", lambda call: _hdf5_opened(call, "name", "r"), _state_before)


def _pytables(module: Any) -> None:
    look(module.File, "__init__", lambda call: _hdf5_opened(call, "filename", "r"), _state_before)


def _cv2(module: Any) -> None:
    for name in ("imread", "imreadmulti", "imcount", "imreadanimation"):
        look(module, name, _cv2_read)
    for name in ("imwrite", "imwritemulti", "imwriteanimation"):
        look(module, name, _cv2_wrote)


def _cv2_read(call: Call) -> None:
    # A file that is no image gives None and no exception.
    if call.result is not None:
        record(READ, call.get(0, "filename"))


def _cv2_wrote(call: Call) -> None:
    if call.result:
        record(WRITE, call.get(0, "filename"))


def _safetensors(module: Any) -> None:
    reads(module, "safe_open", 0, "filename")


def _safetensors_files(module: Any) -> None:
    for name in ("load_file", "load_model"):
        index = 0 if name == "load_file" else 1
        reads(module, name, index, "filename")
    for name in ("save_file", "save_model"):
        writes(module, name, 1, "filename")


def _torch(module: Any) -> None:
    # `load` with mmap=True and `save` open the file in C++.
    reads(module, "load", 0, "f")
    writes(module, "save", 1, "f")


def _xgboost(module: Any) -> None:
    def matrix_made(call: Call) -> None:
        data = call.get(1, "data")
        if where(data):
            # "train.svm?format=libsvm#cache"
            record(READ, os.fsdecode(data).partition("#")[0].partition("?")[0])

    look(module.DMatrix, "__init__", matrix_made)
    reads(module.Booster, "load_model", 1, "fname")
    look(module.Booster, "__init__", lambda call: record(READ, call.get(3, "model_file")))
    writes(module.Booster, "save_model", 1, "fname")


def _lightgbm(module: Any) -> None:
    reads(module.Dataset, "__init__", 1, "data")
    look(module.Booster, "__init__", lambda call: record(READ, call.get(3, "model_file")))
    writes(module.Booster, "save_model", 1, "filename")
    writes(module.Dataset, "save_binary", 1, "filename")


def _delta_table(module: Any) -> None:
    look(module.DeltaTable, "__init__", lambda call: _delta(READ, call.args[0]))


def _delta_writer(module: Any) -> None:
    def wrote(call: Call) -> None:
        from deltalake import DeltaTable

        target = call.get(0, "table_or_uri")
        if not isinstance(target, DeltaTable):
            with sink.current().muted():
                target = DeltaTable(target, storage_options=call.kwargs.get("storage_options"))
        _delta(WRITE, target)

    look(module, "write_deltalake", wrote)


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


def _datasets(module: Any) -> None:
    def loaded(call: Call) -> None:
        result = call.result
        parts = result.values() if isinstance(result, dict) else [result]
        for part in parts:
            # A warm cache opens none of them.
            for source in getattr(part.info, "download_checksums", None) or ():
                _hub_file(str(source))

    def loaded_from_disk(call: Call) -> None:
        result = call.result
        parts = result.values() if isinstance(result, dict) else [result]
        for part in parts:
            record(READ, [file["filename"] for file in part.cache_files])

    look(module, "load_dataset", loaded)
    look(module, "load_from_disk", loaded_from_disk)


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


_WRAPPERS: dict[str, Callable[[Any], None]] = {
    "h5py": _h5py,
    "tables.file": _pytables,
    "cv2": _cv2,
    "safetensors": _safetensors,
    "safetensors.numpy": _safetensors_files,
    "safetensors.torch": _safetensors_files,
    "torch.serialization": _torch,
    "xgboost.core": _xgboost,
    "lightgbm.basic": _lightgbm,
    "deltalake.table": _delta_table,
    "deltalake.writer.writer": _delta_writer,
    "datasets.load": _datasets,
}
MODULES = tuple(_WRAPPERS)
