"""Runs a function right after a module has been imported; costs one look-up per import.

No module is imported for it: what is observed is what the user's program loads by itself.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from mlflow_plugins_pack.lineage.capture import usage

failures: list[str] = []
"""Modules that could not be observed, because a new version of theirs is made otherwise."""
_wanted: dict[str, Callable[[ModuleType], None]] = {}
_under_way: set[str] = set()
"""Wanted modules whose import had begun before; looked at again with each further import."""


class _Finder(MetaPathFinder):
    """Finds wanted modules through the finders behind it, and puts a loader around theirs."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if _under_way:
            _call_those_done()
        if fullname in usage.watched:
            usage.note_import(fullname, sys._getframe(1))
        if fullname not in _wanted:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    _notify_after(spec.loader, fullname)
                return spec
        return None


def _notify_after(loader: Loader, name: str) -> None:
    original = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        original(module)
        _call(name, module)

    # On the one loader instance, which keeps its type and identity.
    with contextlib.suppress(AttributeError):
        loader.exec_module = exec_module  # type: ignore[method-assign]


def _call(name: str, module: ModuleType) -> None:
    imported = _wanted.pop(name, None)
    if imported is not None:
        try:
            imported(module)
        except Exception:  # noqa: BLE001  # the user's import succeeded
            failures.append(name)


def _call_those_done() -> None:
    for name in list(_under_way):
        module = sys.modules.get(name)
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            _under_way.discard(name)
            _call(name, module)


def when_imported(names: Iterable[str], imported: Callable[[ModuleType], None]) -> None:
    """Call a function with each of some modules after its import, or now if it is imported.

    Args:
        names: The modules.
        imported: The function.
    """
    names = list(names)
    _wanted.update(dict.fromkeys(names, imported))
    for name in names:
        if name in sys.modules:
            # One whose import is under way is there too.
            _under_way.add(name)
    _call_those_done()
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
