"""Answers what a commit protocol asks for, from the objects of one store."""

from __future__ import annotations

import base64
import contextlib
import random
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from cachetools import LRUCache

from mlflow_plugins_pack.artifacts import deferred, thread_pools
from mlflow_plugins_pack.artifacts.backends.base import ObjectMissingError, Stored
from mlflow_plugins_pack.artifacts.commit import requests
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import (
    SEGMENT_HEADER,
    FileEntry,
    Lock,
    Segment,
    decode_segment,
    encode_segment,
)
from mlflow_plugins_pack.artifacts.format.segment_names import (
    bytes_to_read,
    entry_name,
    is_own_name,
    lock_markers,
    lock_receipts,
    outdated_receipts,
    parse_segment_name,
    receipt_name,
)
from mlflow_plugins_pack.artifacts.store.objects import StoreObjects
from mlflow_plugins_pack.errors import ArtifactCorruptError

_SIZES = 10_000
_MAX_WAIT_SECONDS = 0.5
_REMEMBERED_SEGMENTS = 256
_MOST_REMEMBERED_BYTES = 64 * 1024
"""Segments that this process has written are joined without reading them, if they are small."""

_IDENTITY_BYTES = SEGMENT_HEADER.size
"""The start of a segment has the hash of its text, its random writer included; that of an encrypted
one has a random nonce: no other has the same."""

T = TypeVar("T")


