"""What the program's own code mentions and no layer sees, told by its text when a run ends.

Of these kinds: native methods of types that nothing can take the place of; libraries that matter
only where the program itself calls them; files that none of a call's arguments names; standard
input; and calls that read data before the capture began, which is when mlflow was imported.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from types import FrameType, FunctionType, ModuleType
from typing import NamedTuple

from mlflow_plugins_pack.lineage.capture import own_code, standard_input
from mlflow_plugins_pack.lineage.capture.call_stack import is_users_code

BEFORE_IMPORT = "what was read before import mlflow"
STANDARD_INPUT = "stdin"

_METHODS = {
    "lxml": ("xinclude",),
}
"""Native methods that open files, by the library."""
_IMPORT = re.compile(r"^\s*(?:import|from)\s+(cffi|ctypes)\b", re.MULTILINE)
"""Libraries that others use for what they have read already: only the program's own use counts."""
_OPENS_BELOW = re.compile(r"[\"']dir_fd[\"']")
"""A path that is relative to an open folder, if the call's text does not show that."""
_ATTACHES = re.compile(r"\bsqlite3\b.*\battach\b", re.DOTALL | re.IGNORECASE)
_READS_INPUT = re.compile(r"\bstdin\b|\bfileinput\b|\binput\(")
_READER = re.compile(
    r"open|load|connect|memmap|genfromtxt|loadtxt|fromfile|imread|urlopen|urlretrieve"
    r"|(read|scan|load|open|fetch)_\w+"
)
_NOT_READERS = frozenset({"load_dotenv", "load_ext"})
_NOT_DATA = (ModuleType, FunctionType, type)


class _Position(NamedTuple):
    """A place in code: a file, the first line of a function (0 for a module), and a line."""

    file: str
    first_line: int
    line: int


_began: list[_Position] = []
_cells_before: list[str] = []
_typed_before: list[str] = []


def capture_begins(frame: FrameType | None) -> None:
    """Note how far the program's code has run.

    Args:
        frame: Where the capture is started.
    """
    own_code.note_main()
    _cells_before.extend((own_code.cells() or [])[:-1])  # the last one imports mlflow
    main = vars(sys.modules.get("__main__", ModuleType("")))
    while frame is not None:
        code = frame.f_code
        is_command = code.co_filename == own_code.OF_COMMAND and frame.f_globals is main
        if is_command or is_users_code(code.co_filename):
            first_line = 0 if code.co_name == "<module>" else code.co_firstlineno
            _began.append(_Position(code.co_filename, first_line, frame.f_lineno))
        if code.co_filename == "<stdin>":
            values = {key: value for key, value in main.items() if not key.startswith("_")}
            _typed_before.extend(k for k, v in values.items() if not isinstance(v, _NOT_DATA))
        frame = frame.f_back


def unseen() -> set[str]:
    """Return what the program's code mentions and no layer sees."""
    texts = own_code.texts() or []
    found = {
        f"{library}.{method}"
        for library, methods in _METHODS.items()
        if library in sys.modules
        for method in methods
        if any(method in text for text in texts)
    }
    found |= {name for text in texts for name in _IMPORT.findall(text)}
    if any(_OPENS_BELOW.search(text) for text in texts):
        found.add("dir_fd")
    if any(_ATTACHES.search(text) for text in texts):
        found.add("sqlite3 ATTACH")
    if standard_input.may_be_missed() and any(_READS_INPUT.search(text) for text in texts):
        found.add(STANDARD_INPUT)
    if _typed_before or any(map(_read_before, _began)) or any(map(_reads, _cells_before)):
        found.add(BEFORE_IMPORT)
    return found


@functools.cache
def _reads(text: str) -> bool:
    return reads_before(text, 0, sys.maxsize)


@functools.cache
def _read_before(position: _Position) -> bool:
    return reads_before(own_code.text_of(position.file), position.first_line, position.line)


def reads_before(text: str, first_line: int, line: int) -> bool:
    """Return whether code calls something that reads data.

    Args:
        text: Of a module.
        first_line: Where a function of it begins; 0 for the module itself.
        line: Only what stands before this line counts, and the functions that it calls.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return False
    functions = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]
    body: ast.AST = next((node for node in functions if _begins_at(node, first_line)), tree)
    known = {node.name: node for node in functions}
    waiting, done = [node for node in _run_by(body) if node.lineno < line], set()
    while waiting:
        call = waiting.pop()
        name = _name_of(call.func)
        if _READER.fullmatch(name) and name not in _NOT_READERS and not _writes(call):
            return True
        if name in known and name not in done:
            done.add(name)
            waiting.extend(_run_by(known[name]))
    return False


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _begins_at(node: ast.FunctionDef | ast.AsyncFunctionDef, line: int) -> bool:
    """Return whether a function's code says that it begins at a line: that of a decorator."""
    return line == min([node.lineno, *(one.lineno for one in node.decorator_list)])


def _run_by(body: ast.AST) -> Iterator[ast.Call]:
    """Return the calls in a function or module, without those in functions that it defines."""
    for node in ast.iter_child_nodes(body):
        if isinstance(node, (*_FUNCTIONS, ast.Lambda)):
            continue
        if isinstance(node, ast.Call):
            yield node
        yield from _run_by(node)


def _writes(call: ast.Call) -> bool:
    """Return whether a call has a mode, as `open` has, that only writes."""
    modes = [*call.args[1:2], *(given.value for given in call.keywords if given.arg == "mode")]
    return any(
        isinstance(mode, ast.Constant) and str(mode.value)[:1] in ("w", "x", "a") for mode in modes
    )


def _name_of(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
