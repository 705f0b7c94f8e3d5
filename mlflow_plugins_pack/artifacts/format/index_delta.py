"""Index deltas: which chunks and files a store already has, as one writer found it; pure.

The index only saves uploads. Reading never needs it unless a place in a manifest has grown old,
and it can be rebuilt from the tails of the packs.

::

    "MPINDX01" | number of replaced deltas u32 | their names, 26 bytes each
    number of packs u32 | per pack: name, number of records u32, records as in a pack's table
    number of files u32 | per file: sha256, size u64, is a recipe u8, number of places u16,
                          per place: pack name, chunk_id, offset u32, stored u32, raw u32, codec u8
    sha256 of all the bytes before
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.pack import RECORD, Chunk
from mlflow_plugins_pack.errors import ArtifactCorruptError, StoreFormatError

MAGIC = b"MPINDX01"
_COUNT = struct.Struct(">I")
_PACK = struct.Struct(">32sI")
_FILE = struct.Struct(">32sQBH")
PLACE = struct.Struct(">32s32sIIIB")

MAX_DELTA_BYTES = 2 * 1024 * 1024
"""Several are held in memory while an index is loaded; some 2.5 GiB of a store fit into one."""


@dataclass(frozen=True)
class KnownFile:
    """A file that some manifest of the store holds.

    Attributes:
        sha256: Of the whole file.
        size: In bytes.
        is_recipe: Whether ``places`` are the parts of a recipe or the chunks themselves.
        places: Where they are.
    """

    sha256: bytes
    size: int
    is_recipe: bool
    places: tuple[Chunk, ...]


@dataclass
class Delta:
    """What one index object says.

    Attributes:
        packs: Tables by pack name, as they stand in the packs: an index of a large store is not
            taken apart where it is only passed on.
        files: Files known as a whole.
        replaces: Names of deltas whose content this one repeats.
    """

    packs: dict[bytes, bytes] = field(default_factory=dict)
    files: list[KnownFile] = field(default_factory=list)
    replaces: tuple[str, ...] = ()

    def is_empty(self) -> bool:
        """Return whether it names neither a pack nor a file."""
        return not self.packs and not self.files


def encode_places(places: Sequence[Chunk]) -> bytes:
    """Return the bytes of a list of places."""
    return b"".join(PLACE.pack(*place) for place in places)


def decode_places(data: bytes) -> tuple[Chunk, ...]:
    """Read a list of places; its length must be a multiple of a place's."""
    return tuple(Chunk(*fields) for fields in PLACE.iter_unpack(data))


def encode_delta(delta: Delta) -> bytes:
    """Return the bytes of an index object."""
    out = [MAGIC, _COUNT.pack(len(delta.replaces))]
    out += [name.encode() for name in delta.replaces]
    out.append(_COUNT.pack(len(delta.packs)))
    for name, table in delta.packs.items():
        out += [_PACK.pack(name, len(table) // RECORD.size), table]
    out.append(_COUNT.pack(len(delta.files)))
    for known in delta.files:
        out.append(_FILE.pack(known.sha256, known.size, known.is_recipe, len(known.places)))
        out.append(encode_places(known.places))
    body = b"".join(out)
    return body + hashlib.sha256(body).digest()


def split_delta(delta: Delta, max_bytes: int = MAX_DELTA_BYTES) -> Iterator[Delta]:
    """Yield deltas that say together what one says, each of bounded length unless one entry is not.

    The last one carries ``replaces``: a reader that sees it sees the others too.
    """
    packs = ((_PACK.size + len(t), Delta({n: t})) for n, t in delta.packs.items())
    files = ((_FILE.size + len(f.places) * PLACE.size, Delta(files=[f])) for f in delta.files)
    piece, length = Delta(), 0
    for weight, entry in itertools.chain(packs, files):
        if length and length + weight > max_bytes:
            yield piece
            piece, length = Delta(), 0
        piece.packs.update(entry.packs)
        piece.files += entry.files
        length += weight
    piece.replaces = delta.replaces
    if not piece.is_empty() or piece.replaces:
        yield piece


def group_deltas(sizes: Mapping[str, int], max_bytes: int = MAX_DELTA_BYTES) -> Iterator[list[str]]:
    """Yield the names of deltas, oldest first, that each make up one of bounded length together.

    Args:
        sizes: In bytes, by name.
        max_bytes: The bound.
    """
    group: list[str] = []
    length = 0
    for name in sorted(sizes):
        if length + sizes[name] > max_bytes:
            if len(group) > 1:
                yield group
            group, length = [], 0
        group.append(name)
        length += sizes[name]
    if len(group) > 1:
        yield group


def decode_delta(data: bytes, ulid: str) -> Delta:
    """Read an index object.

    Raises:
        ArtifactCorruptError: If it is damaged.
        StoreFormatError: If a newer version wrote it.
    """
    what = f"The index object {object_keys.index_key(ulid)}"
    if data[:6] == MAGIC[:6] and data[:8] != MAGIC:
        raise StoreFormatError(
            f"{what} was written in a format that this version of mlflow-plugins-pack does not "
            f"read. Nothing was changed. Upgrade the package."
        )
    try:
        if data[:8] != MAGIC or hashlib.sha256(data[:-32]).digest() != data[-32:]:
            raise ValueError("its bytes do not have the recorded hash")
        reader = _Reader(data, len(MAGIC), len(data) - 32)
        replaces = tuple(reader.take(26).decode("ascii") for _ in range(reader.count()))
        delta = Delta(replaces=replaces)
        for _ in range(reader.count()):
            name, records = _PACK.unpack(reader.take(_PACK.size))
            delta.packs[name] = reader.take(records * RECORD.size)
        for _ in range(reader.count()):
            sha256, size, is_recipe, places = _FILE.unpack(reader.take(_FILE.size))
            chunks = decode_places(reader.take(places * PLACE.size))
            delta.files.append(KnownFile(sha256, size, bool(is_recipe), chunks))
    except (ValueError, struct.error) as exc:
        raise ArtifactCorruptError(
            f"{what} is damaged: {exc}. Nothing was changed. Run `mlflow-pack artifacts fsck "
            f"--repair-index` on the store: the index is rebuilt from the packs."
        ) from exc
    return delta


class _Reader:
    """Takes bytes off a buffer and never more than there are."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data, self._at, self._end = data, start, end

    def take(self, length: int) -> bytes:
        if length > self._end - self._at:
            raise ValueError("it is cut off")
        self._at += length
        return self._data[self._at - length : self._at]

    def count(self) -> int:
        number: int = _COUNT.unpack(self.take(_COUNT.size))[0]
        return number
