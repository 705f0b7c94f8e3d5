"""The index of a store: which chunks and files exist, so that they need not be uploaded again."""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.backends.base import ObjectMissingError
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.index_delta import (
    Delta,
    decode_delta,
    encode_delta,
    group_deltas,
    split_delta,
)
from mlflow_plugins_pack.artifacts.format.pack import Chunk
from mlflow_plugins_pack.artifacts.store.condemned import CondemnedPacks
from mlflow_plugins_pack.artifacts.store.index_cache import IndexCache
from mlflow_plugins_pack.artifacts.store.objects import StoreObjects
from mlflow_plugins_pack.artifacts.store.packs import Packs
from mlflow_plugins_pack.errors import ArtifactCorruptError, PackError

_logger = logging.getLogger(__name__)

COMBINE_FROM_DELTAS = 32
SMALL_DELTA_BYTES = 1024 * 1024
"""Index deltas below this size are combined once there are `COMBINE_FROM_DELTAS` of them."""

_RELISTS = 5


class Index:
    """Reads and extends the index of one store.

    Attributes:
        cache: What this host knows of the index, for look-ups.
    """

    def __init__(self, objects: StoreObjects, cache: IndexCache, condemned: CondemnedPacks) -> None:
        self.cache = cache
        self._objects = objects
        self._condemned = condemned
        self._small_deltas: dict[str, int] = {}
        self._refreshed = -math.inf
        self._gone_packs: set[bytes] = set()
        self._packs = Packs(objects)
        self._unlisted: dict[bytes, list[Chunk]] = {}

    # --- looking up ---

    def refresh(self, *, max_age_seconds: float = 0) -> None:
        """Learn what other writers added to the index, and what a collection condemned.

        Args:
            max_age_seconds: Do nothing if that was done so lately. What a writer takes from the
                index is a hint: it costs bytes if it is old, and is checked before the commit.
        """
        now = time.monotonic()
        if self.is_fresh(max_age_seconds):
            return
        condemned = thread_pools.submit(self._condemned.packs)
        for _ in range(_RELISTS):
            listed = self._list_deltas()
            try:
                self.cache.refresh(list(listed), self._load_deltas)
                self._refreshed = now
                break
            except ObjectMissingError:
                # Combined between listing and reading: another one says the same by now.
                continue
        else:
            self.clear()
        self._small_deltas = self._living_small(listed)
        condemned.result()

    def is_fresh(self, seconds: float) -> bool:
        """Return whether a `refresh` has begun so lately."""
        return time.monotonic() - self._refreshed < seconds

    def clear(self) -> None:
        """Forget the index; the next refresh loads all of it."""
        self._refreshed = -math.inf
        self.cache.clear()

    def places_of(self, chunk: Chunk) -> Iterator[Chunk]:
        """Yield places of a chunk other than the one given: a place in a manifest may grow old."""
        tried = {chunk}
        yield from self._unlisted.get(chunk.id, ())
        for attempt in range(_RELISTS):
            # More than once: it may be moved again between looking it up and reading it.
            if attempt == _RELISTS - 1:
                # A cache that lost a record does not know it: the store is asked for all of it.
                self.clear()
            if attempt:
                self.refresh()
            for place in self.cache.find_places(chunk.id):
                if place not in tried:
                    tried.add(place)
                    yield place
        self._read_unlisted()
        yield from self._unlisted.get(chunk.id, ())

    def _read_unlisted(self) -> None:
        """Learn what the packs hold that no index object lists: one that did may be lost."""
        known = self.cache.packs()
        found: dict[bytes, list[Chunk]] = {}
        for name, stored in self._packs.stored().items():
            if name in known:
                continue
            try:
                records, _ = self._packs.table(name, stored.size)
            except (ObjectMissingError, ArtifactCorruptError):
                continue
            for record in records:
                found.setdefault(record.id, []).append(record.at(name))
        self._unlisted = found

    def note_gone(self, pack: bytes) -> None:
        """Remember that a pack does not exist, so that its chunks are not asked for one by one."""
        # Called on the pool that a refresh of the index would wait for: `places_of` does that.
        self._gone_packs.add(pack)

    def current_place(self, chunk: Chunk) -> Chunk:
        """Return where a chunk is by now, as far as that is known without asking."""
        if chunk.pack not in self._gone_packs:
            return chunk
        found = self.cache.find_places(chunk.id)
        return next((place for place in found if place.pack not in self._gone_packs), chunk)

    # --- deltas ---

    def names(self) -> list[str]:
        """Return the names of all index deltas."""
        return list(self._list_deltas())

    def read_delta(self, name: str) -> Delta:
        """Return an index delta.

        Raises:
            ObjectMissingError: If it does not exist.
            ArtifactCorruptError: If it is damaged.
        """
        return decode_delta(self._objects.read_object(object_keys.index_key(name)), name)

    def deltas(self) -> Iterator[tuple[str, Delta]]:
        """Yield all index deltas that can be read, with their names."""
        for name in self._list_deltas():
            try:
                (delta,) = self._load_deltas([name])
            except ObjectMissingError:
                continue
            if delta is not None:
                yield name, delta

    def add(self, delta: Delta) -> None:
        """Add a delta, and combine the small ones once there are many."""
        self._add_delta(delta)
        self._combine_due()

    def begin_to_add(self, delta: Delta) -> Callable[[], None]:
        """Add a delta while the caller does something else.

        Returns:
            What the caller calls once, later: it waits until the delta is stored. That it could not
            be stored is logged and not raised, since the index only saves uploads.
        """
        ulid, data = _new_delta(delta)
        # Only the write: a pool's thread must not wait for the cache, whose owner waits for it.
        written = thread_pools.submit(self._objects.write_object, object_keys.index_key(ulid), data)

        def finish() -> None:
            try:
                written.result()
            except PackError as exc:
                _logger.warning("%s Going on without this part of the index.", exc.message)
                return
            self._take_in(ulid, delta, len(data))
            self._combine_due()

        return finish

    def _combine_due(self) -> None:
        # Most calls are spared a listing: what the last one showed says when it is time.
        if len(self._small_deltas) < COMBINE_FROM_DELTAS:
            return
        self._small_deltas = self._living_small(self._list_deltas())
        if len(self._small_deltas) >= COMBINE_FROM_DELTAS:
            for names in group_deltas(self._small_deltas):
                self._combine_deltas(names)

    def replace(self, names: Sequence[str], combined: Delta) -> None:
        """Put one delta, or as many as it takes, in the place of others and remove these.

        Args:
            names: The others.
            combined: If it says that it replaces them, caches keep what they took from them; else
                they load the whole index again.
        """
        for piece in split_delta(combined):
            self._add_delta(piece)
        for name in names:
            self._small_deltas.pop(name, None)
        self._objects.backend.delete(
            self._objects.key(object_keys.index_key(name)) for name in names
        )

    def _list_deltas(self) -> dict[str, int]:
        """Return the sizes of all index deltas in bytes, by name."""
        prefix = self._objects.key(object_keys.INDEX_PREFIX)
        listed = ((s.key[len(prefix) :], s.size) for s in self._objects.backend.list(prefix))
        return {name: size for name, size in listed if object_keys.is_ulid(name)}

    def _load_deltas(self, names: Sequence[str]) -> Iterator[Delta | None]:
        """Yield deltas in the order of their names, None for one that cannot be read."""

        def load(name: str) -> Delta | None:
            try:
                return self.read_delta(name)
            except ArtifactCorruptError as exc:
                # The index only saves uploads: damage to it must not stop any work.
                _logger.warning("%s Going on without it.", exc.message)
                return None

        for start in range(0, len(names), thread_pools.IO_THREADS):
            batch = names[start : start + thread_pools.IO_THREADS]
            for future in [thread_pools.submit(load, name) for name in batch]:
                yield future.result()

    def _living_small(self, listed: dict[str, int]) -> dict[str, int]:
        replaced = self.cache.replaced()
        return {
            name: size
            for name, size in listed.items()
            if size < SMALL_DELTA_BYTES and name not in replaced
        }

    def _add_delta(self, delta: Delta) -> None:
        ulid, data = _new_delta(delta)
        self._objects.write_object(object_keys.index_key(ulid), data)
        self._take_in(ulid, delta, len(data))

    def _take_in(self, ulid: str, delta: Delta, length: int) -> None:
        self.cache.add(ulid, delta)
        if length < SMALL_DELTA_BYTES:
            self._small_deltas[ulid] = length

    def _combine_deltas(self, names: list[str]) -> None:
        """Put one delta in the place of many small ones.

        Deltas only repeat what packs say of themselves, so doing this twice at once is harmless.
        """
        combined = Delta()
        read = []
        try:
            for name, delta in zip(names, self._load_deltas(names), strict=True):
                # A damaged one stays, for fsck to find: it may be right when it is read again.
                if delta is not None:
                    combined.packs.update(delta.packs)
                    combined.files.extend(delta.files)
                    read.append(name)
            self.replace(read, Delta(combined.packs, combined.files, tuple(read)))
        except PackError:
            # Who may write need not be allowed to delete; repeated deltas cost a little space.
            _logger.debug("Replaced index deltas stay.", exc_info=True)


def _new_delta(delta: Delta) -> tuple[str, bytes]:
    """Return a new name for a delta, and its bytes."""
    ulid = object_keys.make_ulid(time.time_ns() // 1_000_000, secrets.token_bytes(10))
    return ulid, encode_delta(delta)
