"""Tables: pyarrow, pandas, polars, duckdb and Delta, which open files outside Python's own open."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mlflow_plugins_pack.lineage.capture.event import READ, WRITE
from mlflow_plugins_pack.lineage.capture.wrapping import (
    Call,
    look,
    reads,
    record,
    record_database,
    record_fresh,
    where,
    writes,
)
from mlflow_plugins_pack.lineage.files import file_state

_PARQUET = (".parquet", ".pq", ".parq")


def wrap(module: ModuleType) -> None:
    """Wrap the readers and writers of a module that was just imported."""
    _WRAPPERS[module.__name__](module)


# --- pyarrow and pandas ---------------------------------------------------------------------------


def _pyarrow(module: Any) -> None:
    reads(module, "memory_map", 0, "path")

    class OSFile(module.OSFile):
        """`pyarrow.OSFile` that says what it opens; the C class cannot be wrapped in place."""

        def __init__(self, path: Any, mode: str = "r", *_: Any, **__: Any) -> None:
            record(READ if mode.startswith("r") else WRITE, path)

    OSFile.__module__, OSFile.__qualname__ = "pyarrow", "OSFile"
    module.OSFile = OSFile


def _parquet(module: Any) -> None:
    def dataset_opened(call: Call) -> None:
        if where(call.get(1, "path_or_paths"), call.get(2, "filesystem")):
            record(READ, list(call.args[0].files), call.get(2, "filesystem"))

    look(module.ParquetDataset, "__init__", dataset_opened)
    look(
        module.ParquetFile,
        "__init__",
        lambda call: record(READ, call.get(1, "source"), call.kwargs.get("filesystem")),
    )
    look(
        module.ParquetWriter,
        "__init__",
        lambda call: record(WRITE, call.get(1, "where"), call.get(3, "filesystem")),
    )


def _dataset(module: Any) -> None:
    def opened(call: Call) -> None:
        source, filesystem = call.get(0, "source"), call.get(3, "filesystem")
        if where(source, filesystem):
            record(READ, list(getattr(call.result, "files", ())), filesystem)

    look(module, "dataset", opened)
    look(
        module,
        "write_dataset",
        lambda call: record_fresh(call.get(1, "base_dir"), call.began, call.get(8, "filesystem")),
    )


def _pandas_parquet(module: Any) -> None:
    # pandas opens the file in C++ and gives pyarrow no name.
    look(
        module,
        "to_parquet",
        lambda call: record(WRITE, call.get(1, "path"), call.kwargs.get("filesystem")),
    )


def _arrow_csv(module: Any) -> None:
    reads(module, "read_csv", 0, "input_file")
    reads(module, "open_csv", 0, "input_file")
    writes(module, "write_csv", 1, "output_file")


def _arrow_json(module: Any) -> None:
    reads(module, "read_json", 0, "input_file")
    reads(module, "open_json", 0, "input_file")


def _feather(module: Any) -> None:
    reads(module, "read_table", 0, "source")
    writes(module, "write_feather", 1, "dest")


def _orc(module: Any) -> None:
    reads(module.ORCFile, "__init__", 1, "source")
    look(
        module,
        "read_table",
        lambda call: record(READ, call.get(0, "source"), call.get(2, "filesystem")),
    )
    writes(module.ORCWriter, "__init__", 1, "where")


# --- polars ---------------------------------------------------------------------------------------


def _polars(module: Any) -> None:
    for kind, suffixes in (
        ("csv", None),
        ("parquet", _PARQUET),
        ("ipc", None),
        ("ndjson", None),
        ("lines", None),
    ):
        reads(module, f"read_{kind}", 0, "source", suffixes)
        # A plan that is made is a read that will be: what runs it is not one function.
        reads(module, f"scan_{kind}", 0, "source", suffixes)
    for kind in ("json", "avro", "excel", "ods", "ipc_stream"):
        reads(module, f"read_{kind}", 0, "source")
    for kind in ("csv", "parquet", "ipc", "ipc_stream", "ndjson", "json", "avro", "excel"):
        look(module.DataFrame, f"write_{kind}", _polars_wrote)
        look(module.LazyFrame, f"sink_{kind}", _polars_wrote)


def _polars_wrote(call: Call) -> None:
    target = call.get(1, "path")
    target = call.kwargs.get("file", call.kwargs.get("workbook")) if target is None else target
    if where(target) == "local":
        record_fresh_or_file(target, call.began)
    else:
        record(WRITE, target)


def record_fresh_or_file(target: Any, began: float) -> None:
    """Record a file, or what is new in a folder."""
    import os

    if os.path.isdir(target):  # noqa: PTH112
        record_fresh(target, began)
    else:
        record(WRITE, target)


# --- duckdb ---------------------------------------------------------------------------------------

_READERS = r"(?:read_\w+|parquet_scan|scan_\w+|\w+_scan|parquet_metadata|parquet_schema|glob)"
_LITERAL = r"'((?:[^']|'')*)'"
_LITERALS = rf"(?:\[\s*{_LITERAL}(?:\s*,\s*{_LITERAL})*\s*\]|{_LITERAL})"
_SQL_READ = re.compile(
    rf"(?:\b(?:FROM|JOIN)\s+|\b{_READERS}\s*\(\s*|\bCOPY\s+[\w.\"]+\s+FROM\s+)"
    rf"(\[[^\]]*\]|{_LITERAL})",
    re.IGNORECASE,
)
_SQL_WRITE = re.compile(rf"\bTO\s+{_LITERAL}\s*(?:\(|;|$)", re.IGNORECASE)
_SQL_ATTACH = re.compile(
    rf"\bATTACH\s+(?:DATABASE\s+)?(?:IF\s+NOT\s+EXISTS\s+)?{_LITERAL}", re.IGNORECASE
)
_SQL_COMMENT = re.compile(rf"({_LITERAL})|--[^\n]*|/\*.*?\*/", re.DOTALL)


def files_of_sql(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return the files that a statement of DuckDB reads, writes, and attaches as databases."""
    text = _SQL_COMMENT.sub(lambda match: match[1] or " ", text)
    read = [
        literal.replace("''", "'")
        for match in _SQL_READ.finditer(text)
        for literal in re.findall(_LITERAL, match[1])
    ]
    written = [match[1].replace("''", "'") for match in _SQL_WRITE.finditer(text)]
    attached = [match[1].replace("''", "'") for match in _SQL_ATTACH.finditer(text)]
    return read, written, attached


