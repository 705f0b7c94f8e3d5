"""Signed heads of the audit log, to be kept where the database's owner cannot reach them.

Who may write to the database can drop its triggers and rewrite the whole chain, hashes and all; a
head that was exported before shows it. A head is a JSON object; what is signed is its canonical
form (RFC 8785) without the signature. Keys: an Ed25519 key in PEM (RFC 8032, RFC 8410), or a secret
shared with those who check, for HMAC-SHA-256 (RFC 2104).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import rfc8785
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlflow_plugins_pack.approvals.database.tables import audit as audit_table
from mlflow_plugins_pack.approvals.database.tables import audit_head
from mlflow_plugins_pack.approvals.ledger import audit_log
from mlflow_plugins_pack.errors import AuditBrokenError, ConfigurationError

FORMAT = "mlflow-pack-audit-head/1"
MIN_SECRET_BYTES = 16


@dataclass(frozen=True)
class Key:
    """A key that signs heads or checks their signatures.

    Attributes:
        algorithm: ``ed25519`` or ``hmac-sha256``.
        id: Names the key without giving it away: a SHA-256 over the public key, for a secret over
            its HMAC of this module's format.
        sign: Signs; None for a public key.
        is_valid: Tells whether (signature, message) fit.
        public_key: The 32 bytes of the public key; empty for a secret.
    """

    algorithm: str
    id: str
    sign: Callable[[bytes], bytes] | None
    is_valid: Callable[[bytes, bytes], bool]
    public_key: bytes = b""


def read_key(path: Path) -> Key:
    """Read an Ed25519 key in PEM, private or public, or a secret.

    Raises:
        ConfigurationError: If it is neither.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ConfigurationError(
            f"The key {path} cannot be read ({exc.strerror}). Nothing was written. Check the path."
        ) from exc
    if b"-----BEGIN" in data:
        return _ed25519(data, path)
    secret = data.strip()
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigurationError(
            f"The secret in {path} is shorter than {MIN_SECRET_BYTES} bytes. Nothing was written. "
            "Make one with: openssl rand -hex 32, or a key with: openssl genpkey -algorithm ed25519"
        )

    def sign(message: bytes) -> bytes:
        return hmac.digest(secret, message, "sha256")

    return Key(
        "hmac-sha256",
        hashlib.sha256(sign(FORMAT.encode())).hexdigest()[:16],
        sign,
        lambda signature, message: hmac.compare_digest(signature, sign(message)),
    )


