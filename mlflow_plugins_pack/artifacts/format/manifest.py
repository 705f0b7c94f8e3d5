"""Manifest segments: what a scope holds and which chunks make up a file; pure.

A segment is written once, by one log or delete call, and is that call's commit point::

    "MPSEGM01" | length of the JSON text u32 | sha256 of the JSON text | zstd of the JSON text
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.pack import MAX_CHUNK_BYTES, Chunk, decompress
from mlflow_plugins_pack.artifacts.format.segment_names import SegmentName, parse_segment_name
from mlflow_plugins_pack.errors import ArtifactCorruptError, StoreFormatError

SEGMENT_MAGIC = b"MPSEGM01"
SEGMENT_HEADER = struct.Struct(">8sI32s")
SEGMENT_VERSION = 1
MAX_SEGMENT_BYTES = 256 * 1024 * 1024
"""Longest JSON text of a segment that a reader accepts: some half a million files."""


JOINED_INLINE_BYTES = 256
"""Longer bytes of a small file stay in the entry that brought them when it is joined."""

MAX_HOLDER_BYTES = 256 * 1024
"""Of an entry with more bytes than that, all go into joined segments: to read one of its files,
all of the entry would have to be read."""

_MAX_FILE_BYTES = 1 << 60
MAX_REASON_LENGTH = 1000
_MAX_WRITER_LENGTH = 100
_BOUND_KEYS = frozenset(
    {"put", "mkdir", "size", "sha256", "mtime_ns", "inline", "chunks", "recipe", "entry"}
)


@dataclass(frozen=True)
class FileEntry:
    """One file of a scope.

    Attributes:
        path: Relative to the scope.
        size: In bytes.
        sha256: Of the whole file.
        mtime_ns: When the logged file was last changed; 0 if it came as a stream.
        inline: The bytes themselves, for a small file.
        chunks: Its chunks, for a file of few.
        recipe: The parts of its recipe, for any other.
        holder: Key of an entry, relative to the store, in which the bytes stand inline; then
            ``inline`` may be missing.
    """

    path: str
    size: int
    sha256: bytes
    mtime_ns: int
    inline: bytes | None = None
    chunks: tuple[Chunk, ...] = ()
    recipe: tuple[Chunk, ...] = ()
    holder: str = field(default="", compare=False)

    @property
    def is_held(self) -> bool:
        """Whether the bytes can be read from the entry that brought them, when it is joined."""
        return bool(self.holder) and self.size > JOINED_INLINE_BYTES


@dataclass(frozen=True)
class Folder:
    """A folder that exists although it may hold no file."""

    path: str


@dataclass(frozen=True)
class Tombstone:
    """Everything at and under a path was deleted; an empty path means the whole scope."""

    path: str


@dataclass(frozen=True)
class Lock:
    """What is at and under a path may not be changed, for a reason; an empty path: everything.

    Attributes:
        path: The locked file or folder.
        reason: The text that a refused writer sees; with the path it identifies the lock.
        binds: The files and folders at and under the path, as the locker read them.
    """

    path: str
    reason: str
    binds: tuple[FileEntry | Folder, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Unlock:
    """A lock with this path and reason no longer holds.

    Attributes:
        path, reason: Those of the lock.
        voids: Name of an entry whose lock never held: its writer found that it had not seen all.
    """

    path: str
    reason: str
    voids: str = ""


Operation = FileEntry | Folder | Tombstone | Lock | Unlock


@dataclass(frozen=True)
class Segment:
    """One committed change of a scope, or the net effect of several.

    Attributes:
        scope: The scope it belongs to.
        name: Says which calls it holds (see `segment_names`).
        operations: In the order in which they take effect.
        writer: Chosen at random by the writer, which tells its own segment from another's by it.
        identity: Of the stored object, which no other has; empty where that does not matter.
    """

    scope: str
    name: str
    operations: tuple[Operation, ...]
    writer: str = ""
    identity: bytes = field(default=b"", compare=False)

    @property
    def numbers(self) -> SegmentName:
        """Which calls it holds."""
        parsed = parse_segment_name(self.name)
        assert parsed is not None  # noqa: S101 - decoding checks it
        return parsed

    def held(self) -> Segment:
        """Return the segment with its small files naming it as their holder, if it is one."""
        inline = [o for o in self.operations if isinstance(o, FileEntry) and o.inline is not None]
        if (
            not inline
            or self.numbers.is_joined
            or sum(entry.size for entry in inline) > MAX_HOLDER_BYTES
        ):
            return self
        key = object_keys.segment_key(self.scope, self.name)
        return replace(
            self,
            operations=tuple(
                replace(o, holder=key) if isinstance(o, FileEntry) and o.inline is not None else o
                for o in self.operations
            ),
        )


def inline_bytes(segment: Segment, entry: FileEntry) -> bytes | None:
    """Return the bytes of a file that a segment holds inline, None if it does not hold them."""
    for operation in segment.operations:
        if (
            isinstance(operation, FileEntry)
            and operation.inline is not None
            and (operation.sha256, operation.size) == (entry.sha256, entry.size)
        ):
            return operation.inline
    return None


def encode_segment(segment: Segment) -> bytes:
    """Return the bytes of the segment's object."""
    import zstandard

    packs: dict[bytes, int] = {}
    is_joined = segment.numbers.is_joined

    def place(chunk: Chunk) -> list[Any]:
        number = packs.setdefault(chunk.pack, len(packs))
        return [number, chunk.id.hex(), *chunk[2:]]

    def line(operation: Operation) -> dict[str, Any]:
        if isinstance(operation, Tombstone):
            return {"delete": operation.path}
        if isinstance(operation, Folder):
            return {"mkdir": operation.path}
        if isinstance(operation, Lock):
            bound = {"binds": [line(entry) for entry in operation.binds]} if operation.binds else {}
            return {"lock": operation.path, "reason": operation.reason, **bound}
        if isinstance(operation, Unlock):
            voided = {"voids": operation.voids} if operation.voids else {}
            return {"unlock": operation.path, "reason": operation.reason, **voided}
        put: dict[str, Any] = {
            "put": operation.path,
            "size": operation.size,
            "sha256": operation.sha256.hex(),
            "mtime_ns": operation.mtime_ns,
        }
        if operation.is_held and (is_joined or operation.inline is None):
            put["entry"] = operation.holder.rpartition("/")[2]
        elif operation.inline is not None:
            put["inline"] = base64.b64encode(operation.inline).decode()
        elif operation.recipe:
            put["recipe"] = [place(chunk) for chunk in operation.recipe]
        else:
            put["chunks"] = [place(chunk) for chunk in operation.chunks]
        return put

    document: dict[str, Any] = {
        "version": SEGMENT_VERSION,
        "scope": segment.scope,
        "name": segment.name,
        "writer": segment.writer,
        "operations": [line(operation) for operation in segment.operations],
        "packs": [name.hex() for name in packs],
    }
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    header = SEGMENT_HEADER.pack(SEGMENT_MAGIC, len(text), hashlib.sha256(text).digest())
    body: bytes = zstandard.ZstdCompressor(level=3, write_content_size=True).compress(text)
    return header + body


