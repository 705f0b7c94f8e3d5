"""The pack objects of a store: listed, written, deleted, and their tables read.

A pack's own table says what it holds; no index can contradict it.
"""

from __future__ import annotations

from collections.abc import Iterable

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
from mlflow_plugins_pack.errors import StorageUnavailableError

_READS = 2


class Packs:
    """The packs of one store."""

    def __init__(self, objects: StoreObjects) -> None:
        self._objects = objects

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
            StorageUnavailableError: If fewer bytes come than the object has there.
        """
        key = self.key(name)
        for _ in range(_READS):
            data = self._objects.backend.read(key, start, length)
            if length is None or len(data) == length:
                return data
        size = self._objects.backend.size(key)
        if size is None or size <= start + len(data):
            return data
        raise StorageUnavailableError(
            f"The answer for {key!r} was cut on its way: {len(data)} bytes came of {length}, and "
            f"the object is longer. It is not damaged, and nothing was changed. Check the network, "
            f"and try again."
        )

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
        """Return those of the packs that do not exist.

        Nothing is remembered: an operator may wipe the storage, or restore an older state.
        """
        asked = list(names)
        sizes = [thread_pools.submit(self._objects.backend.size, self.key(name)) for name in asked]
        return [name for name, size in zip(asked, sizes, strict=True) if size.result() is None]