def _ed25519(data: bytes, path: Path) -> Key:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

    try:
        key: Any = (
            serialization.load_pem_private_key(data, password=None)
            if b"PRIVATE" in data
            else serialization.load_pem_public_key(data)
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise ConfigurationError(
            f"The key {path} cannot be read ({exc}). Nothing was written. Make one with: "
            "openssl genpkey -algorithm ed25519"
        ) from exc
    private = key if isinstance(key, Ed25519PrivateKey) else None
    public = private.public_key() if private is not None else key
    if not isinstance(public, Ed25519PublicKey):
        raise ConfigurationError(
            f"The key {path} is not an Ed25519 key. Nothing was written. Make one with: "
            "openssl genpkey -algorithm ed25519"
        )
    checker = public

    def is_valid(signature: bytes, message: bytes) -> bool:
        try:
            checker.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return Key(
        "ed25519",
        hashlib.sha256(raw).hexdigest()[:16],
        private.sign if private is not None else None,
        is_valid,
        raw,
    )


def make_head(connection: Connection, key: Key, now_ms: int) -> dict[str, Any]:
    """Return the signed head of a log that holds.

    Raises:
        AuditBrokenError: If it does not: a broken log is not signed.
        ConfigurationError: If the key can only check.
    """
    if key.sign is None:
        raise ConfigurationError(
            "A public key cannot sign. Nothing was written. Give the private one."
        )
    found = audit_log.verify(connection)
    if not found.is_intact:
        raise AuditBrokenError(
            f"{found.problem}. Nothing was signed. Compare with a backup, or with a head exported "
            "before: mlflow-pack approvals audit verify --against HEAD"
        )
    head: dict[str, Any] = {
        "format": FORMAT,
        "seq": found.entries,
        "hash": found.head,
        "exported_at": now_ms,
        "algorithm": key.algorithm,
        "key_id": key.id,
    }
    return {**head, "signature": base64.b64encode(key.sign(_signed(head))).decode()}


def _signed(head: Mapping[str, Any]) -> bytes:
    return rfc8785.dumps({name: value for name, value in head.items() if name != "signature"})


def check_head(connection: Connection, head: Mapping[str, Any], key: Key) -> None:
    """Check that a log goes on from a head exported before.

    Raises:
        AuditBrokenError: If the head was not signed by the key, or the log is another one.
    """
    seq, digest = head["seq"], head["hash"]
    try:
        signature = base64.b64decode(head["signature"], validate=True)
    except ValueError:
        signature = b""
    if head["algorithm"] != key.algorithm or not key.is_valid(signature, _signed(head)):
        raise AuditBrokenError(
            f"the head was not signed by this key ({key.algorithm} {key.id}; the head names "
            f"{head['algorithm']} {head['key_id']}). Nothing was changed. Give the key that "
            "belongs to it; if that is this one, the head was forged."
        )
    now = connection.execute(sa.select(audit_head.c.seq)).scalar_one()
    query = sa.select(audit_table.c.hash).where(audit_table.c.seq == seq)
    there = connection.execute(query).scalar()
    if seq and there != digest:
        problem = (
            f"the log ends at entry {now}"
            if there is None
            else f"entry {seq} has the hash {there} now"
        )
        raise AuditBrokenError(
            f"the log was rewritten: its entry {seq} had the hash {digest} when the head was "
            f"exported, and {problem}. Nothing was changed. Restore the log from a backup made "
            "after the head."
        )


# --- where heads are kept -------------------------------------------------------------------------


def write_head(head: Mapping[str, Any], destination: str) -> str:
    """Write a head to a file or an S3 object, whole or not at all.

    Args:
        head: The head.
        destination: A path or an s3:// URI; one that ends in a slash is a folder, where each head
            gets a name of its own and none is ever overwritten.

    Returns:
        Where it was written.

    Raises:
        ConfigurationError: If it cannot be written.
    """
    text = json.dumps(head, indent=2) + "\n"
    is_folder = destination.endswith("/")
    if is_folder:
        destination += f"audit-head-{head['seq']:012d}-{head['exported_at']}.json"
    try:
        if destination.startswith("s3://"):
            place = urlparse(destination)
            options = {"IfNoneMatch": "*"} if is_folder else {}
            _s3().put_object(
                Bucket=place.netloc, Key=place.path.lstrip("/"), Body=text.encode(), **options
            )
        else:
            _write_file(Path(destination), text)
    except _failures() as exc:
        raise ConfigurationError(
            f"The head cannot be written to {destination!r} ({exc}). Check the place and "
            "the rights."
        ) from exc
    return destination


def read_head(source: str) -> dict[str, Any]:
    """Read a head from a file or an S3 object.

    Raises:
        ConfigurationError: If no head can be read there.
    """
    try:
        if source.startswith("s3://"):
            place = urlparse(source)
            answer = _s3().get_object(Bucket=place.netloc, Key=place.path.lstrip("/"))
            text = answer["Body"].read()
        else:
            text = Path(source).read_bytes()
        head = json.loads(text)
    except _failures(ValueError) as exc:
        raise ConfigurationError(
            f"There is no head of an audit log at {source!r} ({exc}). Nothing was changed."
        ) from exc
    names = {"format", "seq", "hash", "exported_at", "algorithm", "key_id", "signature"}
    if not isinstance(head, dict) or set(head) != names or head["format"] != FORMAT:
        raise ConfigurationError(
            f"{source!r} is not a head of an audit log in the format {FORMAT}. Nothing was changed."
        )
    return head


def _write_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _s3() -> Any:
    import boto3

    # As stock MLflow finds the endpoint.
    return boto3.Session().client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"))


def _failures(*more: type[Exception]) -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError

    return (OSError, BotoCoreError, ClientError, *more)
