"""Attestations: only what a key has signed, whole and in one form, is believed."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack.approvals.domain.attestation import (
    ATTESTATION_TAG,
    LONGEST,
    AttestedApproval,
    Statement,
    fingerprint_of,
    seal,
    unseal,
)
from mlflow_plugins_pack.approvals.policy.attested import AttestedBy

NOW = 1_800_000_000_000
KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
DIGEST = f"sha256:{'ab' * 32}"
STATEMENT = Statement(
    DIGEST,
    "models:/fraud/7",
    "https://dev.example.com",
    "fraud",
    (AttestedApproval("prod", "r1", ("bob", "carol")), AttestedApproval("beta", "r2", ("dave",))),
    NOW,
)


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def sealed(statement: Statement = STATEMENT, key: Ed25519PrivateKey = KEY) -> str:
    return seal(statement, public(key), key.sign)


def test_what_is_signed_is_read_again() -> None:
    found = unseal(sealed())
    assert found.statement == STATEMENT
    assert found.fingerprint == fingerprint_of(public(KEY))


def test_the_form_is_that_of_in_toto_in_dsse() -> None:
    envelope = json.loads(sealed())
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    payload = json.loads(base64.b64decode(envelope["payload"]))
    assert payload["_type"] == "https://in-toto.io/Statement/v1"
    assert payload["subject"] == [{"name": "models:/fraud/7", "digest": {"sha256": "ab" * 32}}]
    (signature,) = envelope["signatures"]
    kind, body = envelope["payloadType"], base64.b64decode(envelope["payload"])
    message = f"DSSEv1 {len(kind)} {kind} {len(body)} ".encode() + body
    KEY.public_key().verify(base64.b64decode(signature["sig"]), message)


@given(st.integers(0, 2000), st.integers(1, 255))
def test_no_changed_byte_is_believed(place: int, change: int) -> None:
    text = sealed().encode()
    place %= len(text)
    changed = text[:place] + bytes([text[place] ^ change]) + text[place + 1 :]
    try:
        found = unseal(changed.decode("latin-1"))
    except ValueError:
        return
    assert found == unseal(text.decode())  # such as a blank outside of what is signed


def forged(change: Any) -> str:
    envelope = json.loads(sealed())
    change(envelope)
    return json.dumps(envelope)


def replace_key(envelope: Any) -> None:
    envelope["signatures"][0]["publicKey"] = base64.b64encode(public(OTHER)).decode()


def claim_key(envelope: Any) -> None:
    mine = json.loads(sealed(key=OTHER))
    mine["signatures"][0]["keyid"] = envelope["signatures"][0]["keyid"]
    envelope.update(mine)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        "x" * (LONGEST + 1),
        forged(replace_key),
        forged(claim_key),
        forged(lambda e: e.update(signatures=[])),
        forged(lambda e: e.update(signatures=e["signatures"] * 2)),
        forged(lambda e: e.update(payloadType="text/plain")),
        forged(lambda e: e.update(more=1)),
        forged(lambda e: e["signatures"][0].update(publicKey="AAAA")),
        forged(lambda e: e.update(payload="é")),
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        unseal(text)


def test_only_a_digest_can_be_attested() -> None:
    with pytest.raises(ValueError, match="not a digest"):
        sealed(replace(STATEMENT, digest=""))


# --- what a policy makes of them ----------------------------------------------------------------


def problem(statement: Statement = STATEMENT, approvers: int = 1, **asked: Any) -> str | None:
    keys = asked.pop("keys", [fingerprint_of(public(KEY))])
    tags = {ATTESTATION_TAG: sealed(statement)}
    return AttestedBy(keys=keys, **asked).problem(
        name="fraud", digest=DIGEST, tags=tags, approvers=approvers, now_ms=NOW
    )


def test_what_counts() -> None:
    assert problem() is None
    assert problem(approvers=3) is None
    assert problem(approvers=2, target="prod") is None
    assert problem(replace(STATEMENT, approvals=()), approvers=0) is None
    assert problem(replace(STATEMENT, signed_at=NOW - 86_400_000), max_age="1d") is None


@pytest.mark.parametrize(
    ("statement", "asked", "why"),
    [
        (STATEMENT, {"keys": [fingerprint_of(public(OTHER))]}, "was signed by sha256:"),
        (replace(STATEMENT, digest=f"sha256:{'0' * 64}"), {}, "other files"),
        (replace(STATEMENT, name="fraud-2"), {}, "made for the model 'fraud-2'"),
        (STATEMENT, {"approvers": 4}, "names 3 of 4 approvers"),
        (STATEMENT, {"approvers": 2, "target": "beta"}, "names 1 of 2 approvers for beta"),
        (STATEMENT, {"target": "stage:Production"}, "names 0 of 1 approvers for stage:Production"),
        (replace(STATEMENT, signed_at=NOW - 86_400_001), {"max_age": "1d"}, "older than 1d"),
        (replace(STATEMENT, signed_at=NOW + 300_001), {}, "signed in the future"),
        (
            replace(STATEMENT, approvals=(AttestedApproval("prod", "r", ("bob", "Bob", "BOB")),)),
            {"approvers": 2},
            "names 1 of 2",
        ),
    ],
)
def test_what_does_not(statement: Statement, asked: dict[str, Any], why: str) -> None:
    assert why in str(problem(statement, **asked))


def test_no_attestation_and_an_unreadable_one_do_not_count() -> None:
    policy = AttestedBy(keys=[fingerprint_of(public(KEY))])
    about: dict[str, Any] = {"name": "fraud", "approvers": 0, "now_ms": NOW}
    assert policy.problem(digest=DIGEST, tags={}, **about) == "it has none"
    why = policy.problem(digest=DIGEST, tags={ATTESTATION_TAG: "{}"}, **about)
    assert "not valid" in str(why)
    assert "other files" in str(
        policy.problem(digest=None, tags={ATTESTATION_TAG: sealed()}, **about)
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"keys": []},
        {"keys": ["sha256:ab"]},
        {"keys": [f"sha256:{'AB' * 32}"]},
        {"keys": [f"sha256:{'ab' * 32}\n"]},
        {"keys": [f"sha256:{'ab' * 32}"], "target": "alias:"},
        {"keys": [f"sha256:{'ab' * 32}"], "any": True},
    ],
)
def test_a_policy_names_keys_in_full(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        AttestedBy(**fields)
