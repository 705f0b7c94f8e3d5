"""Recipes: the list of chunks of a long file; pure.

A recipe is stored in packs like data, in parts::

    "MPRCPT01" | sha256 of the file | its size u64 | part u32 | parts u32
    number of pack names u16 | the names, 32 bytes each
    number of chunks u32 | per chunk: pack u16, chunk_id, offset u32, stored u32, raw u32, codec u8

Pack 0 of a recipe is the pack that the recipe itself is in, pack 1 the first name.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from mlflow_plugins_pack.artifacts.format.pack import SELF, Chunk
from mlflow_plugins_pack.errors import ArtifactCorruptError

RECIPE_MAGIC = b"MPRCPT01"
_HEADER = struct.Struct(">8s32sQII")
_CHUNK = struct.Struct(">H32sIIIB")
CHUNKS_PER_RECIPE_PART = 4096


@dataclass(frozen=True)
class RecipePart:
    """One part of a long file's list of chunks."""

    file_sha256: bytes
    file_size: int
    part: int
    parts: int
    chunks: tuple[Chunk, ...]


def encode_recipe_part(
    file_sha256: bytes, file_size: int, part: int, parts: int, chunks: Sequence[Chunk]
) -> bytes:
    """Return the bytes of one recipe part."""
    numbers: dict[bytes, int] = {SELF: 0}
    lines = [
        _CHUNK.pack(numbers.setdefault(chunk.pack, len(numbers)), *chunk[1:]) for chunk in chunks
    ]
    names = [name for name in numbers if name != SELF]
    return b"".join(
        [
            _HEADER.pack(RECIPE_MAGIC, file_sha256, file_size, part, parts),
            struct.pack(">H", len(names)),
            *names,
            struct.pack(">I", len(lines)),
            *lines,
        ]
    )


def decode_recipe_part(data: bytes | memoryview, own_pack: bytes) -> RecipePart:
    """Read one recipe part.

    Args:
        data: Its decoded bytes, whose hash was checked.
        own_pack: Name of the pack it was read from, which its chunks may refer to.

    Raises:
        ArtifactCorruptError: If it is not a recipe.
    """
    try:
        magic, sha256, size, part, parts = _HEADER.unpack_from(data)
        if magic != RECIPE_MAGIC:
            raise ValueError("it does not start as a recipe does")
        at = _HEADER.size
        (count,) = struct.unpack_from(">H", data, at)
        at += 2
        names = [own_pack, *(bytes(data[at + 32 * n : at + 32 * n + 32]) for n in range(count))]
        at += 32 * count
        (count,) = struct.unpack_from(">I", data, at)
        at += 4
        if len(data) - at != count * _CHUNK.size:
            raise ValueError("the number of chunks does not fit the length")
        chunks = tuple(
            Chunk(names[number], *place) for number, *place in _CHUNK.iter_unpack(data[at:])
        )
    except (struct.error, ValueError, IndexError) as exc:
        raise ArtifactCorruptError(f"The recipe of a file is damaged: {exc}.") from exc
    return RecipePart(sha256, size, part, parts, chunks)
