"""Reads chunks and recipes from wherever a good copy of them is; every chunk is checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from mlflow_plugins_pack.artifacts.backends.base import ObjectMissingError
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry, inline_bytes
from mlflow_plugins_pack.artifacts.format.pack import (
    KIND_DATA,
    KIND_RECIPE,
    Chunk,
    decode_chunk,
)
from mlflow_plugins_pack.artifacts.format.recipe import RecipePart, decode_recipe_part
from mlflow_plugins_pack.artifacts.store.store import Store
from mlflow_plugins_pack.errors import ArtifactCorruptError

_READS = 2
"""Wrong bytes are read once more, since they may have gone wrong on the way."""


def read_at(store: Store, chunk: Chunk) -> bytes | memoryview | None:
    """Return a chunk's bytes, checked; None if its place does not have them."""
    for _ in range(_READS):
        try:
            stored = store.packs.read(chunk.pack, chunk.offset, chunk.stored)
        except ObjectMissingError:
            store.index.note_gone(chunk.pack)
            return None
        if (data := decode_chunk(chunk, stored, store.sealer)) is not None:
            return data
    return None


def read_elsewhere(store: Store, chunk: Chunk) -> bytes | memoryview | None:
    """Return a chunk's bytes from another place than the one given, None if no copy is good."""
    for place in store.index.places_of(chunk):
        # A length that is recorded wrong must not shift the bytes that follow.
        if place.raw == chunk.raw and (data := read_at(store, place)) is not None:
            return data
    return None


def read_chunk(store: Store, chunk: Chunk) -> bytes | memoryview | None:
    """Return a chunk's raw bytes from wherever a good copy is, or None if no copy is good."""
    data = read_at(store, store.index.current_place(chunk))
    return read_elsewhere(store, chunk) if data is None else data


def read_recipe(store: Store, place: Chunk) -> RecipePart | None:
    """Return a recipe part, or None if there is no good copy of it."""
    data = read_chunk(store, place)
    # A recipe that was moved still means the pack that it was written in.
    return None if data is None else decode_recipe_part(data, place.pack)


def file_chunks(store: Store, entry: FileEntry) -> Iterator[Chunk]:
    """Yield the chunks whose bytes make up a file, in order."""
    return (chunk for kind, chunk in needed_chunks(store, entry) if kind == KIND_DATA)


def read_held(store: Store, entries: Sequence[FileEntry]) -> list[bytes]:
    """Return the bytes of small files that stand in the entry that brought them.

    Args:
        store: The store.
        entries: At least one file; all have the same holder.

    Raises:
        ArtifactCorruptError: If they are not there, or not right.
    """
    holder = store.manifests.holder(entries[0].holder)
    found = []
    for entry in entries:
        data = None if holder is None else inline_bytes(holder, entry)
        if data is None or hashlib.sha256(data).digest() != entry.sha256:
            raise ArtifactCorruptError(
                f"The artifact {entry.path!r} cannot be read: its bytes are missing or wrong in "
                f"{entry.holder}. Nothing was written to the destination. Restore that object "
                f"from a backup, or log the file again."
            )
        found.append(data)
    return found


def needed_chunks(store: Store, entry: FileEntry) -> Iterator[tuple[int, Chunk]]:
    """Yield kind and place of every chunk that a file needs, those of its recipe included.

    Raises:
        ArtifactCorruptError: If a part of its recipe cannot be read, or belongs to another file.
    """
    for chunk in entry.chunks:
        yield KIND_DATA, chunk
    for place in entry.recipe:
        yield KIND_RECIPE, place
        for chunk in _recipe_chunks(store, entry, place):
            yield KIND_DATA, chunk


def _recipe_chunks(store: Store, entry: FileEntry, place: Chunk) -> tuple[Chunk, ...]:
    part = read_recipe(store, place)
    if part is None:
        raise unreadable(store, entry, place)
    if part.file_sha256 != entry.sha256 or part.file_size != entry.size:
        raise inconsistent(
            store, entry, f"has a recipe, {place.id.hex()}, that belongs to another file"
        )
    return part.chunks


def inconsistent(store: Store, entry: FileEntry, what: str) -> ArtifactCorruptError:
    """Return the error for a file whose parts contradict each other."""
    return ArtifactCorruptError(
        f"The artifact {entry.path!r} {what}. Nothing was written to the destination. Run "
        f"`mlflow-pack artifacts fsck --read-data` on {store.location.uri}."
    )


def unreadable(store: Store, entry: FileEntry, chunk: Chunk) -> ArtifactCorruptError:
    """Return the error for a chunk of which no good copy exists."""
    # A collection may have moved it: then it is missing where the index says.
    packs = {place.pack for place in store.index.cache.find_places(chunk.id)} or {chunk.pack}
    where = ", ".join(sorted(map(object_keys.pack_key, packs)))
    return ArtifactCorruptError(
        f"The artifact {entry.path!r} cannot be read: its chunk {chunk.id.hex()} is missing "
        f"or damaged in the pack {where}, and the store has no other copy. "
        f"Nothing was written to the destination. Restore the pack from a backup; or run "
        f"`mlflow-pack artifacts fsck --read-data --repair-index {store.location.uri}`, which "
        f"lists all that is affected and makes the store forget the damaged copy, and log the "
        f"file again."
    )
