"""The audit-hook layer: every open, rename and database connection of the interpreter.

The hook runs inside each ``open`` of the process, in whatever thread and state: it takes no lock,
opens nothing, and ignores what it cannot handle. An audit hook cannot be removed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from mlflow_plugins_pack.lineage.capture import folder_descriptors
from mlflow_plugins_pack.lineage.capture.call_stack import is_users
from mlflow_plugins_pack.lineage.capture.event import DATABASE, MOVE, READ, WRITE
from mlflow_plugins_pack.lineage.capture.noise_filter import NoiseFilter
from mlflow_plugins_pack.lineage.capture.usage import note_program
from mlflow_plugins_pack.lineage.files import file_state

_ACCESS = os.O_WRONLY | os.O_RDWR
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_CHANGES = frozenset({"os.remove", "os.truncate"})

Claim = Callable[[str, bool], Any]
Emit = Callable[..., None]


_STARTS = frozenset({"subprocess.Popen", "os.posix_spawn", "os.system", "os.spawn"})


def install(
    noise: NoiseFilter,
    claim: Claim,
    was_written: Claim,
    is_one_of_many: Callable[[str], bool],
    before_change: Callable[[], None],
    emit: Emit,
    before_child: Callable[[], None] | None,
) -> None:
    """Add the hook.

    Args:
        noise: Judges paths.
        claim: Called with a path and whether it is written; gives what `emit` needs to know of the
            thread's runs, or None if nothing is to be recorded.
        was_written: The same, for a file that is renamed.
        is_one_of_many: Called first with the path of each file that is read; may record it, and
            returns whether it did.
        before_change: Called before a file is written, cut, renamed or removed.
        emit: Takes what was seen: the claim, kind, path, state and, for `MOVE`, the former path.
        before_child: Called before another program is started; may be None.
    """
    is_data = noise.is_data
    writing, reading = _WRITING, READ
    getframe = sys._getframe

    def opened(path: Any, mode: Any, flags: int) -> None:
        if path.__class__ is not str:
            if path.__class__ is int:
                return
            path = os.fsdecode(path)
        if path[:1] != "/":
            # Only `os.open` has no mode.
            if mode is None and folder_descriptors.is_named_in(frame := getframe(2)):
                creates = flags & os.O_CREAT != 0
                path = folder_descriptors.found_below(path, frame, creates=creates)
                if path is None:
                    return
            else:
                path = os.path.abspath(path)  # noqa: PTH100
            if not flags & writing and is_one_of_many(path):
                return
        elif "//" in path or "/." in path:
            path = os.path.normpath(path)
        if not is_data(path):
            return
        writes = flags & writing != 0
        if writes:
            before_change()
        claimed = claim(path, writes)
        if claimed is None or not is_users(getframe(2)):
            return
        if not writes and claimed.seen.is_full():
            claimed.seen.add(path)
            claimed.seen.trust(path)
            return
        state = file_state(path)
        if not writes:
            if state is not None:
                emit(claimed, reading, path, state)
        elif state is not None or not os.path.exists(path):  # noqa: PTH110
            if flags & os.O_RDWR and state is not None and not flags & os.O_TRUNC:
                emit(claimed, READ, path, state)
            emit(claimed, WRITE, path, state)

    def connected(database: Any) -> None:
        path = os.fsdecode(database)
        if path.startswith("file:"):
            from urllib.parse import unquote, urlsplit

            parts = urlsplit(path)
            if "mode=memory" in parts.query:
                return
            path = unquote(parts.path)
        if not path or path == ":memory:":
            return
        path = os.path.abspath(path)  # noqa: PTH100
        if not is_data(path):
            return
        claimed = claim(path, False)
        if claimed is not None and is_users(getframe(2)):
            emit(claimed, DATABASE, path, file_state(path))

    def named_otherwise(kind: str, names: Any, folders: Any) -> None:
        source, target = map(folder_descriptors.located, map(os.fsdecode, names), folders)
        before_change()
        if source is None or target is None or not is_data(target):
            return
        claimed = was_written(source, True)
        if claimed is not None:
            emit(claimed, kind, target, None, source if kind == MOVE else None)
            return
        # A file that tempfile made counts from when it gets its name.
        claimed = claim(target, True)
        if claimed is not None and is_users(getframe(2)) and not os.path.isdir(source):  # noqa: PTH112
            emit(claimed, WRITE, target, None)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        try:
            if event == "open":
                path, mode, flags = args
                if flags & writing or path.__class__ is not str or not is_one_of_many(path):
                    opened(path, mode, flags)
            elif event == "sqlite3.connect":
                connected(args[0])
            elif event == "os.rename":
                named_otherwise(MOVE, args[:2], args[2:])
            elif event == "os.link":
                named_otherwise(WRITE, args[:2], args[2:])
            elif event in _CHANGES:
                before_change()
            elif event in _STARTS:
                note_program(event, args, getframe(1))
                if before_child is not None:
                    before_child()
        except Exception:  # noqa: BLE001, S110  # a hook that raises makes the user's open fail
            pass

    sys.addaudithook(hook)
