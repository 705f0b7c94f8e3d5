"""XAES-256-GCM against the vectors of its specification (c2sp.org/XAES-256-GCM)."""

from __future__ import annotations

import hashlib

import pytest

from mlflow_plugins_pack.artifacts.format import xaes


@pytest.mark.parametrize(
    ("key", "associated", "sealed"),
    [
        # The highest bit of the subkey is 0 in the first vector and 1 in the second.
        ("01" * 32, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (
            "03" * 32,
            b"c2sp.org/XAES-256-GCM",
            "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
        ),
    ],
)
def test_vectors(key, associated, sealed):
    nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX"
    found = xaes.encrypt(bytes.fromhex(key), nonce, b"XAES-256-GCM", associated)
    assert found.hex() == sealed
    opened = xaes.open_sealed(bytes.fromhex(key), nonce + found, associated)
    assert opened == b"XAES-256-GCM"


def test_ten_thousand_random_messages():
    """The accumulated test: keys, nonces and messages from SHAKE-128, ciphertexts hashed by it."""
    stream = memoryview(hashlib.shake_128().digest(4_000_000))
    at = 0

    def take(length: int) -> bytes:
        nonlocal at
        at += length
        return bytes(stream[at - length : at])

    hashed = hashlib.shake_128()
    for _ in range(10_000):
        key, nonce = take(32), take(24)
        data = take(take(1)[0])
        hashed.update(xaes.encrypt(key, nonce, data, take(take(1)[0])))
    assert hashed.hexdigest(32) == (
        "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
    )