def decode_segment(data: bytes, scope: str, name: str) -> Segment:
    """Read a segment and check all that it says, as if an enemy had written it.

    Args:
        data: The object's bytes.
        scope: The scope whose folder it was found in.
        name: The name it was found under.

    Raises:
        ArtifactCorruptError: If it is damaged or claims something impossible.
        StoreFormatError: If a newer version wrote it.
    """
    what = f"The manifest segment {object_keys.segment_key(scope, name)}"
    try:
        magic, length, digest = SEGMENT_HEADER.unpack_from(data)
    except struct.error as exc:
        raise _damaged(what, "it is cut off") from exc
    if magic != SEGMENT_MAGIC:
        if magic[:6] == SEGMENT_MAGIC[:6] and not _is_of_this_version(data, length, digest):
            raise _too_new(what)
        raise _damaged(what, "it does not start as one does")
    if length > MAX_SEGMENT_BYTES:
        raise _damaged(what, f"it claims {length} bytes of text")
    text = decompress(memoryview(data)[SEGMENT_HEADER.size :], length)
    if text is None or hashlib.sha256(text).digest() != digest:
        raise _damaged(what, "its text does not have the recorded hash")
    try:
        document = json.loads(text)
        if document["version"] != SEGMENT_VERSION:
            raise _too_new(what)
        if document["scope"] != scope or document["name"] != name:
            raise _damaged(what, "it was written for another place")
        packs = [_hash_of(text) for text in document["packs"]]
        operations = tuple(_decode_operation(line, packs, scope) for line in document["operations"])
        writer = document["writer"]
        if not isinstance(writer, str) or len(writer) > _MAX_WRITER_LENGTH:
            raise ValueError("a bad name of its writer")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as exc:
        raise _damaged(what, f"it holds something impossible ({exc})") from exc
    return Segment(scope, name, operations, writer).held()


