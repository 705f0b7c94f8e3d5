"""Encryption: an encrypted store seals all that it writes, and its chunks have keyed names; pure.

::

    sealed   nonce, 24 bytes | XAES-256-GCM ciphertext | tag, 16 bytes
    object   "MPSEAL01" | sealed
    keyring  "MPKEYS01" | identity key and data keys, 32 bytes each, sealed by a master key

What a message is for, and its name, go in as associated data: a chunk cannot be passed off as
another one, nor an object be moved to another key.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from mlflow_plugins_pack.artifacts.format import xaes
from mlflow_plugins_pack.artifacts.format.xaes import KEY_BYTES, OVERHEAD_BYTES, Buffer
from mlflow_plugins_pack.errors import ArtifactCorruptError

OBJECT_MAGIC = b"MPSEAL01"
KEYRING_MAGIC = b"MPKEYS01"

_MASTER_LABEL = b"mlflow-plugins-pack master key name\0"


class Sealer:
    """Leaves what a store writes as it is, and names chunks by their BLAKE3 hash."""

    is_secret = False
    overhead = 0
    """By how many bytes what is sealed is longer."""

    def chunk_id(self, raw: Buffer) -> bytes:
        """Return the name of a chunk, which depends on its raw bytes alone."""
        return blake3(raw).digest()

    def chunk_ids(self, pieces: Sequence[Buffer]) -> list[bytes]:
        """Return the names of several chunks."""
        return [self.chunk_id(piece) for piece in pieces]

    def seal(self, purpose: bytes, data: Any) -> Any:
        """Return what is to be stored of some bytes.

        Args:
            purpose: What they are for, and their name; needed again to open them.
            data: The bytes.
        """
        return data

    def open(self, purpose: bytes, sealed: Any) -> Any:
        """Return the bytes that were sealed for this purpose, or None if these are not they."""
        return sealed

    def is_newest(self, purpose: bytes, sealed: Any) -> bool:
        """Return whether the key that seals now has sealed this."""
        return True

    def is_sealed_with(self, keys: StoreKeys) -> bool:
        """Return whether what is sealed now can be opened with these keys."""
        return True

    def seal_object(self, key: str, data: bytes) -> bytes:
        """Return the bytes of an object that will have this key, relative to the store."""
        return data

    def open_object(self, key: str, data: bytes) -> bytes:
        """Return what an object holds.

        Raises:
            ArtifactCorruptError: If it was not written by this store, or not under this key.
        """
        return data


PLAIN = Sealer()


@dataclass(frozen=True, repr=False)
class StoreKeys:
    """The keys of one store.

    Attributes:
        identity: Makes chunks' names; the same for the store's life, or equal chunks would be
            stored again.
        data: Seal what is written, the newest last; older ones only open.
    """

    identity: bytes
    data: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"StoreKeys({len(self.data)} data keys)"

    def with_new_data_key(self) -> StoreKeys:
        """Return the keys and a new data key that seals from now on."""
        return StoreKeys(self.identity, (*self.data, secrets.token_bytes(KEY_BYTES)))


def make_store_keys() -> StoreKeys:
    """Return keys for a new store."""
    return StoreKeys(secrets.token_bytes(KEY_BYTES), (secrets.token_bytes(KEY_BYTES),))


class KeyedSealer(Sealer):
    """Encrypts what a store writes, and names its chunks by a keyed hash.

    Args:
        keys: The store's.
        learn: Returns the store's keys as they are now; asked when nothing known opens a message,
            since another process may have added a data key.
    """

    is_secret = True
    overhead = OVERHEAD_BYTES

    def __init__(self, keys: StoreKeys, learn: Callable[[], StoreKeys]) -> None:
        self._keys = keys
        self._learn = learn

    def chunk_id(self, raw: Buffer) -> bytes:
        """Return the chunk's keyed BLAKE3 hash: without the key it says nothing of the bytes."""
        return blake3(raw, key=self._keys.identity).digest()

    def seal(self, purpose: bytes, data: Any) -> bytes:
        """Encrypt under the newest data key."""
        return xaes.seal(self._keys.data[-1], data, purpose)

    def open(self, purpose: bytes, sealed: Any) -> bytes | None:
        """Decrypt under whichever data key fits, the newest first."""
        known = self._keys
        for key in reversed(known.data):
            if (data := xaes.open_sealed(key, sealed, purpose)) is not None:
                return data
        self._keys = self._learn()
        for key in self._keys.data[len(known.data) :]:
            if (data := xaes.open_sealed(key, sealed, purpose)) is not None:
                return data
        return None

    def is_newest(self, purpose: bytes, sealed: Any) -> bool:
        """Return whether the newest data key opens this."""
        return xaes.open_sealed(self._keys.data[-1], sealed, purpose) is not None

    def is_sealed_with(self, keys: StoreKeys) -> bool:
        """Return whether what is sealed now can be opened with these keys."""
        return keys.identity == self._keys.identity and self._keys.data[-1] in keys.data

    def seal_object(self, key: str, data: bytes) -> bytes:
        """Encrypt an object, bound to its key."""
        return OBJECT_MAGIC + self.seal(object_purpose(key), data)

    def open_object(self, key: str, data: bytes) -> bytes:
        """Decrypt an object."""
        if data[: len(OBJECT_MAGIC)] == OBJECT_MAGIC:
            opened = self.open(object_purpose(key), memoryview(data)[len(OBJECT_MAGIC) :])
            if opened is not None:
                return opened
        raise ArtifactCorruptError(
            f"The object {key} of an encrypted store cannot be opened with the store's keys: it "
            f"is damaged, or was written or moved there by someone else. Nothing was read from "
            f"it and nothing was changed. Run `mlflow-pack artifacts fsck` on the store, and "
            f"restore the object from a backup; or go on without it by `--repair-index` or "
            f"`--repair-manifests`, which loses what it holds."
        )


def object_purpose(key: str) -> bytes:
    """Return what an object of this key is sealed for."""
    return b"object\0" + key.encode()


def chunk_purpose(chunk_id: bytes, codec: int) -> bytes:
    """Return what a chunk of this name and encoding is sealed for."""
    return b"chunk\0" + chunk_id + bytes([codec])


TABLE_PURPOSE = b"table\0"
"""A pack's table; the pack's name is its hash, so it needs no name of its own."""


# --- keyrings -------------------------------------------------------------------------------------


def master_name(master: bytes) -> str:
    """Return the name that a master key goes by: it tells keys apart and nothing else."""
    return hmac.digest(master, _MASTER_LABEL, "sha256").hex()[:16]


def wrap_keys(master: bytes, key: str, keys: StoreKeys) -> bytes:
    """Return the keyring object of a store: its keys, sealed by a master key.

    Args:
        master: The master key.
        key: The object's key, relative to the store; it has the store's id in it.
        keys: The store's keys.
    """
    joined = b"".join((keys.identity, *keys.data))
    return KEYRING_MAGIC + xaes.seal(master, joined, object_purpose(key))


def unwrap_keys(master: bytes, key: str, data: bytes) -> StoreKeys | None:
    """Return the keys in a keyring object, or None if this master key did not seal it there."""
    if data[: len(KEYRING_MAGIC)] != KEYRING_MAGIC:
        return None
    joined = xaes.open_sealed(master, data[len(KEYRING_MAGIC) :], object_purpose(key))
    if joined is None or len(joined) < 2 * KEY_BYTES or len(joined) % KEY_BYTES:
        return None
    parts = [joined[at : at + KEY_BYTES] for at in range(0, len(joined), KEY_BYTES)]
    return StoreKeys(parts[0], tuple(parts[1:]))
