"""JSON objects that carry the hash of all that they say; pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_CHECK = "check"


def with_check(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a document with a further key ``check``.

    It is the sha256 of the name, a NUL character and the other keys, sorted, as JSON in ASCII
    without spaces.

    Args:
        document: What is to be stored.
        name: The object's key in the store, so that no object passes for another.
    """
    return {**document, _CHECK: _digest(document, name)}


def refuse_damaged(document: dict[str, Any], name: str) -> None:
    """Refuse a document that does not have the hash that it was written with.

    Raises:
        ValueError: If it does not.
    """
    if document[_CHECK] != _digest(document, name):
        raise ValueError("it does not have the hash that it was written with")


def _digest(document: dict[str, Any], name: str) -> str:
    others = {key: value for key, value in document.items() if key != _CHECK}
    text = json.dumps(others, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{name}\0{text}".encode()).hexdigest()
