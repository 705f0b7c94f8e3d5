"""A reserve of space on a disk, for the calls that free space: they have to write a little first.

Deleting a run writes a tombstone, and a collection writes down what it will remove. On a full disk
both get the space of one object that is kept for them.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from typing import TypeVar

from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.store.objects import StoreObjects
from mlflow_plugins_pack.errors import StorageError, StorageFullError

T = TypeVar("T")

RESERVE_BYTES = 256 * 1024
"""A list of condemned packs takes 68 bytes a pack."""


def keep_reserve(objects: StoreObjects) -> None:
    """Write the reserve, where the storage can become full and if it has room."""
    if not objects.backend.fills_up:
        return
    key = objects.key(object_keys.RESERVE_KEY)
    with contextlib.suppress(StorageError):
        if objects.backend.size(key) != RESERVE_BYTES:
            # Random: some file systems compress, or leave out what is zero.
            objects.backend.write(key, secrets.token_bytes(RESERVE_BYTES))


def with_reserve(objects: StoreObjects, call: Callable[[], T]) -> T:
    """Run a call that frees space; on a full disk give up the reserve and run it again.

    Raises:
        StorageFullError: If the disk is full and the reserve does not exist or is not enough.
    """
    try:
        return call()
    except StorageFullError:
        key = objects.key(object_keys.RESERVE_KEY)
        if objects.backend.size(key) is None:
            raise
        objects.backend.delete([key])
        return call()
