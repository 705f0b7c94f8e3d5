"""Signs what the source says of its approvals, for the target's policy to check."""

from __future__ import annotations

from pathlib import Path

from mlflow_plugins_pack.approvals.domain.attestation import Statement, seal, unseal
from mlflow_plugins_pack.approvals.ledger.signed_heads import Key, read_key
from mlflow_plugins_pack.errors import ConfigurationError
from mlflow_plugins_pack.shipping.ends import End
from mlflow_plugins_pack.shipping.record import VersionRecord


def signing_key(path: Path) -> Key:
    """Read a private key.

    Raises:
        ConfigurationError: If it is not an Ed25519 private key in PEM.
    """
    key = read_key(path)
    if key.sign is None or not key.public_key:
        raise ConfigurationError(
            f"The key {path} cannot sign for others: an attestation needs an Ed25519 private key. "
            "Nothing was copied. Make one with: openssl genpkey -algorithm ed25519"
        )
    return key


def attest(
    source: End, version: VersionRecord, name: str, digest: str, key: Key, now_ms: int
) -> str:
    """Return the signed statement about a version.

    Args:
        source: Where it comes from.
        version: The version; only its approvals of these very files are attested.
        name: The name of the model at the target.
        digest: The digest of the files, as they were compared.
        key: The key that signs.
        now_ms: Milliseconds since the epoch.
    """
    assert key.sign is not None  # noqa: S101 - for the type checker
    approvals = tuple(one.approval for one in version.approvals if one.digest == digest)
    statement = Statement(
        digest, f"models:/{version.name}/{version.version}", source.uri, name, approvals, now_ms
    )
    return seal(statement, key.public_key, key.sign)


def says_the_same(one: str | None, other: str) -> bool:
    """Return whether an attestation says what another one says, whenever it was signed."""
    try:
        first, second = unseal(one or ""), unseal(other)
    except ValueError:
        return False
    fields = [(a.fingerprint, a.statement.digest, a.statement.name) for a in (first, second)]
    return fields[0] == fields[1] and first.statement.approvals == second.statement.approvals
