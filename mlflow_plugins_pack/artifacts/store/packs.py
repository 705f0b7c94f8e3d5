"""The pack objects of a store: listed, written, deleted, and their tables read.

A pack's own table says what it holds; no index can contradict it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from cachetools import TTLCache

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.backends.base import Buffer, Stored
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.pack import (
    FOOTER,
    HEADER,
    Record,
    decode_tail,
    tail_length,
)
from mlflow_plugins_pack.artifacts.store.objects import StoreObjects

_SEEN_SECONDS = 300
_SEEN_PACKS = 100_000


class Packs:
    """The packs of one store."""

    def __init__(self, objects: StoreObjects) -> None:
        self._objects = objects
        self._seen: TTLCache[bytes, None] = TTLCache(_SEEN_PACKS, _SEEN_SECONDS)
        self._seen_lock = threading.Lock()

    def key(self, name: bytes) -> str:
        """Return the backend's key of a pack."""
        return self._objects.key(object_keys.pack_key(name))

    def stored(self) -> dict[bytes, Stored]:
        """Return all packs by name; objects that are not packs by their key are left out."""
        listed = self._objects.backend.list(self._objects.key(object_keys.PACK_PREFIX))
        packs = ((object_keys.parse_pack_key(stored.key), stored) for stored in listed)
        return {name: stored for name, stored in packs if name is not None}

    def read(self, name: bytes, start: int = 0, length: int | None = None) -> bytes:
        """Return a pack's bytes, or a range of them.

        Raises:
            ObjectMissingError: If the pack does not exist.
        """
        return self._objects.backend.read(self.key(name), start, length)

    def write(self, name: bytes, data: Buffer) -> None:
        """Write a pack."""
        self._objects.backend.write(self.key(name), data)

    def delete(self, names: Iterable[bytes]) -> None:
        """Delete packs."""
        self._objects.backend.delete(map(self.key, names))

    def table(self, name: bytes, size: int) -> tuple[list[Record], int]:
        """Read the table of a pack from its tail.

        Args:
            name: The pack's name.
            size: Size of the whole object in bytes.

        Returns:
            The records, and the offset at which the chunks end and the table begins.

        Raises:
            ObjectMissingError: If the pack does not exist.
            ArtifactCorruptError: If its tail is not that of a pack of this name.
        """
        tail = self.tail(name, size)
        what = f"The pack {self.key(name)}"
        return decode_tail(tail, name, what, self._objects.sealer), size - len(tail)

    def tail(self, name: bytes, size: int) -> bytes:
        """Return the table of a pack, as it is stored, and the footer.

        Raises:
            ObjectMissingError: If the pack does not exist.
            ArtifactCorruptError: If its footer is not that of a pack.
        """
        what = f"The pack {self.key(name)}"
        if size < len(HEADER) + FOOTER.size:
            tail_length(b"", size, what)
        footer = self.read(name, size - FOOTER.size, FOOTER.size)
        length = tail_length(footer, size, what, self._objects.sealer)
        return self.read(name, size - length, length)

    def missing(self, names: Iterable[bytes]) -> list[bytes]:
        """Return those of the packs that do not exist; those seen lately are not asked for."""
        with self._seen_lock:
            unseen = [name for name in names if name not in self._seen]
        asking = {
            name: thread_pools.submit(self._objects.backend.size, self.key(name)) for name in unseen
        }
        missing = [name for name, size in asking.items() if size.result() is None]
        with self._seen_lock:
            self._seen.update(dict.fromkeys(asking.keys() - set(missing)))
        return missing

    def note_written(self, name: bytes) -> None:
        """Remember that a pack is being written now."""
        with self._seen_lock:
            self._seen[name] = None

    def forget_seen(self) -> None:
        """Ask the storage about every pack again."""
        with self._seen_lock:
            self._seen.clear()
