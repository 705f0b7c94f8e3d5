"""Packs: many chunks in one object, with a table at the end that says what is in it; pure.

::

    "MPPACK01" | stored chunk | stored chunk | ... | table | footer
    table   one record per chunk: kind u8, codec u8, id, offset u32, stored u32, raw u32
    footer  number of records u32, sha256 of the table, "MPPKEND1"

Big-endian throughout. A pack's name is the sha256 of its table, hence of its chunks' hashes: the
table can be checked alone, and an index is rebuilt from the tails of all packs.

The last chunk of each pack is 16 random bytes that nothing refers to. No name is ever used twice
because of it: what a collection has condemned cannot come back while it is being removed.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlflow_plugins_pack.artifacts.format.encryption import (
    PLAIN,
    TABLE_PURPOSE,
    Sealer,
    chunk_purpose,
)
from mlflow_plugins_pack.errors import ArtifactCorruptError, StoreFormatError

HEADER = b"MPPACK01"
FOOTER_MAGIC = b"MPPKEND1"
RECORD = struct.Struct(">BB32sIII")
FOOTER = struct.Struct(">I32s8s")

KIND_DATA = 0
KIND_RECIPE = 1

SALT_BYTES = 16

CODEC_RAW = 0
CODEC_ZSTD = 1
CODEC_SEALED = 2
"""Added to one of the others where the encoded bytes are encrypted."""

MAX_CHUNK_BYTES = 16 * 1024 * 1024
"""No chunk is longer, whatever a table says: a reader allocates no more than this at once."""

MAX_RECORDS = 4 * 1024 * 1024

ZSTD_LEVEL = 1
WORTH_IT = 0.92
"""A compressed chunk is kept only below this part of its raw length."""
_PROBE_CHUNKS = 4
_PROBE_EVERY = 32


class Chunk(NamedTuple):
    """The place of one chunk's bytes.

    Attributes:
        pack: The pack's name; `SELF` inside a recipe means the pack that the recipe is in.
        id: BLAKE3 hash of the raw bytes, keyed in an encrypted store: the truth, while the place
            is a hint that may grow old.
        offset: Of the stored bytes in the pack.
        stored: Their length.
        raw: Length once decoded.
        codec: How they are encoded.
    """

    pack: bytes
    id: bytes
    offset: int
    stored: int
    raw: int
    codec: int


SELF = b""


@dataclass(frozen=True)
class Record:
    """One line of a pack's table."""

    kind: int
    codec: int
    id: bytes
    offset: int
    stored: int
    raw: int

    def at(self, pack: bytes) -> Chunk:
        """Return the record as a chunk of the named pack."""
        return Chunk(pack, self.id, self.offset, self.stored, self.raw, self.codec)


class PackBuilder:
    """Collects chunks until they make a pack, and seals them where the store is encrypted."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._data = bytearray(HEADER)
        self._records: list[Record] = []

    def __len__(self) -> int:
        return len(self._data)

    @property
    def is_empty(self) -> bool:
        """True until a chunk is added."""
        return not self._records

    def add(self, kind: int, codec: int, chunk_id: bytes, stored: Any, raw: int) -> Record:
        """Append a chunk's encoded bytes."""
        if self._sealer.is_secret:
            codec |= CODEC_SEALED
            stored = self._sealer.seal(chunk_purpose(chunk_id, codec), stored)
        record = Record(kind, codec, chunk_id, len(self._data), len(stored), raw)
        self._data += stored
        self._records.append(record)
        return record

    def finish(self) -> tuple[bytes, bytearray, bytes]:
        """Return the pack's name, its bytes, and the table's as they are when opened."""
        salt = secrets.token_bytes(SALT_BYTES)
        self.add(KIND_DATA, CODEC_RAW, self._sealer.chunk_id(salt), salt, SALT_BYTES)
        table = encode_records(self._records)
        sealed = self._sealer.seal(TABLE_PURPOSE, table)
        name = hashlib.sha256(sealed).digest()
        self._data += sealed
        self._data += FOOTER.pack(len(self._records), name, FOOTER_MAGIC)
        return name, self._data, table


def encode_records(records: Iterable[Record]) -> bytes:
    """Return the table's bytes."""
    return b"".join(RECORD.pack(r.kind, r.codec, r.id, r.offset, r.stored, r.raw) for r in records)


def decode_records(table: bytes | memoryview) -> list[Record]:
    """Read a table; its length must be a multiple of a record's."""
    return [Record(*fields) for fields in RECORD.iter_unpack(table)]


