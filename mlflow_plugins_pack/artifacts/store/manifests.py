"""The manifests of a store: what each run, model and trace holds, and how that changes."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from cachetools import LRUCache

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.backends.base import ObjectMissingError
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import (
    Lock,
    Operation,
    Segment,
    Unlock,
    decode_segment,
    encode_segment,
)
from mlflow_plugins_pack.artifacts.format.view import View, live_combined, manifest_bytes, merge
from mlflow_plugins_pack.artifacts.store.objects import StoreObjects
from mlflow_plugins_pack.errors import ArtifactCorruptError, ArtifactLockedError, PackError

_logger = logging.getLogger(__name__)

COMBINE_FROM_SEGMENTS = 32
"""From this many segments on, one is added to a scope that stands for all of them."""

INLINE_SCOPE_BYTES = 1024 * 1024
"""From this size of a scope's manifest on, small files go to packs: a listing reads all of it."""

_SEGMENT_CACHE_BYTES = 16 * 1024 * 1024
_RELISTS = 5

_segments: LRUCache[tuple[str, str, str], tuple[Segment, int]] = LRUCache(
    _SEGMENT_CACHE_BYTES, getsizeof=lambda entry: entry[1]
)
"""Parsed segments and their weights, by store, scope and name; segments never change."""
_segments_lock = threading.Lock()


class Manifests:
    """Reads and changes the manifests of one store."""

    def __init__(self, objects: StoreObjects) -> None:
        self._objects = objects
        self._full_scopes: set[str] = set()

    # --- reading ---

    def segment_names(self, scope: str) -> list[str]:
        """Return the names of a scope's segments, replaced ones included, in order."""
        prefix = self._objects.key(object_keys.segment_prefix(scope))
        listed = (
            (stored.key[len(prefix) :], stored.size)
            for stored in self._objects.backend.list(prefix)
        )
        sizes = {name: size for name, size in listed if object_keys.is_segment_name(name)}
        if manifest_bytes(sizes) > INLINE_SCOPE_BYTES:
            self._full_scopes.add(scope)
        return sorted(sizes)

    def takes_inline(self, scope: str) -> bool:
        """Return whether a scope's manifest may grow by small files' bytes, as far as is known."""
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
            f"The manifest of {scope or 'the store root'!r} in {self._objects.location.uri} keeps "
            f"changing while it is read. Nothing was changed. Try again."
        )

    def view(self, scope: str) -> View:
        """Return what a scope holds now."""
        return merge(self.segments(scope))

    def _live_segments(self, scope: str, names: list[str]) -> list[Segment]:
        living, replaced = live_combined(
            self._read_segments(scope, [name for name in names if object_keys.is_combined(name)])
        )
        plain = [n for n in names if not object_keys.is_combined(n) and n not in replaced]
        return living + self._read_segments(scope, plain)

    def _read_segments(self, scope: str, names: list[str]) -> list[Segment]:
        reading = [thread_pools.submit(self._segment, scope, name) for name in names]
        return [future.result() for future in reading]

    def _segment(self, scope: str, name: str) -> Segment:
        key = (self._objects.format.store_id, scope, name)
        # Raises without the key of an encrypted store, which shows nothing then, cached or not.
        _ = self._objects.sealer
        with _segments_lock:
            known = _segments.get(key)
        if known is not None:
            return known[0]
        try:
            segment, size = self._read_segment(scope, name)
        except ArtifactCorruptError:
            # Wrong bytes are read once more, since they may have gone wrong on the way.
            segment, size = self._read_segment(scope, name)
        # Parsed, a segment takes several times its compressed size.
        weight = size * 8
        if weight <= _SEGMENT_CACHE_BYTES // 4:
            with _segments_lock:
                _segments[key] = (segment, weight)
        return segment

    def _read_segment(self, scope: str, name: str) -> tuple[Segment, int]:
        data = self._objects.read_object(object_keys.segment_key(scope, name))
        return decode_segment(data, scope, name), len(data)

    # --- changing ---

    def commit(
        self, scope: str, operations: Sequence[Operation], names: Sequence[str] | None = None
    ) -> str:
        """Make operations take effect, after everything that is committed by now.

        Args:
            scope: The scope they change.
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
        objects = self._objects
        key = object_keys.segment_key(segment.scope, segment.name)
        data = objects.sealer.seal_object(key, encode_segment(segment))
        is_new = objects.backend.write_if_absent(objects.key(key), data)
        # Where the first try arrived and only its answer was lost, the second finds it there.
        if not is_new and objects.backend.read(objects.key(key)) != data:
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

    # --- scopes ---

    def scopes_under(self, path: str) -> list[str]:
        """Return the scopes at or below a path that is not inside a scope."""
        return sorted(set(self._find_scopes(path)))

    def _find_scopes(self, path: str) -> Iterator[str]:
        objects = self._objects
        prefix = objects.key(path) + "/" if objects.key(path) else ""
        for name in objects.backend.folders(prefix):
            if not path and name == object_keys.OWN_FOLDER:
                continue
            if name == object_keys.SEGMENT_FOLDER:
                if object_keys.split_scope(object_keys.join(path, "x"))[0] == path:
                    yield path
                continue
            for stored in objects.backend.list(f"{prefix}{name}/"):
                inner = object_keys.relative_to(stored.key, objects.location.path)
                segment = object_keys.parse_segment_key(inner or "")
                if segment is not None:
                    yield segment.scope

    def view_under(self, path: str) -> View:
        """Return everything at or below a path; the view's paths are relative to the store."""
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
                whole.files[full] = replace(entry, path=full)
            whole.folders.update(object_keys.join(found, folder) for folder in view.folders)
        return whole
