"""One store: its format, its manifests and its index, over a backend."""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.backends.base import Backend, ObjectMissingError, Stored
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.encryption import PLAIN, Sealer
from mlflow_plugins_pack.artifacts.format.format_file import StoreFormat
from mlflow_plugins_pack.artifacts.format.index_delta import (
    Delta,
    decode_delta,
    encode_delta,
    group_deltas,
    split_delta,
)
from mlflow_plugins_pack.artifacts.format.manifest import (
    Lock,
    Operation,
    Segment,
    Unlock,
    decode_segment,
    encode_segment,
)
from mlflow_plugins_pack.artifacts.format.pack import Chunk
from mlflow_plugins_pack.artifacts.format.view import (
    View,
    live_combined,
    manifest_bytes,
    merge,
)
from mlflow_plugins_pack.artifacts.maintenance.gc_rules import CondemnedList, decode_list
from mlflow_plugins_pack.artifacts.store.index_cache import IndexCache
from mlflow_plugins_pack.artifacts.store.keyring import Keyring
from mlflow_plugins_pack.artifacts.uri.location import Location
from mlflow_plugins_pack.errors import (
    ArtifactCorruptError,
    ArtifactLockedError,
    PackError,
)

_logger = logging.getLogger(__name__)

COMBINE_FROM_SEGMENTS = 32
"""From this many segments on, one is added to a scope that stands for all of them."""

COMBINE_FROM_DELTAS = 32
SMALL_DELTA_BYTES = 1024 * 1024
"""Index deltas below this size are combined once there are `COMBINE_FROM_DELTAS` of them."""

INLINE_SCOPE_BYTES = 1024 * 1024
"""From this size of a scope's manifest on, small files go to packs: whoever lists reads it all."""

_SEGMENT_CACHE_BYTES = 16 * 1024 * 1024
_PACK_SEEN_SECONDS = 300
_KEYS_SECONDS = 300
_RELISTS = 5


