"""The mark phase of a collection: which chunks manifests need, and where each of them is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.pack import Chunk
from mlflow_plugins_pack.artifacts.format.segment_names import parse_segment_name
from mlflow_plugins_pack.artifacts.format.view import bound_by_locks
from mlflow_plugins_pack.artifacts.pieces import Workers, open_for_worker
from mlflow_plugins_pack.artifacts.store.chunk_reader import needed_chunks
from mlflow_plugins_pack.artifacts.store.segment_io import SegmentIO
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.errors import ArtifactCorruptError, ArtifactError, StorageError

_SCOPES_TOGETHER = 100

FileIdentity = tuple[bytes, tuple[Chunk, ...]]
"""A file's hash and the places that its entry names."""

Needs = tuple[FileIdentity, list[tuple[int, Chunk]]]
"""A file, and the chunks of data and recipes that it needs, each with its kind."""


@dataclass
class Marked:
    """What manifests need.

    Attributes:
        homes: Per hash the kind of the chunk and where it is, by preference in a pack that stays.
        moved: Files that name a pack which is gone or will go.
    """

    homes: dict[bytes, tuple[int, Chunk]] = field(default_factory=dict)
    moved: set[FileIdentity] = field(default_factory=set)


def mark(
    store: Store,
    packs: Collection[bytes],
    condemned: frozenset[bytes],
    scope_done: Callable[[], None],
    workers: Workers | None = None,
) -> Marked:
    """Read all manifests and return what they need.

    Args:
        store: The store.
        packs: Names of the packs that exist.
        condemned: Those of them that will be removed.
        scope_done: Called before each scope is read, or every few seconds.
        workers: Who reads the manifests; this process if not given.

    Raises:
        ArtifactCorruptError: If a manifest or recipe cannot be read.
    """
    marked = Marked()

    def rank(chunk: Chunk) -> int:
        return 0 if chunk.pack not in packs else 1 if chunk.pack in condemned else 2

    seen: set[FileIdentity] = set()
    for identity, needs in _needed_by(workers, store, seen, scope_done):
        for kind, chunk in needs:
            known = marked.homes.get(chunk.id)
            if known is None or rank(known[1]) < rank(chunk):
                marked.homes[chunk.id] = (kind, chunk)
            if rank(chunk) < 2:
                marked.moved.add(identity)
    store.index.refresh()
    for chunk_id, (kind, chunk) in marked.homes.items():
        if rank(chunk) < 2:
            best = max((chunk, *store.index.cache.find_places(chunk_id)), key=rank)
            marked.homes[chunk_id] = (kind, best)
    return marked


def _needed_files(store: Store, scope: str) -> Iterator[FileEntry]:
    yield from store.manifests.view(scope).files.values()
    if not store.format.is_numbered:
        # A lock that is being taken there is not yet part of the view.
        io = SegmentIO(store)
        segments = io.read_all(scope, [n for n in io.list(scope) if parse_segment_name(n)])
        yield from bound_by_locks(segment for segment in segments if segment is not None)


def _needed_by(
    workers: Workers | None, store: Store, seen: set[FileIdentity], tick: Callable[[], None]
) -> Iterator[Needs]:
    if workers is None:
        for scope in store.manifests.scopes_under(""):
            tick()
            yield from _needed(store, scope, seen=seen)
        return
    call = partial(_needed_in_store, store.location.uri)
    for found in workers.map(call, _batches(store.manifests.scopes_under("")), tick):
        for identity, needs in found:
            if identity not in seen:
                seen.add(identity)
                yield identity, needs


def _batches(scopes: Iterable[str]) -> Iterator[list[str]]:
    coming = iter(scopes)
    while batch := list(itertools.islice(coming, _SCOPES_TOGETHER)):
        yield batch


def _needed_in_store(uri: str, scopes: list[str]) -> list[Needs]:
    """Return, in a worker, what some scopes need."""
    store = open_for_worker(uri)
    seen: set[FileIdentity] = set()
    return [need for scope in scopes for need in _needed(store, scope, seen=seen)]


def _needed(store: Store, scope: str, *, seen: set[FileIdentity]) -> Iterator[Needs]:
    where = scope
    try:
        for entry in _needed_files(store, scope):
            where = object_keys.join(scope, entry.path)
            identity = (entry.sha256, entry.recipe or entry.chunks)
            if entry.inline is not None or identity in seen:
                continue
            seen.add(identity)
            yield identity, list(needed_chunks(store, entry))
    except StorageError:
        raise
    except ArtifactError as exc:
        raise ArtifactCorruptError(
            f"What {where or 'the store root'!r} needs is unknown, so nothing more was condemned "
            f"or removed: {exc.message}"
        ) from exc
