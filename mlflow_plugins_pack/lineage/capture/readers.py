"""The wrapped-readers layer: libraries that open files outside Python's own open.

Classes are wrapped in place, so that names imported from the module beforehand are covered too.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from mlflow_plugins_pack.lineage import session
from mlflow_plugins_pack.lineage.capture.audit import file_state
from mlflow_plugins_pack.lineage.capture.event import READ, WRITE
from mlflow_plugins_pack.lineage.capture.frames import is_users

_OBJECT_SCHEMES = {"s3": "s3", "gcs": "gs", "gs": "gs"}
_LOCAL = "local"


def wrap(module: ModuleType) -> None:
    """Wrap the readers and writers of a module that was just imported."""
    if module.__name__ == "pyarrow.parquet.core":
        _after(module.ParquetDataset, "__init__", _parquet_dataset_opened)
        _after(module.ParquetFile, "__init__", _parquet_file_opened)
        _after(module.ParquetWriter, "__init__", _parquet_writer_opened)
    elif module.__name__ == "pyarrow.dataset":
        _after(module, "dataset", _dataset_opened)
    elif module.__name__ == "pandas.io.parquet":
        # pandas opens the file in C++ and gives pyarrow no name.
        _after(module, "to_parquet", _pandas_wrote)


def _after(
    owner: Any, name: str, seen: Callable[[tuple[Any, ...], dict[str, Any], Any], None]
) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        # The person's call succeeded; whatever ours does may not spoil it.
        with contextlib.suppress(Exception):
            seen(args, kwargs, result)
        return result

    setattr(owner, name, call)


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], index: int, name: str) -> Any:
    return args[index] if len(args) > index else kwargs.get(name)


def _parquet_dataset_opened(args: tuple[Any, ...], kwargs: dict[str, Any], _result: Any) -> None:
    source = _argument(args, kwargs, 1, "path_or_paths")
    if kind := _storage(source, _argument(args, kwargs, 2, "filesystem")):
        _record(READ, args[0].files, kind)


def _dataset_opened(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
    source = _argument(args, kwargs, 0, "source")
    if kind := _storage(source, _argument(args, kwargs, 3, "filesystem")):
        _record(READ, getattr(result, "files", ()), kind)


def _parquet_file_opened(args: tuple[Any, ...], kwargs: dict[str, Any], _result: Any) -> None:
    source = _argument(args, kwargs, 1, "source")
    if kind := _storage(source, kwargs.get("filesystem")):
        _record(READ, [source], kind)


def _parquet_writer_opened(args: tuple[Any, ...], kwargs: dict[str, Any], _result: Any) -> None:
    where = _argument(args, kwargs, 1, "where")
    if kind := _storage(where, _argument(args, kwargs, 3, "filesystem")):
        _record(WRITE, [where], kind)


def _pandas_wrote(args: tuple[Any, ...], kwargs: dict[str, Any], _result: Any) -> None:
    where = _argument(args, kwargs, 1, "path")
    if kind := _storage(where, kwargs.get("filesystem")):
        _record(WRITE, [where], kind)


def _storage(source: Any, filesystem: Any) -> str | None:
    """Return where the named files lie: ``local``, a scheme, or None if another layer sees them.

    Told by the arguments: asking a dataset for its file system ends the process (pyarrow 25) when
    it was made of an open file.
    """
    first = next(iter(source), None) if isinstance(source, (list, tuple)) else source
    if not isinstance(first, (str, os.PathLike)):
        return None
    if isinstance(filesystem, str):
        scheme = filesystem.partition("://")[0]
    elif filesystem is not None:
        # Through fsspec, Python's own open or botocore is called in the end.
        scheme = getattr(filesystem, "type_name", "fsspec")
    else:
        text = os.fsdecode(first)
        scheme = text.partition("://")[0] if "://" in text else _LOCAL
    if scheme in (_LOCAL, "file", "subtree"):
        return _LOCAL
    return _OBJECT_SCHEMES.get(scheme)


def _record(kind: str, files: Iterable[Any], storage: str) -> None:
    current = session.current()
    if not is_users(sys._getframe(1)):
        return
    for file in files:
        path = os.fsdecode(file)
        if storage != _LOCAL:
            from mlflow_plugins_pack.lineage.graph import object_uri

            bucket, _, key = path.partition("://")[2 if "://" in path else 0].partition("/")
            uri = object_uri(storage, bucket, key.partition("?")[0])
            current.emit_object(kind, uri, "wrap")
            continue
        local = os.path.abspath(path.removeprefix("file://"))  # noqa: PTH100
        claimed = current.claim(local, kind == WRITE) if current.noise.is_data(local) else None
        state = file_state(local) if claimed is not None else None
        if claimed is not None and state is not None:
            current.emit_file(claimed, kind, local, state, via="wrap")
