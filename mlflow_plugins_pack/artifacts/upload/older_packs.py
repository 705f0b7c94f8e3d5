"""Makes sure that the packs which a call relies on exist, and stay."""

from __future__ import annotations

from collections.abc import Iterator

from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry, Operation
from mlflow_plugins_pack.artifacts.format.pack import Chunk
from mlflow_plugins_pack.artifacts.store.chunk_copy import copy_chunks
from mlflow_plugins_pack.artifacts.store.chunk_reader import needed_chunks, read_recipe
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.artifacts.upload.pack_writer import PackWriter
from mlflow_plugins_pack.errors import ArtifactCorruptError

_SETTLE_ROUNDS = 10


class MissingPackError(ArtifactCorruptError):
    """The index named packs that do not exist; in this process it no longer does."""


class OlderPacks:
    """The packs that one call relies on, most of which earlier calls wrote."""

    def __init__(self, store: Store, packs: PackWriter) -> None:
        self._store = store
        self._packs = packs
        self._copies: dict[bytes, frozenset[bytes]] = {}

    def settle(self, relied_on: set[bytes], resolved: dict[str, list[Operation]]) -> None:
        """Make sure that nothing of this call relies on a pack that will be removed.

        Args:
            relied_on: The packs that it relies on.
            resolved: What it has just committed.
        """
        if not self._packs.knows_index:
            return
        for _ in range(_SETTLE_ROUNDS):
            settled = self.leave(self._store.condemned.packs(), relied_on, resolved)
            if settled == relied_on:
                if not self._packs.is_confirmed_lately():
                    # So long after they were looked for, packs may be gone, and the list, too.
                    self.confirm(resolved)
                return
            relied_on = settled
        raise MissingPackError(
            f"What this upload stored in {self._store.location.uri} was condemned again and again "
            f"by collections. Log it again, and run `mlflow-pack artifacts gc` with a longer "
            f"--grace."
        )

    def leave(
        self,
        condemned: frozenset[bytes],
        relied_on: set[bytes],
        resolved: dict[str, list[Operation]],
    ) -> set[bytes]:
        """Copy what this call needs of condemned packs; return what it relies on then."""
        leaving = relied_on & condemned
        if not leaving:
            return relied_on
        # Entries name the places that chunks had before they were copied.
        sources = leaving - self._copies.keys()
        for pack in leaving & self._copies.keys():
            sources |= self._copies[pack]
        copied = copy_chunks(self._store, _chunks_in(self._store, sources, resolved))
        if copied.unreadable:
            raise _missing(self._store, copied.unreadable[0].pack)
        self._copies.update(dict.fromkeys(copied.packs, frozenset(sources)))
        return (relied_on - leaving) | copied.packs

    def confirm(self, resolved: dict[str, list[Operation]]) -> set[bytes]:
        """Return the packs that this call relies on; all of them exist.

        Raises:
            MissingPackError: If one was removed although the index still lists it.
        """
        self._packs.note_confirmed()
        packs_of_files: dict[bytes, set[bytes]] = {}
        for operations in resolved.values():
            for operation in operations:
                if isinstance(operation, FileEntry) and operation.sha256 not in packs_of_files:
                    packs_of_files[operation.sha256] = set(self._packs_of(operation))
        used = self._packs.reused.union(self._packs.names, *packs_of_files.values())
        missing = self._store.packs.missing(used - self._packs.just_written())
        if missing:
            needing = [f for f, packs in packs_of_files.items() if not packs.isdisjoint(missing)]
            self._store.index.cache.forget(missing, needing)
            raise _missing(self._store, missing[0])
        return used

    def _packs_of(self, entry: FileEntry) -> Iterator[bytes]:
        yield from (chunk.pack for chunk in entry.chunks)
        for place in entry.recipe:
            yield place.pack
            if place.pack not in self._packs.names:
                part = read_recipe(self._store, place)
                yield from (chunk.pack for chunk in (part.chunks if part else ()))


def _chunks_in(
    store: Store, packs: set[bytes], resolved: dict[str, list[Operation]]
) -> Iterator[tuple[int, Chunk]]:
    """Yield kind and place of all chunks of this call that are in the packs, each once."""
    given: set[bytes] = set()
    for operations in resolved.values():
        for entry in (o for o in operations if isinstance(o, FileEntry)):
            for kind, chunk in needed_chunks(store, entry):
                if chunk.pack in packs and chunk.id not in given:
                    given.add(chunk.id)
                    yield kind, chunk


def _missing(store: Store, pack: bytes) -> MissingPackError:
    return MissingPackError(
        f"The index of {store.location.uri} lists packs that are gone, such as "
        f"{object_keys.pack_key(pack)}, and this upload would have relied on them. Nothing was "
        f"committed that can be read. Log the file again: it will be stored in full. Then run "
        f"`mlflow-pack artifacts fsck --repair-index` to see what else is affected."
    )
