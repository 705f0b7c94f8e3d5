"""What a store holds and what that costs: for ``du`` and ``stats``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.pack import Chunk
from mlflow_plugins_pack.artifacts.store.chunk_reader import read_recipe
from mlflow_plugins_pack.artifacts.store.store import Store


@dataclass
class Usage:
    """Size of one scope, or of several together.

    Attributes:
        path: Scope, or the folder above several.
        files: Number of files.
        logical_bytes: What a download of all of them would write.
        stored: Stored length of every distinct chunk referred to, by hash.
        inline_bytes: Bytes of files that are stored in the manifest itself.
    """

    path: str
    files: int = 0
    logical_bytes: int = 0
    stored: dict[bytes, int] = field(default_factory=dict)
    inline_bytes: int = 0

    @property
    def stored_bytes(self) -> int:
        """Bytes that this alone would need, equal chunks counted once."""
        return sum(self.stored.values()) + self.inline_bytes

    def add(self, other: Usage) -> None:
        """Take another one's files in."""
        self.files += other.files
        self.logical_bytes += other.logical_bytes
        self.stored.update(other.stored)
        self.inline_bytes += other.inline_bytes


def usage_by_scope(store: Store, path: str = "") -> Iterator[Usage]:
    """Yield the usage of every run, model and trace at or below a path, sorted by path."""
    scope, _ = object_keys.split_scope(path)
    scopes = [scope] if scope else store.manifests.scopes_under(path)
    for found in scopes:
        view = store.manifests.view(found)
        if not view.is_empty():
            yield _usage_of(store, found, view.files.values())


def usage_by_experiment(scopes: Iterable[Usage]) -> list[Usage]:
    """Add scopes up by the folder of their experiment."""
    groups: dict[str, Usage] = {}
    for usage in scopes:
        parts = usage.path.split("/")[:-2]
        if parts and parts[-1] in ("models", "traces"):
            parts = parts[:-1]
        folder = "/".join(parts)
        groups.setdefault(folder, Usage(folder)).add(usage)
    return [groups[folder] for folder in sorted(groups)]


def _usage_of(store: Store, scope: str, entries: Iterable[FileEntry]) -> Usage:
    usage = Usage(scope)
    for entry in entries:
        usage.files += 1
        usage.logical_bytes += entry.size
        if entry.inline is not None:
            usage.inline_bytes += len(entry.inline)
        elif entry.is_held:
            usage.inline_bytes += entry.size
        for chunk in chunks_of(store, entry):
            usage.stored[chunk.id] = chunk.stored
    return usage


def chunks_of(store: Store, entry: FileEntry) -> Iterator[Chunk]:
    """Yield every chunk that a file needs, those of its recipe included; unreadable parts not."""
    yield from entry.chunks
    for place in entry.recipe:
        yield place
        part = read_recipe(store, place)
        if part is not None:
            yield from part.chunks


@dataclass
class Statistics:
    """Objects of a store, by kind, and what they hold."""

    store_id: str
    packs: int = 0
    pack_bytes: int = 0
    index_objects: int = 0
    index_bytes: int = 0
    manifest_segments: int = 0
    manifest_bytes: int = 0
    scopes: int = 0
    files: int = 0
    logical_bytes: int = 0
    distinct_chunks: int = 0
    referenced_bytes: int = 0

    @property
    def stored_bytes(self) -> int:
        """All bytes of all objects."""
        return self.pack_bytes + self.index_bytes + self.manifest_bytes

    @property
    def ratio(self) -> float | None:
        """Logical bytes per stored byte."""
        return round(self.logical_bytes / self.stored_bytes, 2) if self.stored_bytes else None


def statistics(store: Store) -> Statistics:
    """Count a store's objects and what they hold."""
    result = Statistics(store.format.store_id)
    for stored in store.packs.stored().values():
        result.packs += 1
        result.pack_bytes += stored.size
    for stored in store.backend.list(store.key(object_keys.INDEX_PREFIX)):
        result.index_objects += 1
        result.index_bytes += stored.size
    total = Usage("")
    for scope in store.manifests.scopes_under(""):
        for stored in store.backend.list(store.key(object_keys.segment_prefix(scope))):
            result.manifest_segments += 1
            result.manifest_bytes += stored.size
        view = store.manifests.view(scope)
        if not view.is_empty():
            result.scopes += 1
            total.add(_usage_of(store, scope, view.files.values()))
    result.files = total.files
    result.logical_bytes = total.logical_bytes
    result.distinct_chunks = len(total.stored)
    result.referenced_bytes = sum(total.stored.values())
    return result