class _SegmentCache:
    """Segments read before, by key; they never change, so no process can be behind another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str, str], tuple[Segment, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[str, str, str]) -> Segment | None:
        with self._lock:
            if key not in self._known:
                return None
            self._known.move_to_end(key)
            return self._known[key][0]

    def put(self, key: tuple[str, str, str], segment: Segment, weight: int) -> None:
        with self._lock:
            if key in self._known or weight > _SEGMENT_CACHE_BYTES // 4:
                return
            self._known[key] = (segment, weight)
            self._bytes += weight
            while self._bytes > _SEGMENT_CACHE_BYTES:
                _, (_, lost) = self._known.popitem(last=False)
                self._bytes -= lost


_segments = _SegmentCache()


class Store:
    """An open store."""

    def __init__(self, backend: Backend, location: Location, store_format: StoreFormat) -> None:
        self.backend = backend
        self.location = location
        self.format = store_format
        self.index = IndexCache(store_format.store_id)
        self._seen_packs: dict[bytes, float] = {}
        self._small_deltas: dict[str, int] = {}
        self._refreshed = -math.inf
        self._gone_packs: set[bytes] = set()
        self._full_scopes: set[str] = set()
        self._lists: dict[str, CondemnedList] = {}
        self._sealer: Sealer | None = None
        self._keys_read = 0.0

    def key(self, name: str) -> str:
        """Return the backend's key of one of the store's own keys."""
        return object_keys.join(self.location.path, name)

    @property
    def sealer(self) -> Sealer:
        """What encrypts and decrypts all that the store holds; does nothing in a plain store.

        Raises:
            ArtifactKeyError: If the store is encrypted and no key that is given opens it.
        """
        if not self.format.is_encrypted:
            return PLAIN
        now = time.monotonic()
        if self._sealer is None:
            self._sealer, self._keys_read = self.keyring.sealer(), now
        elif now - self._keys_read > _KEYS_SECONDS:
            # Another process may have added a data key; until that is known, the old one is good.
            self._keys_read = now
            try:
                self._sealer = self.keyring.sealer()
            except PackError as exc:
                _logger.warning("%s Going on with the keys that were read before.", exc.message)
        return self._sealer

    def forget_keys(self) -> None:
        """Read the keyring again before the next use."""
        self._sealer = None

    @property
    def keyring(self) -> Keyring:
        """The keyring of an encrypted store."""
        return Keyring(self.backend, self.location.path, self.format.store_id, self.location.uri)

    def read_object(self, key: str) -> bytes:
        """Return what one of the store's own objects holds, decrypted.

        Raises:
            ObjectMissingError: If there is none.
            ArtifactCorruptError: If the store's keys do not open it.
        """
        return self.sealer.open_object(key, self.backend.read(self.key(key)))

    def write_object(self, key: str, data: bytes) -> None:
        """Create or replace one of the store's own objects, encrypted where all are."""
        self.backend.write(self.key(key), self.sealer.seal_object(key, data))

    # --- manifests ---

    def segment_names(self, scope: str) -> list[str]:
        """Return the names of a scope's segments, replaced ones included, in order."""
        prefix = self.key(object_keys.segment_prefix(scope))
        listed = ((stored.key[len(prefix) :], stored.size) for stored in self.backend.list(prefix))
        sizes = {name: size for name, size in listed if object_keys.is_segment_name(name)}
        if manifest_bytes(sizes) > INLINE_SCOPE_BYTES:
            self._full_scopes.add(scope)
        return sorted(sizes)

    def takes_inline(self, scope: str) -> bool:
        """Tell whether a scope's manifest may grow by small files' bytes, as far as is known."""
        return scope not in self._full_scopes

    def segments(self, scope: str) -> list[Segment]:
        """Return the segments that make up a scope now, without those that others stand for.

        Raises:
            ArtifactCorruptError: If one is damaged or vanished.
        """
        for _ in range(_RELISTS):
            try:
                return self._live_segments(scope, self.segment_names(scope))
            except ObjectMissingError:
                # Removed between listing and reading: another one stands for it by now.
                continue
        raise ArtifactCorruptError(
            f"The manifest of {scope or 'the store root'!r} in {self.location.uri} keeps changing "
            f"while it is read. Nothing was changed. Try again."
        )

    def _live_segments(self, scope: str, names: list[str]) -> list[Segment]:
        living, replaced = live_combined(
            self._read_segments(scope, [name for name in names if object_keys.is_combined(name)])
        )
        plain = [n for n in names if not object_keys.is_combined(n) and n not in replaced]
        return living + self._read_segments(scope, plain)

    def _read_segments(self, scope: str, names: list[str]) -> list[Segment]:
        reading = [thread_pools.submit(self._segment, scope, name) for name in names]
        return [future.result() for future in reading]

    def view(self, scope: str) -> View:
        """Return what a scope holds now."""
        return merge(self.segments(scope))

    def _segment(self, scope: str, name: str) -> Segment:
        key = (self.format.store_id, scope, name)
        # What was read before is not for one who has no key now.
        segment = _segments.get(key) if self.sealer else None
        if segment is None:
            try:
                segment, size = self._read_segment(scope, name)
            except ArtifactCorruptError:
                # Wrong bytes are read once more, since they may have gone wrong on the way.
                segment, size = self._read_segment(scope, name)
            # Parsed, a segment takes several times its compressed size.
            _segments.put(key, segment, size * 8)
        return segment

    def _read_segment(self, scope: str, name: str) -> tuple[Segment, int]:
        data = self.read_object(object_keys.segment_key(scope, name))
        return decode_segment(data, scope, name), len(data)

    def commit(
        self, scope: str, operations: Sequence[Operation], names: Sequence[str] | None = None
    ) -> str:
        """Make operations take effect, after all that is committed by now.

        Args:
            scope: What they are about.
            operations: In order.
            names: The scope's segments, if the caller has just listed them.

        Returns:
            The new segment's name.
        """
        names = self.segment_names(scope) if names is None else names
        self.refuse_locked(scope, operations, names)
        name = self._next_ulid(names)
        if any(isinstance(operation, Lock | Unlock) for operation in operations):
            name += object_keys.LOCKS_SUFFIX
        self._write_segment(Segment(scope, name, tuple(operations)))
        if len(names) + 1 >= COMBINE_FROM_SEGMENTS:
            self.combine(scope)
        return name

    def refuse_locked(
        self, scope: str, operations: Sequence[Operation], names: Sequence[str] | None = None
    ) -> None:
        """Refuse operations on what is locked; `commit` does, a caller may before it begins.

        Raises:
            ArtifactLockedError: With the lock's reason.
        """
        names = self.segment_names(scope) if names is None else names
        if not any(map(object_keys.has_locks, names)):
            return
        view = self.view(scope)
        for operation in operations:
            lock = view.lock_on(operation)
            if lock is not None:
                raise ArtifactLockedError(
                    f"{object_keys.join(scope, operation.path) or 'Everything'!r} cannot be "
                    f"changed: {object_keys.join(scope, lock.path)!r} is locked ({lock.reason}). "
                    f"Nothing was changed. Log to another path or "
                    f"run; who locked it can release it."
                )

    def _write_segment(self, segment: Segment) -> None:
        key = object_keys.segment_key(segment.scope, segment.name)
        data = self.sealer.seal_object(key, encode_segment(segment))
        is_new = self.backend.write_if_absent(self.key(key), data)
        # Where the first try arrived and only its answer was lost, the second finds it there.
        if not is_new and self.backend.read(self.key(key)) != data:
            raise ArtifactCorruptError(
                f"There is already a manifest segment {key!r}, under a name that only chance can "
                f"repeat. Nothing was committed. Try again."
            )

    @staticmethod
    def _next_ulid(names: Iterable[str]) -> str:
        # Later than any name there is, whatever this machine's clock says: a machine whose clock
        # is ahead must not make everybody's later writes invisible.
        now = time.time_ns() // 1_000_000
        last = max((object_keys.ulid_milliseconds(name) for name in names), default=0)
        return object_keys.make_ulid(max(now, last + 1), secrets.token_bytes(10))

    def combine(self, scope: str, *, at_least: int = 0) -> None:
        """Add one segment that stands for all there are, so that readers need read it only.

        It takes effect where the last of them did: what is written meanwhile still comes after
        it. Nothing is removed here, since another process may be doing the same; removing is for
        a collection that waits out every writer.

        Args:
            scope: Whose segments.
            at_least: How many living ones there must be; by default as many as make it pay.
        """
        try:
            segments = self.segments(scope)
        except PackError:
            # The commit itself has succeeded; damage is for readers and fsck to report.
            _logger.debug("Segments of %r were not combined.", scope, exc_info=True)
            return
        replaced = {name for segment in segments for name in segment.replaces}
        # The more there is to repeat, the more must have been added: the work stays n log n.
        if len(segments) < (at_least or max(COMBINE_FROM_SEGMENTS, len(replaced) // 8)):
            return
        last = max(segments, key=lambda s: s.order)
        names = sorted(replaced | {segment.name for segment in segments})
        view = merge(segments)
        suffix = object_keys.COMBINED_SUFFIX + (object_keys.LOCKS_SUFFIX if view.locks else "")
        self._write_segment(
            Segment(
                scope,
                self._next_ulid(names) + suffix,
                view.compacted(),
                replaces=tuple(names),
                as_of=last.as_of or last.name,
            )
        )

    def scopes_under(self, path: str) -> list[str]:
        """Return the scopes at or below a path of the store that is inside none."""
        return sorted(set(self._find_scopes(path)))

    def _find_scopes(self, path: str) -> Iterator[str]:
        prefix = self.key(path) + "/" if self.key(path) else ""
        for name in self.backend.folders(prefix):
            if not path and name == object_keys.OWN_FOLDER:
                continue
            if name == object_keys.SEGMENT_FOLDER:
                if object_keys.split_scope(object_keys.join(path, "x"))[0] == path:
                    yield path
                continue
            for stored in self.backend.list(f"{prefix}{name}/"):
                inner = object_keys.relative_to(stored.key, self.location.path)
                segment = object_keys.parse_segment_key(inner or "")
                if segment is not None:
                    yield segment.scope

    def view_under(self, path: str) -> View:
        """Return everything at or below a path, the paths being relative to the store's root."""
        scope, _ = object_keys.split_scope(path)
        scopes = [scope]
        if not scope:
            scopes += [found for found in self.scopes_under(path) if found]
        whole = View()
        for found in scopes:
            view = self.view(found)
            if not found:
                whole.files.update(view.files)
                whole.folders.update(view.folders)
                continue
            for entry in view.files.values():
                full = object_keys.join(found, entry.path)
                whole.files[full] = entry
            whole.folders.update(object_keys.join(found, folder) for folder in view.folders)
        return whole

    # --- index ---

    def read_delta(self, name: str) -> Delta:
        """Return an index delta.

        Raises:
            ObjectMissingError: If there is none.
            ArtifactCorruptError: If it is damaged.
        """
        return decode_delta(self.read_object(object_keys.index_key(name)), name)

    def refresh_index(self, *, max_age_seconds: float = 0) -> None:
        """Learn what other writers added to the index, and what a collection condemned.

        Args:
            max_age_seconds: Do nothing if that was done so lately. What a writer takes from the
                index is a hint: it costs bytes if it is old, and is checked before the commit.
        """
        now = time.monotonic()
        if now - self._refreshed < max_age_seconds:
            return
        condemned = thread_pools.submit(self.condemned)
        for _ in range(_RELISTS):
            listed = self._list_deltas()
            try:
                self.index.refresh(list(listed), self._load_deltas)
                self._refreshed = now
                break
            except ObjectMissingError:
                # Combined between listing and reading: another one says the same by now.
                continue
        else:
            self.clear_index()
        self._small_deltas = self._living_small(listed)
        condemned.result()

    def clear_index(self) -> None:
        """Forget the index, which the next refresh loads anew."""
        self._refreshed = -math.inf
        self.index.clear()

    def missing_packs(self, packs: Iterable[bytes]) -> list[bytes]:
        """Return those of the packs that are not there; what was seen lately is not asked again."""
        now = time.monotonic()
        asking = {
            pack: thread_pools.submit(self.backend.size, self.key(object_keys.pack_key(pack)))
            for pack in packs
            if now - self._seen_packs.get(pack, -math.inf) > _PACK_SEEN_SECONDS
        }
        missing = [pack for pack, size in asking.items() if size.result() is None]
        self._seen_packs.update(dict.fromkeys(asking.keys() - set(missing), now))
        return missing

    def _list_deltas(self) -> dict[str, int]:
        """Return the sizes of all index deltas in bytes, by name."""
        listed = self.backend.list(self.key(object_keys.INDEX_PREFIX))
        return {
            name: stored.size
            for stored in listed
            if object_keys.is_ulid(name := _last_part(stored))
        }

    def index_names(self) -> list[str]:
        """Return the names of all index deltas."""
        return list(self._list_deltas())

    def places_of(self, chunk: Chunk) -> Iterator[Chunk]:
        """Give places of a chunk other than the one given: a place in a manifest may grow old."""
        tried = {chunk}
        for attempt in range(_RELISTS):
            # More than once: it may be moved again between looking it up and reading it.
            if attempt:
                self.refresh_index()
            for place in self.index.find_places(chunk.sha256):
                if place not in tried:
                    tried.add(place)
                    yield place

    def note_gone(self, pack: bytes) -> None:
        """Remember that a pack is not there, so that nobody asks for it chunk by chunk."""
        # Called on the pool that a refresh of the index would wait for: `places_of` does that.
        self._gone_packs.add(pack)

    def current_place(self, chunk: Chunk) -> Chunk:
        """Return where a chunk is by now, as far as that is known without asking."""
        if chunk.pack not in self._gone_packs:
            return chunk
        found = self.index.find_places(chunk.sha256)
        return next((place for place in found if place.pack not in self._gone_packs), chunk)

    def note_pack(self, pack: bytes) -> None:
        """Remember that a pack is being written just now."""
        self._seen_packs[pack] = time.monotonic()

    # --- collection ---

    def condemned_lists(self, *, fresh: bool = False) -> dict[str, CondemnedList]:
        """Return all lists of condemned packs, by name.

        Args:
            fresh: Read also those again that were read before: which packs they list never
                changes, but whether they were swept does.

        Raises:
            ArtifactCorruptError: If one cannot be read.
        """
        prefix = self.key(object_keys.COLLECTION_PREFIX)
        names = [s.key[len(prefix) :] for s in self.backend.list(prefix)]
        lists: dict[str, CondemnedList] = {}
        for name in filter(object_keys.is_ulid, names):
            known = None if fresh else self._lists.get(name)
            try:
                lists[name] = known or decode_list(
                    self.backend.read(self.key(object_keys.condemned_key(name))), name
                )
            except ObjectMissingError:
                # Removed between listing and reading, long after its packs were.
                continue
        self._lists = lists
        return dict(lists)

    def condemned(self) -> frozenset[bytes]:
        """Return the packs that a collection condemned: nothing may newly lean on them."""
        lists = self.condemned_lists().values()
        self.index.withheld = frozenset().union(*(found.packs for found in lists))
        return self.index.withheld

    def _load_deltas(self, names: Sequence[str]) -> Iterator[Delta | None]:
        """Give deltas in the order of their names, None for one that cannot be read."""

        def load(name: str) -> Delta | None:
            try:
                return self.read_delta(name)
            except ArtifactCorruptError as exc:
                # The index only saves uploads: damage to it must not stop anybody's work.
                _logger.warning("%s Going on without it.", exc.message)
                return None

        for start in range(0, len(names), thread_pools.IO_THREADS):
            batch = names[start : start + thread_pools.IO_THREADS]
            for future in [thread_pools.submit(load, name) for name in batch]:
                yield future.result()

    def index_deltas(self) -> Iterator[tuple[str, Delta]]:
        """Give all index deltas that can be read, with their names."""
        for name in self._list_deltas():
            try:
                (delta,) = self._load_deltas([name])
            except ObjectMissingError:
                continue
            if delta is not None:
                yield name, delta

    def rewrite_deltas(self, names: Sequence[str], combined: Delta) -> None:
        """Put one delta, or as many as it takes, in the place of others and remove these.

        Args:
            names: The others.
            combined: If it says that it replaces them, caches keep what they took from them; else
                they load everything anew.
        """
        for piece in split_delta(combined):
            self._add_delta(piece)
        for name in names:
            self._small_deltas.pop(name, None)
        self.backend.delete(self.key(object_keys.index_key(name)) for name in names)

    def write_delta(self, delta: Delta) -> None:
        """Add to the index."""
        self._add_delta(delta)
        # Most calls are spared a listing: what the last one showed says when it is time.
        if len(self._small_deltas) < COMBINE_FROM_DELTAS:
            return
        self._small_deltas = self._living_small(self._list_deltas())
        if len(self._small_deltas) >= COMBINE_FROM_DELTAS:
            for names in group_deltas(self._small_deltas):
                self._combine_deltas(names)

    def _living_small(self, listed: dict[str, int]) -> dict[str, int]:
        replaced = self.index.replaced()
        return {
            name: size
            for name, size in listed.items()
            if size < SMALL_DELTA_BYTES and name not in replaced
        }

    def _add_delta(self, delta: Delta) -> None:
        ulid = object_keys.make_ulid(time.time_ns() // 1_000_000, secrets.token_bytes(10))
        data = encode_delta(delta)
        self.write_object(object_keys.index_key(ulid), data)
        self.index.add(ulid, delta)
        if len(data) < SMALL_DELTA_BYTES:
            self._small_deltas[ulid] = len(data)

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
            self.rewrite_deltas(read, Delta(combined.packs, combined.files, tuple(read)))
        except PackError:
            # Who may write need not be allowed to delete; repeated deltas cost a little space.
            _logger.debug("Replaced index deltas stay.", exc_info=True)


def _last_part(stored: Stored) -> str:
    return stored.key.rpartition("/")[2]
