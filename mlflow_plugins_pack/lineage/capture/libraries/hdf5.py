"""HDF5 files, through h5py and PyTables: those that are opened by name, and those they link to.

External links, virtual data sets and those with external storage make HDF5 open further files in
native code. Where these lie is said of ``H5Pset_elink_prefix``, ``H5Pset_virtual`` and
``H5Pset_external`` in HDF5's reference.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from mlflow_plugins_pack.lineage.capture.event import READ, WRITE
from mlflow_plugins_pack.lineage.capture.observing.observers import Arguments
from mlflow_plugins_pack.lineage.capture.recording import expand, record, record_database, where
from mlflow_plugins_pack.lineage.files import file_state

_READ_WRITE = ("a", "r+")
_opened: dict[str, bool] = {}
"""The files that the program opened itself, and whether for writing; the last ones of them."""
_OPENED_LIMIT = 10_000
_MEMBER = re.compile(r"%\d*d")
_BLOCK = re.compile(r"%\d*b")


def opens(arguments: Arguments) -> Any:
    """Record what is read of an HDF5 file: r reads, r+ and a read what exists already.

    Returns:
        The path of a file that is opened for writing, else None.
    """
    path = arguments.get("name", arguments.get("filename"))
    mode = arguments.get("mode") or "r"
    if isinstance(path, (str, bytes, os.PathLike)):
        _note_opened(os.fsdecode(path), mode != "r")
    if arguments.get("driver") == "family":
        path = list(_matches(_MEMBER, os.fsdecode(path)))
    if mode == "r":
        record(READ, path)
    elif mode in _READ_WRITE and where(path) and (state := file_state(path)):
        record_database(path, state)
    return path if mode != "r" else None


def wrote(path: Any) -> None:
    """Record a file that was opened for writing."""
    record(WRITE, path)


def _note_opened(name: str, writes: bool) -> None:
    _opened.pop(name, None)
    _opened[name] = writes
    if len(_opened) > _OPENED_LIMIT:
        _opened.pop(next(iter(_opened)), None)


def dataset_opened(arguments: Arguments) -> None:
    """Record the files from which a data set of h5py comes, unless they were opened by name."""
    from h5py import h5f, h5i

    dataset: Any = arguments["bind"]
    name = os.fsdecode(h5f.get_name(dataset))
    writes = _opened.get(name)
    if writes is None:
        if h5i.get_file_id(dataset).get_intent() == h5f.ACC_RDONLY:
            record(READ, name)
        else:
            record_database(name, file_state(name))
    if writes or dataset.get_offset() is not None:  # its data is stored in this file
        return
    settings = dataset.get_create_plist()
    for number in range(settings.get_external_count()):
        record(READ, os.fsdecode(settings.get_external(number)[0]))
    for source in _virtual_sources(settings):
        same_folder = os.path.join(os.path.dirname(name), source)  # noqa: PTH118, PTH120
        record(READ, list(_matches(_BLOCK, same_folder)) or list(_matches(_BLOCK, source)))


def _virtual_sources(settings: Any) -> set[str]:
    from h5py import h5d

    if settings.get_layout() != h5d.VIRTUAL:
        return set()
    count = settings.get_virtual_count()
    return {settings.get_virtual_filename(number) for number in range(count)} - {"."}


def _matches(number: re.Pattern[str], pattern: str) -> Iterator[str]:
    """Return the files whose names a pattern with numbers stands for."""
    if not number.search(pattern):
        if os.path.exists(pattern):  # noqa: PTH110
            yield pattern
        return
    exact = re.compile(r"\d+".join(re.escape(part) for part in number.split(pattern)))
    yield from (file for file in expand(number.sub("*", pattern)) if exact.fullmatch(file))