def _duckdb(module: Any) -> None:
    look(
        module,
        "connect",
        lambda call: record_database(call.get(0, "database"), call.before),
        lambda args, kwargs: file_state(args[0] if args else kwargs.get("database", "")),
    )
    for owner, first in ((module, 0), (module.DuckDBPyConnection, 1)):
        for name in ("sql", "query", "execute", "executemany", "from_query"):
            look(owner, name, _duckdb_ran(first), _duckdb_runs(first))
        for name in (
            *("read_csv", "read_parquet", "read_json"),
            *("from_csv_auto", "from_parquet"),
        ):
            look(owner, name, _duckdb_read(first))
    for name in ("write_parquet", "to_parquet", "write_csv", "to_csv"):
        look(module.DuckDBPyRelation, name, _duckdb_wrote)


def _duckdb_read(first: int) -> Callable[[Call], None]:
    def read(call: Call) -> None:
        source = call.get(first, "path_or_buffer")
        for name in ("file_glob", "file_globs", "source", "name"):
            source = call.kwargs.get(name) if source is None else source
        record(READ, source)

    return read


def _duckdb_wrote(call: Call) -> None:
    target = call.get(1, "file_name")
    for name in ("path", "target"):
        target = call.kwargs.get(name) if target is None else target
    record_fresh_or_file(target, call.began)


def _duckdb_runs(first: int) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    def runs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        text = args[first] if len(args) > first else kwargs.get("query")
        if not isinstance(text, str) or "'" not in text:
            return None
        read, written, attached = files_of_sql(text)
        return read, written, [(path, file_state(path)) for path in attached]

    return runs


def _duckdb_ran(_first: int) -> Callable[[Call], None]:
    def ran(call: Call) -> None:
        if call.before is None:
            return
        read, written, attached = call.before
        for path in read:
            record(READ, path)
        for path in written:
            record_fresh_or_file(path, call.began)
        for path, state in attached:
            record_database(path, state)

    return ran


_WRAPPERS: dict[str, Callable[[Any], None]] = {
    "pyarrow": _pyarrow,
    "pyarrow.parquet.core": _parquet,
    "pyarrow.dataset": _dataset,
    "pyarrow.csv": _arrow_csv,
    "pyarrow.json": _arrow_json,
    "pyarrow.feather": _feather,
    "pyarrow.orc": _orc,
    "pandas.io.parquet": _pandas_parquet,
    "polars": _polars,
    "duckdb": _duckdb,
}
MODULES = tuple(_WRAPPERS)
