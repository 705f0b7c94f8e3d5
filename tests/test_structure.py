"""The package stays easy to find one's way in: small modules, small folders, no cycles."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

import mlflow_plugins_pack
from tests.support.paths import ROOT

PACKAGE = Path(mlflow_plugins_pack.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(path.parent for path in PACKAGE.glob("*/*/__init__.py"))
MODULE_LINES, CLASS_LINES, FOLDER_MODULES = 400, 250, 15


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def classes_of(path: Path) -> Iterator[tuple[ast.ClassDef, list[str]]]:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            yield node, lines[node.lineno - 1 : node.end_lineno]


def test_modules_are_short_or_say_why_not() -> None:
    """A long one has a comment ``# Long: ...`` behind its docstring."""
    long = [
        name_of(path)
        for path in MODULES
        if len(text := path.read_text(encoding="utf-8").splitlines()) > MODULE_LINES
        and not any(line.startswith("# Long: ") for line in text[:100])
    ]
    assert not long


def test_classes_are_short_or_say_why_not() -> None:
    """A long one has a comment ``# Long: ...`` above its first method."""
    long = [
        f"{name_of(path)}: {node.name}"
        for path in MODULES
        for node, lines in classes_of(path)
        if len(lines) > CLASS_LINES and not any("# Long: " in line for line in lines[:40])
    ]
    assert not long


def test_folders_are_small() -> None:
    large = [
        name_of(folder)
        for folder in {path.parent for path in MODULES}
        if len(list(folder.glob("*.py"))) - 1 > FOLDER_MODULES
    ]
    assert not large


@pytest.mark.parametrize("room", ROOMS, ids=name_of)
def test_each_room_says_what_it_is_for(room: Path) -> None:
    """What lives here, what it may import, what it must never import."""
    document = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
    assert document is not None
    assert re.search(r"\bmay import\b", document, re.IGNORECASE)
    assert re.search(r"\bnever imports?\b|\bmust (?:not|never)\b", document, re.IGNORECASE)


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports inside functions count; those for type checkers do not."""
    graph = grimp.build_graph(
        "mlflow_plugins_pack", exclude_type_checking_imports=True, cache_dir=None
    )
    waiting = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    # A module without waiting imports, or without waiting importers, cannot be in a cycle.
    while free := {module for module, imported in waiting.items() if not imported & set(waiting)}:
        for module in free:
            del waiting[module]
    while waiting and (
        free := set(waiting) - {name for imported in waiting.values() for name in imported}
    ):
        for module in free:
            del waiting[module]
    assert not sorted(waiting)


def test_no_test_module_imports_another() -> None:
    """What several need lives in a folder named support."""
    imports = re.compile(r"^\s*(?:from|import) tests[\w.]*\.(?:test_\w+|conftest)\b", re.MULTILINE)
    found = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        if imports.search(path.read_text(encoding="utf-8"))
    ]
    assert not found
