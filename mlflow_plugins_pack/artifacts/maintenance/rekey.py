"""``rekey``: another master key for a store's keyring, or another data key for all it holds.

Each step may be the last one: the next run goes on from there. A new data key is in the keyring
before anything is sealed with it. Data keys are never removed: a process that goes on with keys it
read before writes nothing that cannot be read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.backends.base import ObjectMissingError
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.encryption import (
    OBJECT_MAGIC,
    TABLE_PURPOSE,
    StoreKeys,
    object_purpose,
)
from mlflow_plugins_pack.artifacts.format.pack import FOOTER
from mlflow_plugins_pack.artifacts.maintenance.lease import Lease, lease
from mlflow_plugins_pack.artifacts.pieces import InProcess, Workers, open_for_worker
from mlflow_plugins_pack.artifacts.store.keyring import Keyring, MasterKey, read_master_keys
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.errors import ArtifactKeyError

T = TypeVar("T")

_OBJECTS_TOGETHER = 100


@dataclass
class Rekeyed:
    """What was done.

    Attributes:
        key: Name of the newest key given, which opens the store.
        removed_keys: Names of those that opened it before and do no more.
        data_keys: How many data keys there are by now; the last one seals.
        rewritten_objects: Manifest segments and index objects sealed again.
        condemned_packs, condemned_bytes: Packs that the next collections will rewrite.
    """

    key: str
    removed_keys: list[str] = field(default_factory=list)
    data_keys: int = 1
    rewritten_objects: int = 0
    condemned_packs: int = 0
    condemned_bytes: int = 0


def rekey(
    store: Store,
    *,
    keep_old: bool = False,
    reencrypt: bool = False,
    workers: Workers | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Rekeyed:
    """Let the newest key given open the store, and those before it no longer.

    Args:
        store: An encrypted store.
        keep_old: Leave the keys that opened it before.
        reencrypt: Also seal everything with a new data key; if an earlier call has begun to, go
            on with that one.
        workers: Who looks and seals; this process if not given.
        progress: Told what is being done.

    Raises:
        ArtifactKeyError: If the store is not encrypted, or no key that is given opens it.
        CollectionRunningError: If a collection, or another one of these, is running.
    """
    if not store.format.is_encrypted:
        raise ArtifactKeyError(
            f"The artifact store {store.location.uri} is not encrypted, and no store becomes so "
            f"later. Nothing was changed. Make an encrypted one with `mlflow-pack artifacts init "
            f"--encrypt` and copy this one into it with `mlflow-pack artifacts migrate`."
        )
    keyring = store.keyring
    keys = keyring.load(all_copies=True)
    masters = read_master_keys()
    done = Rekeyed(masters[0].name)
    with lease(store) as held:
        staying = _staying(keyring, masters) if keep_old else masters[:1]
        _write_keyrings(keyring, staying, keys)
        if reencrypt:
            renewing = _Renewing(store, held, done, workers)
            progress("looking for what older data keys sealed")
            if len(keys.data) == 1 or not renewing.is_needed():
                keys = keys.with_new_data_key()
                _write_keyrings(keyring, staying, keys)
                store.forget_keys()
            progress("sealing manifests and the index again")
            renewing.renew_objects()
            progress("condemning packs")
            renewing.condemn_packs()
        done.data_keys = len(keys.data)
        names = {master.name for master in staying}
        done.removed_keys = [name for name in keyring.names() if name not in names]
        keyring.remove(done.removed_keys)
    return done


def _staying(keyring: Keyring, masters: list[MasterKey]) -> list[MasterKey]:
    there = set(keyring.names())
    missing = there - {master.name for master in masters}
    if missing:
        raise ArtifactKeyError(
            f"The store is also opened by the key {', '.join(sorted(missing))}, which is not "
            f"given. Nothing was changed. Give it too, or leave out --keep-old to take it away."
        )
    return [master for master in masters if master is masters[0] or master.name in there]


def _write_keyrings(keyring: Keyring, masters: list[MasterKey], keys: StoreKeys) -> None:
    faults = keyring.faults()
    for master in masters:
        is_whole = not any(key.rpartition("/")[2].startswith(master.name) for key in faults)
        if not is_whole or keyring.read(master) != keys:
            keyring.write(master, keys)


class _Renewing:
    """Finds what an older data key sealed, and has it sealed again."""

    def __init__(self, store: Store, held: Lease, done: Rekeyed, workers: Workers | None) -> None:
        self._store, self._held, self._done = store, held, done
        self._workers = workers

    def is_needed(self) -> bool:
        """Return whether an older data key sealed anything that is still there."""
        found: object = next(_outdated_objects(self._store, self._keys(), self._held.renew), None)
        return found is not None or next(self._outdated_packs(), None) is not None

    def renew_objects(self) -> None:
        """Seal manifest segments and index objects again, in their places."""
        if self._workers is None:
            counts: Iterable[int] = [_renew(self._store, self._keys(), self._held.renew)]
        else:
            call = partial(_renew_in_store, self._store.location.uri)
            counts = self._workers.map(call, _batches(self._keys()), self._held.renew)
        self._done.rewritten_objects += sum(counts)

    def condemn_packs(self) -> None:
        """Condemn packs: a collection copies what is needed of them, which seals it again."""
        outdated = dict(self._outdated_packs())
        if outdated:
            self._store.condemned.add(frozenset(outdated))
        self._done.condemned_packs = len(outdated)
        self._done.condemned_bytes = sum(outdated.values())

    def _keys(self) -> Iterator[str]:
        for name in self._store.index.names():
            yield object_keys.index_key(name)
        for scope in self._store.manifests.scopes_under(""):
            for name in self._store.manifests.segment_names(scope):
                yield object_keys.segment_key(scope, name)

    def _outdated_packs(self) -> Iterator[tuple[bytes, int]]:
        """Yield names and sizes of the packs that a collection does not renew anyway."""
        condemned = self._store.condemned.packs()
        listed = self._store.packs.stored().items()
        packs = [(name, stored.size) for name, stored in listed if name not in condemned]
        if self._workers is None:
            workers: Workers = InProcess()
            call = partial(_outdated_packs, self._store)
        else:
            workers = self._workers
            call = partial(_outdated_packs_in_store, self._store.location.uri)
        for outdated in workers.map(call, _batches(packs), self._held.renew):
            yield from outdated


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    coming = iter(items)
    while batch := list(itertools.islice(coming, _OBJECTS_TOGETHER)):
        yield batch


def _store_of(uri: str) -> Store:
    store = open_for_worker(uri)
    # The worker may have read them before there was a new one.
    store.forget_keys()
    return store


def _renew_in_store(uri: str, keys: list[str]) -> int:
    return _renew(_store_of(uri), keys, lambda: None)


def _renew(store: Store, keys: Iterable[str], renew_lease: Callable[[], None]) -> int:
    """Seal objects again; return how many were sealed with an older key."""
    count = 0
    for key, data in _outdated_objects(store, keys, renew_lease):
        renew_lease()
        # What it says stays the same, so a concurrent reader gets the same.
        store.write_object(key, store.sealer.open_object(key, data))
        count += 1
    return count


def _outdated_objects(
    store: Store, keys: Iterable[str], renew_lease: Callable[[], None]
) -> Iterator[tuple[str, bytes]]:
    for key in keys:
        renew_lease()
        try:
            data = store.backend.read(store.key(key))
        except ObjectMissingError:
            continue
        if not store.sealer.is_newest(object_purpose(key), data[len(OBJECT_MAGIC) :]):
            yield key, data


def _outdated_packs_in_store(uri: str, packs: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    return _outdated_packs(_store_of(uri), packs)


def _outdated_packs(store: Store, packs: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    reading = [thread_pools.submit(_is_newest_pack, store, *pack) for pack in packs]
    return [pack for pack, is_newest in zip(packs, reading, strict=True) if not is_newest.result()]


def _is_newest_pack(store: Store, name: bytes, size: int) -> bool:
    try:
        tail = store.packs.tail(name, size)
    except ObjectMissingError:
        return True
    return store.sealer.is_newest(TABLE_PURPOSE, tail[: -FOOTER.size])
