"""Runs a function right after a module has been imported; costs one look-up per import.

No module is imported for it: what is wrapped is what the person's program loads by itself.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

failures: list[str] = []
"""Modules that could not be wrapped, because a new version of theirs is made otherwise."""
_wanted: dict[str, tuple[str, str]] = {}


class _Finder(MetaPathFinder):
    """Finds wanted modules through the finders behind it, and puts a loader around theirs."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
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

    # On the one loader instance, which stays what it is for everybody who looks at it.
    with contextlib.suppress(AttributeError):
        loader.exec_module = exec_module  # type: ignore[method-assign]


def _call(name: str, module: ModuleType) -> None:
    target = _wanted.pop(name, None)
    if target is not None:
        try:
            getattr(importlib.import_module(target[0]), target[1])(module)
        except Exception:  # noqa: BLE001  # the person's import succeeded
            failures.append(name)


def when_imported(targets: Mapping[str, tuple[str, str]]) -> None:
    """Call functions with modules after their import, or now for those imported already.

    Args:
        targets: From the module's name to the module and name of the function.
    """
    _wanted.update(targets)
    for name in targets:
        module = sys.modules.get(name)
        # A module whose import is under way is in sys.modules too.
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            _call(name, module)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