class SegmentIO:
    """Reads and writes manifest segments as a protocol asks for it.

    Attributes:
        sizes: About how many bytes a reader of a scope needs, by scope, as far as it is known.
    """

    def __init__(self, objects: StoreObjects) -> None:
        self._objects = objects
        self.sizes: LRUCache[str, int] = LRUCache(_SIZES)
        self._written: LRUCache[tuple[str, str], Segment] = LRUCache(_REMEMBERED_SEGMENTS)
        self._receipts: LRUCache[str, str] = LRUCache(_SIZES)
        self._guard = threading.Lock()

    def run(self, scope: str, protocol: requests.Protocol[T]) -> T:
        """Carry a protocol out."""
        answer: Any = None
        while True:
            try:
                request = protocol.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            answer = self._answer(scope, request)

    def _answer(self, scope: str, request: requests.Request) -> Any:
        if isinstance(request, requests.ListNames):
            # What others did since this process wrote here is not known, nor whether its entries
            # are still there: the storage may have been set back.
            self.forget(scope)
            return list(self.list(scope))
        if isinstance(request, requests.ReadSegments):
            return self._read_all(scope, request)
        if isinstance(request, requests.Identify):
            return self._identify(scope, request.name)
        if isinstance(request, requests.CreateSegment):
            return self._create(scope, request)
        if isinstance(request, requests.MarkLocked):
            for name in lock_markers(_new_ulid()):
                self.mark(scope, name)
            return None
        if isinstance(request, requests.Remove):
            self._objects.backend.delete(self.key(scope, name) for name in request.names)
            return None
        if isinstance(request, requests.Confirm):
            for name in lock_receipts(request.name):
                self.mark(scope, name)
            return None
        if isinstance(request, requests.ListAges):
            return self._list_ages(scope)
        if isinstance(request, requests.Clock):
            return steady_seconds()
        if isinstance(request, requests.NewWriter):
            return _new_writer()
        if isinstance(request, requests.Wait):
            limit = min(_MAX_WAIT_SECONDS, 0.002 * 2 ** min(request.attempt, 10))
            time.sleep(random.uniform(0, limit))  # noqa: S311 - spreads competing writers
            return None
        raise AssertionError(f"an unknown request: {request}")

    def read_all(self, scope: str, names: Sequence[str]) -> Sequence[Segment | None]:
        """Return segments, None in the place of one that does not exist.

        Raises:
            ArtifactCorruptError: If one is damaged.
        """
        return self._read_all(scope, requests.ReadSegments(tuple(names)))

    def _read_all(self, scope: str, request: requests.ReadSegments) -> Sequence[Segment | None]:
        if len(request.names) == 1:
            return [self.read(scope, request.names[0])]
        known: dict[str, Segment] = {}
        if request.are_just_written:
            with self._guard:
                found = ((name, self._written.get((scope, name))) for name in request.names)
                known = {name: segment for name, segment in found if segment is not None}
        reading = {
            name: thread_pools.submit(self.read, scope, name)
            for name in request.names
            if name not in known
        }
        return [known[n] if n in known else reading[n].result() for n in request.names]

    def list(self, scope: str) -> dict[str, Stored]:
        """Return all segments, lock markers and receipts of a scope, by name."""
        prefix = self.key(scope, "")
        listed = ((s.key[len(prefix) :], s) for s in self._objects.backend.list(prefix))
        found = {name: stored for name, stored in listed if is_own_name(name)}
        self.sizes[scope] = bytes_to_read({name: stored.size for name, stored in found.items()})
        return found

    def find_scopes(self, path: str) -> Iterator[str]:
        """Yield scopes at or below a path that is not inside a scope, some more than once."""
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
                scope = object_keys.scope_of_key(inner or "")
                if scope is not None:
                    yield scope

    def holders_in(self, scope: str, names: Iterable[str]) -> set[str]:
        """Return the keys of the entries whose bytes some segments refer to.

        Raises:
            ArtifactCorruptError: If one of these segments is damaged.
        """
        held: set[str] = set()
        for segment in self.read_all(scope, [n for n in names if parse_segment_name(n)]):
            for operation in segment.operations if segment is not None else ():
                entries = operation.binds if isinstance(operation, Lock) else (operation,)
                held.update(
                    entry.holder
                    for entry in entries
                    if isinstance(entry, FileEntry) and entry.is_held and entry.inline is None
                )
        return held

    def _list_ages(self, scope: str) -> dict[str, float]:
        """Return how many seconds before the newest object each one was written."""
        found = self.list(scope)
        newest = max((stored.modified for stored in found.values()), default=0.0)
        return {name: newest - stored.modified for name, stored in found.items()}

    def key(self, scope: str, name: str) -> str:
        """Return the backend's key of a segment or marker."""
        return self._objects.key(object_keys.segment_key(scope, name))

    def read(self, scope: str, name: str) -> Segment | None:
        """Return a segment, None if it does not exist.

        Raises:
            ArtifactCorruptError: If it is damaged.
        """
        try:
            try:
                return self._read_segment(scope, name)
            except ArtifactCorruptError:
                # Wrong bytes are read once more, since they may have gone wrong on the way.
                return self._read_segment(scope, name)
        except ObjectMissingError:
            return None

    def mark(self, scope: str, name: str) -> None:
        """Write an object that says all it has to say by its name."""
        self._objects.backend.write(self.key(scope, name), b"")

    def write_receipt_now(self, scope: str) -> None:
        """Write the receipt of this process's last entry, if that is still to be done."""
        deferred.now((id(self), scope))

    def forget(self, scope: str) -> None:
        """Forget the segments of a scope that this process has written or read."""
        with self._guard:
            for key in [key for key in self._written if key[0] == scope]:
                del self._written[key]

    def is_there(self, scope: str, name: str, identity: bytes) -> bool:
        """Return whether a segment is there and has this identity."""
        return self._identify(scope, name) == identity

    def _identify(self, scope: str, name: str) -> bytes | None:
        try:
            return self._objects.backend.read(self.key(scope, name), 0, _IDENTITY_BYTES)
        except ObjectMissingError:
            return None

    def complete_receipts(self, scope: str, names: Iterable[str], number: int) -> None:
        """Write the receipt of the last call, if its writer did not, and remove older ones."""
        receipt = receipt_name(entry_name(number))
        if number and receipt not in names:
            self.mark(scope, receipt)
        outdated = outdated_receipts((*names, receipt))
        self._objects.backend.delete(self.key(scope, name) for name in outdated)

    def _write_receipt_later(self, scope: str, entry: str, identity: bytes) -> None:
        """Write down soon that an entry was written, should it be lost before another follows."""
        # An entry with a writer may share its number with others, so that each has a receipt.
        key = (id(self), scope, entry) if "-" in entry else (id(self), scope)
        deferred.later(key, partial(self._write_receipt, scope, entry, identity))

    def _write_receipt(self, scope: str, entry: str, identity: bytes) -> None:
        # Where the storage was wiped or set back meanwhile, it is known what is lost.
        if not self.is_there(scope, entry, identity):
            return
        self.mark(scope, receipt_name(entry))
        look = partial(self._withdraw_receipt, scope, entry)
        deferred.later((id(self), scope, entry, "receipt"), look)
        if "-" in entry:
            return
        with self._guard:
            before = self._receipts.pop(scope, None)
            self._receipts[scope] = receipt_name(entry)
        if before is not None and before < receipt_name(entry):
            self._objects.backend.delete([self.key(scope, before)])

    def _withdraw_receipt(self, scope: str, entry: str) -> None:
        """Remove a receipt that was written while the storage was wiped or set back.

        An operator who lists what there is, and then removes it, removes the entry and leaves the
        receipt, which would show readers a lost call for good.
        """
        if self._objects.backend.size(self.key(scope, entry)) is None:
            self._objects.backend.delete([self.key(scope, receipt_name(entry))])

    def _read_segment(self, scope: str, name: str) -> Segment:
        key = object_keys.segment_key(scope, name)
        data = self._objects.backend.read(self._objects.key(key))
        segment = decode_segment(self._objects.sealer.open_object(key, data), scope, name)
        return replace(segment, identity=data[:_IDENTITY_BYTES])

    def _create(self, scope: str, request: requests.CreateSegment) -> Segment | None:
        objects = self._objects
        segment = Segment(scope, request.name, request.operations, _new_writer())
        key = object_keys.segment_key(scope, request.name)
        encoded = encode_segment(segment)
        # What this process could not read back no process could, and nothing in the scope either.
        segment = decode_segment(encoded, scope, request.name)
        data = objects.sealer.seal_object(key, encoded)
        segment = replace(segment, identity=data[:_IDENTITY_BYTES])
        self.sizes[scope] = self.sizes.get(scope, 0) + len(data)
        is_new = objects.backend.write_if_absent(objects.key(key), data)
        if is_new and len(encoded) <= _MOST_REMEMBERED_BYTES:
            with self._guard:
                self._written[scope, request.name] = segment
        if not is_new:
            # Where the first try arrived and only its answer was lost, the second finds it there.
            with contextlib.suppress(ObjectMissingError):
                is_new = objects.backend.read(objects.key(key)) == data
        # Where others may have the same number, the receipt of a lock says that it holds.
        is_pending = segment.numbers.writer and any(isinstance(o, Lock) for o in segment.operations)
        if is_new and not segment.numbers.is_joined and not is_pending:
            self._write_receipt_later(scope, request.name, segment.identity)
        return segment if is_new else None


def steady_seconds() -> float:
    """Return seconds that go on while a machine sleeps, where that can be had."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def _new_writer() -> str:
    return base64.b32encode(secrets.token_bytes(10)).decode().lower()


def _new_ulid() -> str:
    return object_keys.make_ulid(time.time_ns() // 1_000_000, secrets.token_bytes(10))
