"""What a process remembers of scopes, within a bound of memory."""

from __future__ import annotations

import threading
from dataclasses import replace

from cachetools import LRUCache

from mlflow_plugins_pack.artifacts.commit.requests import Head

_KEPT_INLINE_BYTES = 1024 * 1024
"""Of a remembered scope with more bytes of small files than that, they are read when needed."""

_HEADS_BYTES = 64 * 1024 * 1024
_HEAD_BYTES = 1000
_FILE_BYTES = 700
"""About the memory that a remembered scope takes, and each of its files."""


def _weight(head: Head) -> int:
    if head.view is None:
        return _HEAD_BYTES
    return _HEAD_BYTES + _FILE_BYTES * len(head.view.files) + head.view.inline_bytes


class Heads:
    """What this process knows of scopes; safe to use by several threads at once."""

    def __init__(self) -> None:
        self._heads: LRUCache[str, Head] = LRUCache(_HEADS_BYTES, getsizeof=_weight)
        self._guard = threading.Lock()

    def get(self, scope: str) -> Head | None:
        """Return what is remembered of a scope."""
        with self._guard:
            head: Head | None = self._heads.get(scope)
            return head

    def remember(self, scope: str, head: Head) -> None:
        """Remember a head, unless a later one is known."""
        if head.view is not None and head.view.inline_bytes > _KEPT_INLINE_BYTES:
            head = replace(head, view=head.view.without_bytes())
        with self._guard:
            known = self._heads.get(scope)
            if known is not None and head.seen and known.seen and known.number > head.number:
                return
            # A number that was only listed may be that of a storage that was set back since.
            if known is not None and not head.seen and known.seen_at > head.seen_at:
                return
            if known is not None and known.number == head.number and head.view is None:
                return
            # Of a run of more than some 100,000 files only the last number is kept.
            fits = _weight(head) <= _HEADS_BYTES
            self._heads[scope] = head if fits else replace(head, view=None)

    def note_there(self, scope: str, head: Head) -> None:
        """Note that all that was seen before a head's last call is there."""
        with self._guard:
            known = self._heads.get(scope)
            if known is not None and known.seen[-1:] == head.seen[-1:]:
                self._heads[scope] = replace(known, seen=known.seen[-1:])

    def forget(self, scope: str) -> None:
        """Forget a scope."""
        with self._guard:
            self._heads.pop(scope, None)
