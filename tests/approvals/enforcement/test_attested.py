"""What another server's approvals are worth is said by the policy, on one SQLite store."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mlflow.entities.model_registry import ModelVersionTag

from mlflow_plugins_pack import errors
from mlflow_plugins_pack.approvals.domain.attestation import (
    ATTESTATION_TAG,
    AttestedApproval,
    Statement,
    fingerprint_of,
    seal,
)
from mlflow_plugins_pack.approvals.reports import listings
from mlflow_plugins_pack.approvals.reports.explain import explain
from tests.approvals.support.bench import ClockBench, refused
from tests.support.acting import signed_in

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
RULE = "    approvals: [{group: leads, count: 1}]\n"


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


PRINT = fingerprint_of(public(KEY))
CHECK = (
    RULE + "    checks: [{attested_by: {keys: ['" + PRINT + "'], target: prod}, approvers: 2}]\n"
)
INSTEAD = (
    "    approvals:\n"
    "      - {group: leads, count: 1}\n"
    "      - {group: risk, count: 1, attested_by: {keys: ['" + PRINT + "'], target: prod}}\n"
)


def digest_of(bench: ClockBench, version: int) -> str:
    """Return the digest that a request of the version is bound to."""
    with bench.store.engine.connect() as connection:
        import sqlalchemy as sa

        found: str = connection.execute(
            sa.text("SELECT digest FROM mpp_request WHERE version = :v"), {"v": version}
        ).scalar_one()
    return found


def attest(
    bench: ClockBench,
    version: int,
    *,
    key: Ed25519PrivateKey = KEY,
    people: tuple[str, ...] = ("grace", "heidi"),
    digest: str | None = None,
) -> None:
    statement = Statement(
        digest or digest_of(bench, version),
        "models:/gov-a/1",
        "https://dev.example.com",
        "gov-a",
        (AttestedApproval("prod", "r", people),),
        bench.now,
    )
    with signed_in("mallory"):
        tag = ModelVersionTag(ATTESTATION_TAG, seal(statement, public(key), key.sign))
        bench.store.set_model_version_tag("gov-a", version, tag)


def test_a_check_asks_for_an_attestation_besides_the_votes(bench: ClockBench) -> None:
    bench.edit(RULE, CHECK)
    version = bench.version()
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    text = refused(errors.ChecksFailedError, lambda: bench.set_alias(version))
    assert f"an attestation by {PRINT[:19]}, approved for prod, and it has none" in text
    attest(bench, version, key=OTHER)
    assert "was signed by" in refused(errors.ChecksFailedError, lambda: bench.set_alias(version))
    attest(bench, version, people=("grace",))
    assert "1 of 2 appr" in refused(errors.ChecksFailedError, lambda: bench.set_alias(version))
    attest(bench, version, digest=f"sha256:{'0' * 64}")
    assert "other files" in refused(errors.ChecksFailedError, lambda: bench.set_alias(version))
    attest(bench, version)
    bench.set_alias(version)
    assert bench.holder() == version


def test_an_attestation_alone_is_not_an_approval(bench: ClockBench) -> None:
    bench.edit(RULE, CHECK)
    version = bench.version()
    bench.say("erin", "request", version)
    attest(bench, version)
    refused(errors.ApprovalRequiredError, lambda: bench.set_alias(version))


def test_it_counts_in_the_place_of_a_group_where_the_policy_says_so(bench: ClockBench) -> None:
    bench.edit(RULE, INSTEAD)
    version = bench.version()
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    assert "1 of 2" in refused(errors.ApprovalRequiredError, lambda: bench.set_alias(version))
    attest(bench, version, key=OTHER)
    refused(errors.ApprovalRequiredError, lambda: bench.set_alias(version))
    attest(bench, version)
    bench.set_alias(version)
    assert bench.holder() == version
    assert bench.state(version) == f"APPLIED 1/1 (bob), attested by {PRINT[:19]}"
    with bench.store.engine.connect() as connection:
        entries = listings.audit_entries(connection, 20)
    (applied,) = [json.dumps(e, default=str) for e in entries if e["action"] == "APPLIED"]
    assert PRINT in applied


def test_the_own_approvals_are_asked_for_all_the_same(bench: ClockBench) -> None:
    bench.edit(RULE, INSTEAD)
    version = bench.version()
    bench.say("erin", "request", version)
    attest(bench, version)
    assert "0 of 1" in refused(errors.ApprovalRequiredError, lambda: bench.set_alias(version))


def test_explain_names_the_keys(bench: ClockBench) -> None:
    bench.edit(RULE, INSTEAD)
    policy = bench.store.governance.policy()
    rows = explain(policy, "default", "gov-a", is_prompt=False, now_ms=bench.now)
    shown = f"in place of 1 of risk: {PRINT[:19]}, approved for prod"
    assert {tuple(row["attested_by"]) for row in rows} == {(shown,)}


def test_the_group_may_approve_instead(bench: ClockBench) -> None:
    bench.edit(RULE, INSTEAD)
    version = bench.version()
    bench.say("erin", "request", version)
    bench.say("bob", "approve", version)
    bench.say("dave", "approve", version)
    bench.set_alias(version)
    assert bench.state(version) == "APPLIED 2/2 (bob, dave)"


def test_an_attestation_that_is_taken_back_counts_no_more(bench: ClockBench) -> None:
    bench.edit(RULE, INSTEAD)
    version = bench.version()
    bench.say("erin", "request", version)
    attest(bench, version)
    bench.say("bob", "approve", version)
    assert str(bench.state(version)).startswith("APPROVED 1/1")
    with signed_in("mallory"):
        bench.store.delete_model_version_tag("gov-a", version, ATTESTATION_TAG)
    with pytest.raises(errors.ApprovalError):
        bench.set_alias(version)
    assert bench.holder() is None