def tail_length(footer: bytes, pack_bytes: int, what: str, sealer: Sealer = PLAIN) -> int:
    """Return how long table and footer are together, from the footer alone.

    Raises:
        ArtifactCorruptError: If the footer is not one, or claims more than the pack holds.
    """
    if len(footer) == FOOTER.size:
        count, _, magic = FOOTER.unpack(footer)
        length: int = count * RECORD.size + sealer.overhead + FOOTER.size
        if magic == FOOTER_MAGIC and count <= MAX_RECORDS and length <= pack_bytes - len(HEADER):
            return length
    raise ArtifactCorruptError(f"{what} does not end as a pack does: it is cut off or overwritten.")


def decode_tail(tail: bytes, name: bytes, what: str, sealer: Sealer = PLAIN) -> list[Record]:
    """Read table and footer of the pack with the given name.

    Raises:
        ArtifactCorruptError: If the table does not have the hash that is the pack's name, or the
            store's keys do not open it.
    """
    table = tail[: -FOOTER.size]
    if hashlib.sha256(table).digest() != name:
        raise ArtifactCorruptError(f"The table of {what} does not have the hash in its name.")
    opened = sealer.open(TABLE_PURPOSE, table)
    if opened is None:
        raise ArtifactCorruptError(f"The table of {what} cannot be opened with the store's keys.")
    return decode_records(opened)


class Compressor:
    """Compresses the chunks of one file, and stops trying where it does not pay."""

    def __init__(self) -> None:
        self._zstd: Any = None
        self._failures = 0

    def start_file(self) -> None:
        """Forget what the file before was like."""
        self._failures = 0

    def encode(self, raw: bytes | memoryview) -> tuple[int, bytes | memoryview]:
        """Return codec and stored bytes."""
        if self._failures >= _PROBE_CHUNKS and self._failures % _PROBE_EVERY:
            self._failures += 1
            return CODEC_RAW, raw
        if self._zstd is None:
            import zstandard

            # Many calls have nothing to compress.
            self._zstd = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=True)
        packed: bytes = self._zstd.compress(raw)
        if len(packed) < len(raw) * WORTH_IT:
            self._failures = 0
            return CODEC_ZSTD, packed
        self._failures += 1
        return CODEC_RAW, raw


def decode_chunk(
    chunk: Chunk, stored: bytes | memoryview, sealer: Sealer = PLAIN
) -> bytes | memoryview | None:
    """Decode a chunk and check its hash.

    Returns:
        The raw bytes, or None if they are not what the chunk's hash says.

    Raises:
        StoreFormatError: If the codec is unknown.
    """
    raw = decode_unchecked(chunk, stored, sealer)
    return raw if raw is not None and sealer.chunk_id(raw) == chunk.id else None


def decode_unchecked(
    chunk: Chunk, stored: bytes | memoryview, sealer: Sealer = PLAIN
) -> bytes | memoryview | None:
    """Decode a chunk whose bytes are checked as part of a larger whole.

    Returns:
        As many bytes as the chunk has, right or wrong; None if that cannot be.

    Raises:
        StoreFormatError: If the codec is unknown.
    """
    if len(stored) != chunk.stored or chunk.raw > MAX_CHUNK_BYTES:
        return None
    raw: bytes | memoryview | None = stored
    codec = chunk.codec
    if sealer.is_secret and codec & CODEC_SEALED:
        raw = sealer.open(chunk_purpose(chunk.id, codec), stored)
        codec &= ~CODEC_SEALED
    if codec == CODEC_ZSTD:
        raw = None if raw is None else decompress(raw, chunk.raw)
    elif codec != CODEC_RAW:
        raise StoreFormatError(
            f"The chunk {chunk.id.hex()} uses encoding {chunk.codec}, which this version of "
            f"mlflow-plugins-pack does not know. Nothing was written. Upgrade the package."
        )
    return raw if raw is not None and len(raw) == chunk.raw else None


def decompress(stored: bytes | memoryview, raw_length: int) -> bytes | None:
    """Undo zstd; None unless the frame announces and holds exactly ``raw_length`` bytes.

    The announced length is checked first: the library allocates it at once.
    """
    import zstandard

    try:
        frame = zstandard.get_frame_parameters(stored)
        if frame.content_size != raw_length or frame.window_size > max(raw_length, 1 << 20) * 2:
            return None
        raw: bytes = zstandard.ZstdDecompressor().decompress(
            stored, max_output_size=raw_length, allow_extra_data=False
        )
    except zstandard.ZstdError:
        return None
    return raw
