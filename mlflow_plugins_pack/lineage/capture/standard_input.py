"""What a program reads from its standard input where that is a file, as in ``train.py < data.csv``.

No call names the file, but the kernel knows it, and how far it was read.
"""

from __future__ import annotations

import os
import stat

from mlflow_plugins_pack.lineage import sink
from mlflow_plugins_pack.lineage.files import FileState, file_state

_DESCRIPTOR = 0
_LINK = "/proc/self/fd/0"
_position: int | None = None
"""Bytes up to which it was read when that was last looked at; None if it is not a file."""
_is_seen = False


def capture_begins() -> None:
    """Note how far it was read."""
    global _position
    _position = _read_so_far()


def newly_read() -> tuple[str, FileState] | None:
    """Return the file, and its state, if it was read on since the last call or the beginning."""
    global _position, _is_seen
    now = _read_so_far()
    if now is None or _position is None or now == _position:
        return None
    _position = now
    try:
        path, opened = os.readlink(_LINK), os.fstat(_DESCRIPTOR)  # noqa: PTH115
        named = os.stat(path)  # noqa: PTH116
    except OSError:  # it has another name by now, or the system does not say
        return None
    state = file_state(path)
    if state is None or not os.path.samestat(opened, named):
        return None
    _is_seen = True
    return (path, state) if sink.current().is_data(path) else None


def may_be_missed() -> bool:
    """Return whether it is more than a terminal or ``/dev/null``, and no file that is seen."""
    try:
        return not _is_seen and not stat.S_ISCHR(os.fstat(_DESCRIPTOR).st_mode)
    except OSError:
        return False


def _read_so_far() -> int | None:
    try:
        if not stat.S_ISREG(os.fstat(_DESCRIPTOR).st_mode):
            return None
        return os.lseek(_DESCRIPTOR, 0, os.SEEK_CUR)
    except OSError:
        return None
