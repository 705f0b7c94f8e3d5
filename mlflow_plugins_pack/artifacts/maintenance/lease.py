"""One collection at a time: a lease that is an object of the store.

It saves work and is not what makes collecting safe (see `gc_rules`): a holder that was paused
until its lease ran out does no harm when it goes on. All times are the storage's, since the
clocks of two machines need not agree.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator

from mlflow_plugins_pack.artifacts.backends.base import ObjectMissingError
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.errors import CollectionRunningError

LEASE_SECONDS = 600


class Lease:
    """A lease that is held."""

    def __init__(self, store: Store, data: bytes) -> None:
        self._store = store
        self._key = store.key(object_keys.LEASE_KEY)
        self._data = data
        self._renewed = time.monotonic()

    def renew(self) -> None:
        """Hold on to it, if that is due.

        Raises:
            CollectionRunningError: If another process has taken it over.
        """
        if time.monotonic() - self._renewed < LEASE_SECONDS / 4:
            return
        if not self.is_ours():
            raise _running(self._store, "this one was paused for too long; another took over")
        self._store.backend.write(self._key, self._data)
        self._renewed = time.monotonic()

    def release(self) -> None:
        """Yield it up."""
        if self.is_ours():
            self._store.backend.delete([self._key])

    def is_ours(self) -> bool:
        """Return whether the store's lease is this one."""
        try:
            return self._store.backend.read(self._key) == self._data
        except ObjectMissingError:
            return False


@contextlib.contextmanager
def lease(store: Store) -> Iterator[Lease]:
    """Hold the store's lease.

    Raises:
        CollectionRunningError: If another collection holds it.
    """
    key = store.key(object_keys.LEASE_KEY)
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "token": secrets.token_hex(16)}
    data = json.dumps(holder).encode()
    if not store.backend.write_if_absent(key, data) and not Lease(store, data).is_ours():
        now = storage_time(store)
        written = modified(store, object_keys.LEASE_KEY)
        # Later than now: by the clock of a host that ran ahead, or was set back since.
        if written is not None and abs(now - written) < LEASE_SECONDS:
            raise _running(store, f"another one renewed its lease {now - written:.0f} s ago")
        store.backend.delete([key])
        if not store.backend.write_if_absent(key, data):
            raise _running(store, "another one has just begun")
    held = Lease(store, data)
    try:
        yield held
    finally:
        held.release()


def storage_time(store: Store) -> float:
    """Return the storage's time, in seconds since 1970, as it stamps objects."""
    name = f"{object_keys.COLLECTION_PREFIX}time-{secrets.token_hex(8)}"
    store.backend.write(store.key(name), b"")
    try:
        written = modified(store, name)
    finally:
        store.backend.delete([store.key(name)])
    if written is None:
        raise AssertionError("an object that was just written is not listed")
    return written


def modified(store: Store, name: str) -> float | None:
    """Return when an object of the collection's was written, None if it does not exist."""
    for stored in store.backend.list(store.key(object_keys.COLLECTION_PREFIX)):
        if stored.key == store.key(name):
            return stored.modified
    return None


def _running(store: Store, why: str) -> CollectionRunningError:
    return CollectionRunningError(
        f"A collection of {store.location.uri} is already running: {why}. Nothing was removed by "
        f"this one from here on. If that process has died, try again in {LEASE_SECONDS // 60} "
        f"minutes."
    )
