"""Puts a look behind a library's public function, and records the places it named.

Classes and functions are wrapped in place, so that names imported from a class beforehand are
covered too. What a look does can neither fail nor change the person's call.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import inspect
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.capture.call_stack import is_users
from mlflow_plugins_pack.lineage.capture.event import DATABASE, READ, WRITE
from mlflow_plugins_pack.lineage.files import FileState, file_state

_OBJECT_SCHEMES = {"s3": "s3", "s3a": "s3", "gcs": "gs", "gs": "gs"}
_LOCAL = "local"
_WILDCARDS = "*?["
_FOLDER_LIMIT = 100_000


@dataclass(frozen=True)
class Call:
    """A call that succeeded.

    Attributes:
        args: As given, the object of a method first.
        kwargs: As given.
        result: What it returned.
        before: What the look before the call returned.
        began: Seconds since 1970.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    before: Any
    began: float

    def get(self, index: int, name: str) -> Any:
        """Return an argument by its place or its name, or None."""
        return self.args[index] if len(self.args) > index else self.kwargs.get(name)


def look(
    owner: Any,
    name: str,
    after: Callable[[Call], None],
    before: Callable[[tuple[Any, ...], dict[str, Any]], Any] | None = None,
) -> None:
    """Have a function called after each successful call of another.

    Args:
        owner: Module or class; one that lacks the name is left alone, since libraries change.
        name: The function.
        after: Called with the call.
        before: Called with the arguments before the call.
    """
    original = getattr(owner, name, None)
    if original is None:
        return
    kind = inspect.getattr_static(owner, name)
    if isinstance(kind, (staticmethod, classmethod)):
        original = kind.__func__

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        seen_before = None
        if before is not None:
            with contextlib.suppress(Exception):
                seen_before = before(args, kwargs)
        began = time.time()
        result = original(*args, **kwargs)
        with contextlib.suppress(Exception):
            after(Call(args, kwargs, result, seen_before, began))
        return result

    wrapped: Any = call
    if isinstance(kind, (staticmethod, classmethod)):
        wrapped = type(kind)(call)
    setattr(owner, name, wrapped)
    # Where it is defined too, so that it can still be pickled by its name, and in the package.
    home = getattr(original, "__module__", None) or ""
    package = getattr(owner, "__name__", "").partition(".")[0]
    for place in (sys.modules.get(home), sys.modules.get(package)):
        if place is not None and getattr(place, name, None) is original:
            with contextlib.suppress(AttributeError, TypeError):
                setattr(place, name, wrapped)


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
    elif filesystem is not None:
        # Through fsspec, Python's own open or botocore is called in the end.
        scheme = getattr(filesystem, "type_name", "fsspec")
    else:
        text = os.fsdecode(first)
        scheme = text.partition("://")[0] if "://" in text else _LOCAL
    if scheme in (_LOCAL, "file", "subtree"):
        return _LOCAL
    return _OBJECT_SCHEMES.get(scheme)


def record(kind: str, source: Any, filesystem: Any = None, *, suffixes: Any = None) -> None:
    """Record files that were named to a library, wherever they lie.

    Args:
        kind: `READ` or `WRITE`.
        source: A path, several, or what is no path (which records nothing). Wildcards are
            expanded, folders stand for all their files.
        filesystem: What the library was given as such.
        suffixes: For folders, only files that end so.
    """
    storage = where(source, filesystem)
    if storage is None or not is_users(sys._getframe(1)):
        return
    for item in source if isinstance(source, (list, tuple)) else (source,):
        path = os.fsdecode(item)
        if storage != _LOCAL:
            record_object(kind, storage, path)
            continue
        for file in expand(_plain(path), suffixes):
            record_file(kind, file)


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
    claimed = current.claim(path, kind == WRITE) if current.is_data(path) else None
    if claimed is None:
        return
    state = state or file_state(path)
    if state is not None:
        current.emit_file(claimed, kind, path, state, via="wrap")


def record_object(kind: str, scheme: str, path: str, *, version: str | None = None) -> None:
    """Record one object by its bucket and key, or its URI."""
    from mlflow_plugins_pack.lineage.document.graph import object_uri

    bucket, _, key = path.partition("://")[2 if "://" in path else 0].partition("/")
    uri = object_uri(scheme, bucket.rpartition("@")[2], key.partition("?")[0])
    sink.current().emit_object(kind, uri, "wrap", version=version)


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


def record_fresh(folder: Any, began: float, filesystem: Any = None) -> None:
    """Record those files of a folder as written that changed since a moment."""
    if where(folder, filesystem) != _LOCAL or not is_users(sys._getframe(1)):
        return
    for path in _files_below(_plain(os.fsdecode(folder)), None):
        state = file_state(path)
        # File systems keep coarser times than the clock.
        if state is not None and state.mtime_ns >= (began - 1) * 1_000_000_000:
            record_file(WRITE, path, state)


def reads(owner: Any, name: str, index: int, argument: str, suffixes: Any = None) -> None:
    """Have what a function is given as one of its arguments recorded as read."""
    look(owner, name, lambda call: record(READ, call.get(index, argument), suffixes=suffixes))


def writes(owner: Any, name: str, index: int, argument: str) -> None:
    """Have what a function is given as one of its arguments recorded as written."""
    look(owner, name, lambda call: record(WRITE, call.get(index, argument)))
