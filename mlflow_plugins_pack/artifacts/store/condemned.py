"""The lists of condemned packs as writers, readers and collections look them up."""

from __future__ import annotations

import secrets
import time

from mlflow_plugins_pack.artifacts.backends.base import ObjectMissingError
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.condemned_list import (
    CondemnedList,
    decode_list,
    encode_list,
)
from mlflow_plugins_pack.artifacts.store.index_cache import IndexCache
from mlflow_plugins_pack.artifacts.store.objects import StoreObjects
from mlflow_plugins_pack.errors import ArtifactCorruptError


class CondemnedPacks:
    """Reads and writes the condemned lists of one store."""

    def __init__(self, objects: StoreObjects, cache: IndexCache) -> None:
        self._objects = objects
        self._cache = cache
        self._lists: dict[str, CondemnedList] = {}

    def lists(self, *, fresh: bool = False) -> dict[str, CondemnedList]:
        """Return all lists of condemned packs, by name.

        Args:
            fresh: Read those again that were read before: the packs of a list never change, but
                whether they were swept does.

        Raises:
            ArtifactCorruptError: If one cannot be read.
        """
        lists: dict[str, CondemnedList] = {}
        for name in self.written():
            known = None if fresh else self._lists.get(name)
            try:
                lists[name] = known or decode_list(self._read(name), name)
            except ObjectMissingError:
                # Removed between listing and reading, long after its packs were.
                continue
        self._lists = lists
        return dict(lists)

    def check(self) -> tuple[frozenset[bytes], dict[str, str]]:
        """Return the packs of the lists that can be read, and why each other list cannot."""
        packs: set[bytes] = set()
        damaged: dict[str, str] = {}
        for name in self.written():
            try:
                packs |= decode_list(self._read(name), name).packs
            except ObjectMissingError:
                continue
            except ArtifactCorruptError as exc:
                damaged[name] = exc.message
        return frozenset(packs), damaged

    def _read(self, name: str) -> bytes:
        return self._objects.backend.read(self._objects.key(object_keys.condemned_key(name)))

    def written(self) -> dict[str, float]:
        """Return when each list was last written, in seconds since 1970 by the storage's clock."""
        prefix = self._objects.key(object_keys.COLLECTION_PREFIX)
        listed = ((s.key[len(prefix) :], s.modified) for s in self._objects.backend.list(prefix))
        return {name: modified for name, modified in listed if object_keys.is_ulid(name)}

    def packs(self) -> frozenset[bytes]:
        """Return the condemned packs: no new manifest may refer to them.

        The index cache withholds them from now on.
        """
        self._cache.withheld = frozenset().union(*(found.packs for found in self.lists().values()))
        return self._cache.withheld

    def add(self, packs: frozenset[bytes]) -> None:
        """Condemn packs: after the grace period a collection copies what is still needed."""
        ulid = object_keys.make_ulid(time.time_ns() // 1_000_000, secrets.token_bytes(10))
        self.write(ulid, CondemnedList(packs))

    def write(self, name: str, condemned: CondemnedList) -> None:
        """Create or replace a list."""
        self._objects.backend.write(
            self._objects.key(object_keys.condemned_key(name)), encode_list(condemned, name)
        )

    def remove(self, name: str) -> None:
        """Delete a list whose packs are gone."""
        self._objects.backend.delete([self._objects.key(object_keys.condemned_key(name))])
