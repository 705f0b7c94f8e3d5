"""Chunks and files of an upload whose packs have no names yet: a pack's name is a hash of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mlflow_plugins_pack.artifacts.format.pack import Chunk
from mlflow_plugins_pack.artifacts.format.recipe import CHUNKS_PER_RECIPE_PART

_LISTED = struct.Struct(">I32sIIIB")


class PendingChunk(NamedTuple):
    """A chunk in a pack of the running upload.

    Attributes:
        pack: The pack's number, counted from 0 in the order in which the packs are closed.
        id, offset, stored, raw, codec: As in `Chunk`.
    """

    pack: int
    id: bytes
    offset: int
    stored: int
    raw: int
    codec: int

    def in_pack(self, name: bytes) -> Chunk:
        """Return the chunk as one of the named pack."""
        return Chunk(name, *self[1:])


Placed = Chunk | PendingChunk


@dataclass(frozen=True)
class PendingFile:
    """A file of the running upload; as `FileEntry`, but for the names of its packs.

    Attributes:
        path: Relative to the scope.
        size: In bytes.
        sha256: Of the whole file.
        mtime_ns: When the logged file was last changed; 0 if it came as a stream.
        chunks: Its chunks, for a file of few.
        recipe: The parts of its recipe, for any other.
    """

    path: str
    size: int
    sha256: bytes
    mtime_ns: int = 0
    chunks: tuple[Placed, ...] = ()
    recipe: tuple[Placed, ...] = ()


class ChunkList:
    """Chunks of one file in 49 bytes each: a file of 100 GiB has 400,000 of them."""

    def __init__(self) -> None:
        self._numbers: dict[bytes | int, int] = {}
        self._lines = bytearray()

    def append(self, chunk: Placed) -> None:
        """Add one at the end."""
        number = self._numbers.setdefault(chunk.pack, len(self._numbers))
        self._lines += _LISTED.pack(number, *chunk[1:])

    @property
    def has_new(self) -> bool:
        """Whether one of them is in a pack of the running upload."""
        return any(isinstance(pack, int) for pack in self._numbers)

    def __len__(self) -> int:
        return len(self._lines) // _LISTED.size

    def parts(self, length: int = CHUNKS_PER_RECIPE_PART) -> Iterator[list[Placed]]:
        """Yield all chunks in lists of at most ``length``, such as the parts of a recipe hold."""
        packs = list(self._numbers)
        with memoryview(self._lines) as lines:
            for start in range(0, len(lines), length * _LISTED.size):
                some = lines[start : start + length * _LISTED.size]
                yield [_placed(packs[n], *place) for n, *place in _LISTED.iter_unpack(some)]
                some.release()


def _placed(
    pack: bytes | int, chunk_id: bytes, offset: int, stored: int, raw: int, codec: int
) -> Placed:
    if isinstance(pack, int):
        return PendingChunk(pack, chunk_id, offset, stored, raw, codec)
    return Chunk(pack, chunk_id, offset, stored, raw, codec)
