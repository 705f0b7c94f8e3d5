"""Reads packs' tables: what a pack says of itself, which no index can contradict."""

from __future__ import annotations

import binascii

from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.pack import (
    FOOTER,
    HEADER,
    Record,
    decode_tail,
    tail_length,
)
from mlflow_plugins_pack.artifacts.store.store import Store


def read_table(store: Store, name: bytes, size: int) -> tuple[list[Record], int]:
    """Read the table of a pack from its tail.

    Args:
        store: The store.
        name: The pack's name.
        size: Of the whole object.

    Returns:
        The records, and where the chunks end and the table begins.

    Raises:
        ObjectMissingError: If there is no such pack.
        ArtifactCorruptError: If its tail is not that of a pack of this name.
    """
    tail = read_tail(store, name, size)
    what = f"The pack {store.key(object_keys.pack_key(name))}"
    return decode_tail(tail, name, what, store.sealer), size - len(tail)


def read_tail(store: Store, name: bytes, size: int) -> bytes:
    """Return the table of a pack, as it is stored, and the footer.

    Raises:
        ObjectMissingError: If there is no such pack.
        ArtifactCorruptError: If its footer is not that of a pack.
    """
    key = store.key(object_keys.pack_key(name))
    what = f"The pack {key}"
    if size < len(HEADER) + FOOTER.size:
        tail_length(b"", size, what)
    footer = store.backend.read(key, size - FOOTER.size, FOOTER.size)
    length = tail_length(footer, size, what, store.sealer)
    return store.backend.read(key, size - length, length)


def pack_name(text: str) -> bytes | None:
    """Return the name of the pack whose key ends like this, or None if no pack's does.

    Args:
        text: The key's part after `layout.PACK_PREFIX`.
    """
    folder, _, name = text.partition("/")
    try:
        value = binascii.unhexlify(name)
    except ValueError:
        return None
    return value if len(value) == 32 and folder == name[:2] else None