def _is_of_this_version(data: bytes, length: int, digest: bytes) -> bool:
    """Return whether only the magic of a segment says that a newer version wrote it."""
    text = decompress(memoryview(data)[SEGMENT_HEADER.size :], min(length, MAX_SEGMENT_BYTES))
    if text is None or hashlib.sha256(text).digest() != digest:
        return False
    return text.startswith(b'{"version":%d,' % SEGMENT_VERSION)


def _damaged(what: str, why: str) -> ArtifactCorruptError:
    return ArtifactCorruptError(
        f"{what} is damaged: {why}. Nothing was read from it and nothing was changed. Run "
        f"`mlflow-pack artifacts fsck` on the store, and restore the object from a backup; or take "
        f"it out with `--repair-manifests`, which loses what it holds."
    )


def _too_new(what: str) -> StoreFormatError:
    return StoreFormatError(
        f"{what} was written in a format that this version of mlflow-plugins-pack does not read. "
        f"Nothing was changed. Upgrade the package."
    )


def _hash_of(text: str) -> bytes:
    value = binascii.unhexlify(text)
    if len(value) != 32:
        raise ValueError("a hash of the wrong length")
    return value


def _int_of(value: Any, maximum: int) -> int:
    if type(value) is not int or not 0 <= value <= maximum:
        raise ValueError(f"a number out of range: {value!r:.40}")
    return value


def _path_of(value: Any) -> str:
    if not isinstance(value, str) or not object_keys.is_stored_path(value):
        raise ValueError(f"a path that leaves its folder: {value!r:.200}")
    return value


def _holder_of(value: Any, scope: str) -> str:
    parsed = parse_segment_name(value) if isinstance(value, str) else None
    if parsed is None or parsed.is_joined:
        raise ValueError(f"a bad name of an entry: {value!r:.40}")
    return object_keys.segment_key(scope, value)


def _decode_operation(line: dict[str, Any], packs: Sequence[bytes], scope: str) -> Operation:
    if "delete" in line:
        return Tombstone("" if line["delete"] == "" else _path_of(line["delete"]))
    if "lock" in line or "unlock" in line:
        path, reason = line["lock"] if "lock" in line else line["unlock"], line["reason"]
        if not isinstance(reason, str) or len(reason) > MAX_REASON_LENGTH:
            raise ValueError("a reason that is not a short text")
        path = "" if path == "" else _path_of(path)
        if "lock" in line:
            return Lock(
                path, reason, tuple(_decode_bound(b, packs, scope) for b in line.get("binds", ()))
            )
        voids = line.get("voids", "")
        if voids and (not isinstance(voids, str) or parse_segment_name(voids) is None):
            raise ValueError("a bad segment name")
        return Unlock(path, reason, voids)
    if "mkdir" in line:
        return Folder(_path_of(line["mkdir"]))

    def chunks_of(name: str) -> tuple[Chunk, ...]:
        return tuple(_decode_place(place, packs) for place in line.get(name, ()))

    inline = line.get("inline")
    entry = FileEntry(
        path=_path_of(line["put"]),
        size=_int_of(line["size"], _MAX_FILE_BYTES),
        sha256=_hash_of(line["sha256"]),
        mtime_ns=_int_of(line["mtime_ns"], 1 << 63),
        inline=None if inline is None else base64.b64decode(inline, validate=True),
        chunks=chunks_of("chunks"),
        recipe=chunks_of("recipe"),
        holder=_holder_of(line["entry"], scope) if "entry" in line else "",
    )
    if entry.inline is not None:
        known = len(entry.inline)
    elif entry.recipe:
        return entry
    elif entry.is_held:
        known = min(entry.size, MAX_HOLDER_BYTES)
    else:
        known = sum(chunk.raw for chunk in entry.chunks)
    if known != entry.size:
        raise ValueError(f"{entry.path!r} has {entry.size} bytes but {known} are listed")
    return entry


def _decode_bound(line: dict[str, Any], packs: Sequence[bytes], scope: str) -> FileEntry | Folder:
    if "put" not in line and "mkdir" not in line:
        raise ValueError("a lock that binds something other than files and folders")
    operation = _decode_operation({k: v for k, v in line.items() if k in _BOUND_KEYS}, packs, scope)
    assert isinstance(operation, FileEntry | Folder)  # noqa: S101 - by the keys that are left
    return operation


def _decode_place(place: Sequence[Any], packs: Sequence[bytes]) -> Chunk:
    number, sha256, offset, stored, raw, codec = place
    return Chunk(
        packs[_int_of(number, len(packs) - 1)],
        _hash_of(sha256),
        _int_of(offset, 0xFFFFFFFF),
        _int_of(stored, MAX_CHUNK_BYTES),
        _int_of(raw, MAX_CHUNK_BYTES),
        _int_of(codec, 255),
    )
