"""Replaces methods of types that are not written in Python, which assignment refuses to do.

Such a type's methods are in a dictionary, of which ``__dict__`` is a read-only view; the garbage
collector tells which dictionary that is. The interpreter remembers what it found in types and has
to be told of a change: ``PyType_Modified`` of CPython. No type and no instance becomes another one.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Any


def replace_method(owner: type, name: str, method: Any) -> None:
    """Have a type and those derived from it use another method.

    Args:
        owner: The type.
        name: Of a method that it has itself, and that the interpreter looks up by its name: not
            one such as ``__init__``, which it calls through a pointer.
        method: The new one.

    Raises:
        TypeError: If the interpreter keeps methods in another way.
    """
    special = name.startswith("__")
    places = [one for one in gc.get_referents(owner.__dict__) if isinstance(one, dict)]
    if special or len(places) != 1 or places[0].get(name) is not owner.__dict__.get(name):
        raise TypeError(f"{owner.__name__}.{name} cannot be replaced")
    if name not in places[0] or not hasattr(ctypes, "pythonapi"):
        raise TypeError(f"{owner.__name__}.{name} cannot be replaced")
    places[0][name] = method
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(owner))
