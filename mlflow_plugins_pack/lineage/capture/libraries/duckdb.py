"""DuckDB: the files that its statements name. DuckDB opens them in C++."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from mlflow_plugins_pack.lineage.capture.event import READ
from mlflow_plugins_pack.lineage.capture.observing.observers import Arguments
from mlflow_plugins_pack.lineage.capture.recording import record, record_database, record_written
from mlflow_plugins_pack.lineage.files import FileState, file_state

_READERS = r"(?:read_\w+|parquet_scan|scan_\w+|\w+_scan|parquet_metadata|parquet_schema|glob)"
_LITERAL = r"'((?:[^']|'')*)'"
_SQL_READ = re.compile(
    rf"(?:\b(?:FROM|JOIN)\s+|\b{_READERS}\s*\(\s*|\bCOPY\s+[\w.\"]+\s+FROM\s+)"
    rf"(\[[^\]]*\]|{_LITERAL})",
    re.IGNORECASE,
)
_SQL_PARAMETER = re.compile(rf"\b{_READERS}\s*\(\s*\[?\s*[?$]", re.IGNORECASE)
_SQL_WRITE = re.compile(rf"\bTO\s+{_LITERAL}\s*(?:\(|;|$)", re.IGNORECASE)
_SQL_ATTACH = re.compile(
    rf"\bATTACH\s+(?:DATABASE\s+)?(?:IF\s+NOT\s+EXISTS\s+)?{_LITERAL}", re.IGNORECASE
)
_SQL_COMMENT = re.compile(rf"({_LITERAL})|--[^\n]*|/\*.*?\*/", re.DOTALL)


class _Files(NamedTuple):
    read: list[str]
    written: list[str]
    attached: list[tuple[str, FileState | None]]
    began: float


def files_of_sql(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return the files that a statement of DuckDB reads, writes, and attaches as databases."""
    if not any(pattern.search(text) for pattern in (_SQL_READ, _SQL_WRITE, _SQL_ATTACH)):
        return [], [], []  # most statements, and the cheapest to tell
    text = _SQL_COMMENT.sub(lambda match: match[1] or " ", text)
    read = [
        literal.replace("''", "'")
        for match in _SQL_READ.finditer(text)
        for literal in re.findall(_LITERAL, match[1])
    ]
    written = [match[1].replace("''", "'") for match in _SQL_WRITE.finditer(text)]
    attached = [match[1].replace("''", "'") for match in _SQL_ATTACH.finditer(text)]
    return read, written, attached


def statement_begins(arguments: Arguments) -> _Files | None:
    """Find the files of a statement, and look at the databases that it attaches."""
    text = arguments.get("query")
    # Or a statement that was parsed before.
    text = text if isinstance(text, str) else getattr(text, "query", None)
    if not isinstance(text, str) or ("'" not in text and "?" not in text and "$" not in text):
        return None
    read, written, attached = files_of_sql(text)
    if _SQL_PARAMETER.search(text):
        read += _texts(arguments.get("parameters") or arguments.get("params"))
    return _Files(read, written, [(path, file_state(path)) for path in attached], time.time())


def _texts(parameters: Any) -> list[str]:
    """Return the texts among parameters; those that do not name a file are not recorded later."""
    if isinstance(parameters, str):
        return [parameters]
    if isinstance(parameters, Mapping):
        parameters = parameters.values()
    elif not isinstance(parameters, (list, tuple)):
        return []
    return [text for value in parameters for text in _texts(value)]


def statement_ends(found: _Files) -> None:
    """Record the files of a statement that was run."""
    for path in found.read:
        record(READ, path)
    for path in found.written:
        record_written(path, found.began)
    for path, state in found.attached:
        record_database(path, state)


def connects(arguments: Arguments) -> tuple[str, FileState | None] | None:
    """Look at a database that is about to be opened."""
    path = arguments.get("database")
    if not isinstance(path, (str, os.PathLike)):
        return None
    name = os.fsdecode(path)
    return name, file_state(name)


def connected(noted: tuple[str, FileState | None]) -> None:
    """Record a database that was opened."""
    record_database(*noted)
