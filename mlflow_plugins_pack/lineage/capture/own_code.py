"""The text of the program's own code: its modules, a notebook's cells, what ``-c`` was given."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Sequence

from mlflow_plugins_pack.lineage.capture.call_stack import is_users_code

OF_COMMAND = "<string>"
"""The name under which Python compiles what ``-c`` was given."""


_main_files: list[str] = []
"""The file of the main module; the interpreter takes its name away before the process ends."""


def _main_file() -> str | None:
    main = sys.modules.get("__main__")
    file = vars(main).get("__file__") if main is not None else None
    if isinstance(file, str):
        _main_files[:] = [file]
    elif not _main_files and sys.argv and os.path.isfile(sys.argv[0]):  # noqa: PTH113
        return sys.argv[0]
    return next(iter(_main_files), None)


def note_main() -> None:
    """Note which file the main module is of; called when the capture begins."""
    _main_file()


def cells() -> Sequence[str] | None:
    """Return the cells of a notebook that were run or are running; None outside of one."""
    main = sys.modules.get("__main__")
    found = vars(main).get("In") if main is not None else None
    return [str(cell) for cell in found] if isinstance(found, list) else None


def texts() -> list[str] | None:
    """Return the texts of the program's own code; None if it is typed into an interpreter."""
    found: list[str] = []
    typed = cells()
    main_file = None if typed else _main_file()
    if main_file is None:
        typed = typed or ([text_of(OF_COMMAND)] if "-c" in sys.orig_argv else None)
        if typed is None:
            return None
        found += typed
    # Not by `getattr`, at which some modules import others.
    modules = [getattr(module, "__dict__", {}) for module in list(sys.modules.values())]
    files = {main_file, *(variables.get("__file__") for variables in modules)}
    code = (file for file in files if isinstance(file, str) and file.endswith(".py"))
    return found + [text_of(file) for file in code if is_users_code(file)]


def is_named(name: str) -> bool:
    """Return whether the program's code names something, such as ``OSFile``."""
    known, word = texts(), re.compile(rf"\b{re.escape(name)}\b")
    return known is None or any(word.search(text) for text in known)


@functools.lru_cache(maxsize=1_000)
def text_of(file: str) -> str:
    """Return the text of a file of code; empty if it cannot be read."""
    if file == OF_COMMAND:
        given = sys.orig_argv
        return given[given.index("-c") + 1] if "-c" in given[:-1] else ""
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:  # noqa: PTH123
            return opened.read()
    except OSError:
        return ""
