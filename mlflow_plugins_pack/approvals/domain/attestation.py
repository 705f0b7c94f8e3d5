"""Signed statements of another server's approvals, and of the digest they are bound to; pure.

The form is a DSSE envelope (https://github.com/secure-systems-lab/dsse, version 1) around an
in-toto statement (https://in-toto.io/Statement/v1) in canonical JSON (RFC 8785), signed with
Ed25519 (RFC 8032). The envelope carries the public key, so that a policy names keys by their
fingerprint alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import rfc8785

ATTESTATION_TAG = "mlflow_pack.shipped.attestation"
"""On the version at the target. Anyone may write it: what counts is the signature."""

FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")
LONGEST = 60_000
"""Longest envelope in characters."""
MAX_APPROVALS = 100
MAX_APPROVERS = 1_000

_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://pypi.org/project/mlflow-plugins-pack/approvals/v1"
_PAYLOAD = "application/vnd.in-toto+json"
_DIGEST = re.compile(r"sha256:(?P<hex>[0-9a-f]{64})")


@dataclass(frozen=True)
class AttestedApproval:
    """An approval at the source.

    Attributes:
        target: The alias or stage, as people type it: ``prod`` or ``stage:Production``.
        request_id: The request there.
        approvers: The people whose approval counted there, in its own names.
    """

    target: str
    request_id: str
    approvers: tuple[str, ...]


@dataclass(frozen=True)
class Statement:
    """What is signed.

    Attributes:
        digest: The digest of the version's content, ``sha256:`` and 64 hex digits.
        source: The version at the source, ``models:/NAME/VERSION``.
        server: The address of the source.
        name: The name of the model at the target.
        approvals: The approvals at the source that are bound to this digest.
        signed_at: Milliseconds since the epoch.
    """

    digest: str
    source: str
    server: str
    name: str
    approvals: tuple[AttestedApproval, ...]
    signed_at: int


@dataclass(frozen=True)
class Attestation:
    """A statement whose signature holds.

    Attributes:
        statement: What was signed.
        fingerprint: The key that signed it: ``sha256:`` and the SHA-256 of its 32 bytes.
    """

    statement: Statement
    fingerprint: str


def fingerprint_of(public_key: bytes) -> str:
    """Return the fingerprint of an Ed25519 public key of 32 bytes."""
    return f"sha256:{hashlib.sha256(public_key).hexdigest()}"


def seal(statement: Statement, public_key: bytes, sign: Callable[[bytes], bytes]) -> str:
    """Return the signed statement as text.

    Args:
        statement: The statement.
        public_key: The 32 bytes of the key that signs.
        sign: Signs bytes with it.
    """
    match = _DIGEST.fullmatch(statement.digest)
    if match is None:
        raise ValueError(f"{statement.digest!r} is not a digest")
    payload = rfc8785.dumps(
        {
            "_type": _STATEMENT,
            "subject": [{"name": statement.source, "digest": {"sha256": match["hex"]}}],
            "predicateType": _PREDICATE,
            "predicate": {
                "server": statement.server,
                "name": statement.name,
                "signedAt": statement.signed_at,
                "approvals": [
                    {
                        "target": one.target,
                        "requestId": one.request_id,
                        "approvers": list(one.approvers),
                    }
                    for one in statement.approvals
                ],
            },
        }
    )
    signature = {
        "keyid": fingerprint_of(public_key),
        "sig": _encode(sign(_to_sign(payload))),
        "publicKey": _encode(public_key),
    }
    envelope = {"payloadType": _PAYLOAD, "payload": _encode(payload), "signatures": [signature]}
    return json.dumps(envelope, separators=(",", ":"))


def unseal(text: str) -> Attestation:
    """Check a signed statement and return it.

    Raises:
        ValueError: If it is not one, is too large, or its signature does not hold.
    """
    if len(text) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST} characters")
    envelope = _object(_parse(text), {"payloadType": str, "payload": str, "signatures": list})
    if envelope["payloadType"] != _PAYLOAD or len(envelope["signatures"]) != 1:
        raise ValueError("it is not a statement with one signature")
    signature = _object(envelope["signatures"][0], {"keyid": str, "sig": str, "publicKey": str})
    payload, key = _decode(envelope["payload"]), _decode(signature["publicKey"])
    if signature["keyid"] != fingerprint_of(key) or not _holds(
        key, _decode(signature["sig"]), _to_sign(payload)
    ):
        raise ValueError("its signature does not hold")
    return Attestation(_statement(_parse(payload.decode("utf-8"))), signature["keyid"])


def _statement(found: Any) -> Statement:
    outer = _object(found, {"_type": str, "subject": list, "predicateType": str, "predicate": dict})
    if (outer["_type"], outer["predicateType"]) != (_STATEMENT, _PREDICATE):
        raise ValueError("it states something else")
    if len(outer["subject"]) != 1:
        raise ValueError("it is about several versions")
    subject = _object(outer["subject"][0], {"name": str, "digest": dict})
    digest = f"sha256:{_object(subject['digest'], {'sha256': str})['sha256']}"
    if _DIGEST.fullmatch(digest) is None:
        raise ValueError("it has no digest")
    about = _object(
        outer["predicate"], {"server": str, "name": str, "signedAt": int, "approvals": list}
    )
    if len(about["approvals"]) > MAX_APPROVALS:
        raise ValueError("it has too many approvals")
    return Statement(
        digest,
        subject["name"],
        about["server"],
        about["name"],
        tuple(map(_approval, about["approvals"])),
        about["signedAt"],
    )


def _approval(found: Any) -> AttestedApproval:
    fields = _object(found, {"target": str, "requestId": str, "approvers": list})
    approvers = fields["approvers"]
    if len(approvers) > MAX_APPROVERS or not all(isinstance(one, str) for one in approvers):
        raise ValueError("an approver is a name")
    return AttestedApproval(fields["target"], fields["requestId"], tuple(approvers))


def _object(found: Any, types: dict[str, type]) -> dict[str, Any]:
    """Return an object that has these fields, of these types, and no others."""
    if not isinstance(found, dict) or set(found) != set(types):
        raise ValueError("it does not have the fields of an attestation")
    if any(type(found[name]) is not kind for name, kind in types.items()):
        raise ValueError("a field has the wrong type")
    return found


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _to_sign(payload: bytes) -> bytes:
    # The pre-authentication encoding of DSSE.
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)


def _holds(public_key: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
