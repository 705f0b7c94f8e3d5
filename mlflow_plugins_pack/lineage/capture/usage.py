"""What the user's program uses that no layer sees into: libraries it imports, programs it runs.

That a library is loaded proves nothing: MLflow itself loads many. It counts as used if the user's
code was first to import it, if it was loaded before the capture began, or if the main module holds
it under a name.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from types import FrameType
from typing import Any

from mlflow_plugins_pack.lineage.capture.call_stack import is_users, passes_through

watched: set[str] = set()
"""Libraries of which `note_import` is told."""
_imported_by_user: set[str] = set()
_loaded_before: set[str] = set()
_programs: Counter[str] = Counter()

_WITH_OWN_LAYER = ("/sqlalchemy/",)
_PROGRAMS_LIMIT = 20
# Programs that read no data, or none that is an input.
_HARMLESS = frozenset(
    (
        "clear",
        "date",
        "df",
        "du",
        "echo",
        "env",
        "free",
        "git",
        "hostname",
        "id",
        "kill",
        "ldconfig",
        "ls",
        "lscpu",
        "lspci",
        "mkdir",
        "nproc",
        "nvidia-smi",
        "pip",
        "pip3",
        "ps",
        "pwd",
        "rm",
        "rmdir",
        "sleep",
        "sw_vers",
        "sysctl",
        "true",
        "uname",
        "which",
        "whoami",
    )
)


def watch(libraries: Iterable[str]) -> None:
    """Begin to note who imports some libraries."""
    watched.update(libraries)
    _loaded_before.update(name for name in watched if name in sys.modules)


def note_import(library: str, frame: FrameType | None) -> None:
    """Note that a watched library is about to be loaded."""
    # The layer `sql` sees what SQLAlchemy has its drivers do.
    if is_users(frame) and not passes_through(frame, _WITH_OWN_LAYER):
        _imported_by_user.add(library)


def is_used(library: str) -> bool:
    """Return whether the user's program uses a library, as far as that can be known."""
    module = sys.modules.get(library)
    if module is None:
        return False
    if library in _imported_by_user or library in _loaded_before or library not in watched:
        return True
    main = sys.modules.get("__main__")
    return any(value is module for value in list(vars(main).values())) if main else False


def note_program(event: str, arguments: tuple[Any, ...], frame: FrameType | None) -> None:
    """Note that a program is started; only its name is kept.

    Args:
        event: The audit event.
        arguments: Its arguments.
        frame: Where the call came from.
    """
    while frame is not None and frame.f_code.co_filename == subprocess.__file__:
        # What the module opens for itself is noise; what it was asked to start is not.
        frame = frame.f_back
    if len(_programs) >= _PROGRAMS_LIMIT or not is_users(frame):
        return
    command: Any = arguments[0]
    if event in ("subprocess.Popen", "os.posix_spawn", "os.spawn"):
        words = arguments[2 if event == "os.spawn" else 1]
        command = words if isinstance(words, (str, bytes)) else list(words)
        if isinstance(command, list) and command[1:2] in (["-c"], [b"-c"]) and _is_shell(command):
            command = command[2]
    if isinstance(command, list):
        command = command[0]
    name = os.path.basename(os.fsdecode(command).strip().partition(" ")[0])  # noqa: PTH119
    if name and name not in _HARMLESS:
        _programs[name] += 1


def note_unwatched(name: str) -> None:
    """Note that a program was run, or a part of it, whose files could not be seen."""
    _programs[name] += 1


def _is_shell(command: list[Any]) -> bool:
    return os.path.basename(os.fsdecode(command[0])) in ("sh", "bash", "zsh", "dash")  # noqa: PTH119


def unseen_programs(reported: int) -> list[str]:
    """Return the names of programs that were started and that no capture runs in.

    Args:
        reported: How many Python programs reported that theirs does.
    """
    own = os.path.basename(sys.executable or "python")  # noqa: PTH119
    pythons = {name for name in _programs if name == own or name.startswith("python")}
    silent = sum(_programs[name] for name in pythons) > reported
    return sorted({*_programs} - pythons | (pythons if silent else set()))
