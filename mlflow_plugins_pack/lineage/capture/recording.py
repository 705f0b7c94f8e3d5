"""Records the places that a library's function was given: paths, folders, patterns, URIs."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture.call_stack import is_users
from mlflow_plugins_pack.lineage.capture.event import DATABASE, EITHER, READ, WRITE
from mlflow_plugins_pack.lineage.files import FileState, file_state

_OBJECT_SCHEMES = {"s3": "s3", "s3a": "s3", "gcs": "gs", "gs": "gs"}
_LOCAL = "local"
_WILDCARDS = "*?["
_FOLDER_LIMIT = 100_000


def where(source: Any, filesystem: Any = None) -> str | None:
    """Return where named files lie: ``local``, a scheme, or None if another layer sees them.

    Told by the arguments: asking a pyarrow dataset for its file system ends the process (25.0)
    when it was made of an open file.
    """
    first = next(iter(source), None) if isinstance(source, (list, tuple)) else source
    if isinstance(first, bytes) or not isinstance(first, (str, os.PathLike)):
        return None
    if isinstance(filesystem, str):
        scheme = filesystem.partition("://")[0]
    elif filesystem is not None and not isinstance(filesystem, Mapping):
        # Through fsspec, Python's own open or botocore is called in the end.
        scheme = getattr(filesystem, "type_name", "fsspec")
    else:
        text = os.fsdecode(first)
        scheme = text.partition("://")[0] if "://" in text else _LOCAL
    if scheme in (_LOCAL, "file"):
        return _LOCAL
    return _OBJECT_SCHEMES.get(scheme)


def record(kind: str, source: Any, filesystem: Any = None, *, suffixes: Any = None) -> None:
    """Record files that were named to a library, wherever they lie.

    Args:
        kind: `READ`, `WRITE` or `EITHER`.
        source: A path, several, or anything else, which records nothing. Wildcards are expanded,
            folders stand for all their files.
        filesystem: What the library was given as such.
        suffixes: For folders, only files that end so.
    """
    below, filesystem = _unwrapped(filesystem)
    storage = where(source, filesystem)
    if storage is None or not is_users(sys._getframe(1)):
        return
    for item in source if isinstance(source, (list, tuple)) else (source,):
        path = f"{below}{os.fsdecode(item)}"
        if storage != _LOCAL:
            record_object(kind, storage, path, access=filesystem)
            continue
        place = _plain(path)
        if kind == EITHER:
            if not os.path.isdir(place):  # noqa: PTH112
                record_file(kind, place)
            continue
        for file in expand(place, suffixes):
            record_file(kind, file)


def _unwrapped(filesystem: Any) -> tuple[str, Any]:
    """Return the folder that a file system of pyarrow stands for, and the one behind it."""
    below = ""
    while getattr(filesystem, "type_name", "") == "subtree":
        below = f"{filesystem.base_path}{below}"
        filesystem = filesystem.base_fs
    return below, filesystem


def _plain(path: str) -> str:
    return os.path.abspath(path.removeprefix("file://"))  # noqa: PTH100


def expand(path: str, suffixes: Any = None) -> Iterable[str]:
    """Return the files that a path stands for: itself, a pattern's matches, a folder's content."""
    if os.path.isfile(path):  # noqa: PTH113
        return [path]
    if os.path.isdir(path):  # noqa: PTH112
        return _files_below(path, suffixes)
    if any(letter in path for letter in _WILDCARDS):
        return [f for match in glob.glob(path, recursive=True) for f in expand(match, suffixes)]  # noqa: PTH207
    return [path]


def _files_below(folder: str, suffixes: Any) -> list[str]:
    found: list[str] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[:1] not in ("_", "."))
        found += [
            os.path.join(place, name)  # noqa: PTH118
            for name in sorted(names)
            if name[:1] not in ("_", ".") and (not suffixes or name.endswith(suffixes))
        ]
        if len(found) > _FOLDER_LIMIT:
            break
    return found


def record_file(kind: str, path: str, state: FileState | None = None) -> None:
    """Record one local file by its absolute path; the caller has judged the call stack."""
    current = sink.current()
    claimed = current.claim(path, kind != READ) if current.is_data(path) else None
    if claimed is None:
        return
    state = state or file_state(path)
    if state is not None or (kind == EITHER and not os.path.exists(path)):  # noqa: PTH110
        current.emit_file(claimed, kind, path, state, via="wrap")


def record_object(kind: str, scheme: str, path: str, *, access: Any = None) -> None:
    """Record one object by its bucket and key, or its URI.

    Args:
        kind: `READ` or `WRITE`.
        scheme: ``s3`` or ``gs``.
        path: Bucket and key, or the URI.
        access: What the library was given to get at it.
    """
    from mlflow_plugins_pack.lineage.capture import s3_objects
    from mlflow_plugins_pack.lineage.document.graph import object_uri

    bucket, _, key = path.partition("://")[2 if "://" in path else 0].partition("/")
    bucket = bucket.rpartition("@")[2]
    if scheme == "s3":
        s3_objects.remember(bucket, None if isinstance(access, str) else access)
    uri = object_uri(scheme, bucket, key.partition("?")[0])
    sink.current().emit_object(kind, uri, "wrap")


def record_database(path: Any, state: FileState | None) -> None:
    """Record a database file; one that was not there before is one that the program makes."""
    if not isinstance(path, (str, os.PathLike)) or not is_users(sys._getframe(1)):
        return
    name = os.fsdecode(path)
    if not name or name.startswith(":memory:") or "://" in name:
        return
    local, current = _plain(name), sink.current()
    claimed = current.claim(local, False) if current.is_data(local) else None
    if claimed is not None:
        current.emit_file(claimed, DATABASE, local, state, via="wrap")


def record_written(target: Any, began: float, filesystem: Any = None) -> None:
    """Record a file that was written, or those files of a folder that changed since a moment.

    Args:
        target: A path, or anything else, which records nothing.
        began: Seconds since 1970.
        filesystem: What the library was given as such.
    """
    below, inner = _unwrapped(filesystem)
    if where(target, inner) != _LOCAL:
        record(WRITE, target, filesystem)
        return
    if not is_users(sys._getframe(1)):
        return
    place = _plain(f"{below}{os.fsdecode(target)}")
    if not os.path.isdir(place):  # noqa: PTH112
        record_file(WRITE, place)
        return
    for path in _files_below(place, None):
        state = file_state(path)
        # File systems keep coarser times than the clock.
        if state is not None and state.mtime_ns >= (began - 1) * 1_000_000_000:
            record_file(WRITE, path, state)
