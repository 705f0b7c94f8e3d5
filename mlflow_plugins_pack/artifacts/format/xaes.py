"""XAES-256-GCM, authenticated encryption with random 192-bit nonces (c2sp.org/XAES-256-GCM); pure.

Key and nonce repeat only where 192 random bits do: after 2**80 messages under one key with a chance
of 2**-32. A store of 1 PiB has some 2**34 messages.
"""

from __future__ import annotations

import secrets
from typing import Any

KEY_BYTES = 32
NONCE_BYTES = 24
TAG_BYTES = 16
OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES
"""By how many bytes a sealed message is longer than its content."""

Buffer = bytes | bytearray | memoryview

_HALF = 12


def seal(key: bytes, data: Buffer, associated: bytes) -> bytes:
    """Return a fresh nonce, and the data encrypted and authenticated under it.

    Args:
        key: 32 bytes.
        data: What to encrypt.
        associated: Authenticated and not encrypted; needed again to open the message.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + encrypt(key, nonce, data, associated)


def open_sealed(key: bytes, sealed: Buffer, associated: bytes) -> bytes | None:
    """Return the content of a sealed message, or None if it was not sealed so under this key."""
    from cryptography.exceptions import InvalidTag

    if len(sealed) < OVERHEAD_BYTES:
        return None
    nonce = bytes(sealed[:NONCE_BYTES])
    try:
        data: bytes = _cipher(key, nonce).decrypt(
            nonce[_HALF:], memoryview(sealed)[NONCE_BYTES:], associated
        )
    except InvalidTag:
        return None
    return data


def encrypt(key: bytes, nonce: bytes, data: Buffer, associated: bytes) -> bytes:
    """Return ciphertext and tag. A nonce is used once with a key: outside tests, call `seal`."""
    sealed: bytes = _cipher(key, nonce).encrypt(nonce[_HALF:], data, associated)
    return sealed


def _cipher(key: bytes, nonce: bytes) -> Any:
    """Return AES-256-GCM under the key derived from the first half of the nonce."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.ciphers.algorithms import AES256
    from cryptography.hazmat.primitives.ciphers.modes import ECB

    # The names are the specification's: CMAC's subkey K1 out of the encryption L of zeros, then
    # CMAC of the two one-block messages M1 and M2.
    block = Cipher(AES256(key), ECB()).encryptor()  # noqa: S305 - single blocks, as CMAC has them
    encrypted_zeros = int.from_bytes(block.update(bytes(16)), "big")
    k1 = (encrypted_zeros << 1) & ((1 << 128) - 1)
    if encrypted_zeros >> 127:
        k1 ^= 0x87
    messages = (int.from_bytes(bytes((0, i, 0x58, 0)) + nonce[:_HALF], "big") for i in (1, 2))
    return AESGCM(block.update(b"".join((m ^ k1).to_bytes(16, "big") for m in messages)))
