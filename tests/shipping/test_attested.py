"""Approvals of one server count at another as the other's policy says; both are real."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.domain.attestation import (
    ATTESTATION_TAG,
    fingerprint_of,
    unseal,
)
from mlflow_plugins_pack.cli.approvals.pipeline import verify
from mlflow_plugins_pack.errors import ApprovalRequiredError, ConfigurationError
from mlflow_plugins_pack.shipping import journey
from mlflow_plugins_pack.shipping.ends import End
from mlflow_plugins_pack.shipping.journey import Options, Shipped
from mlflow_plugins_pack.shipping.signing import signing_key
from tests.shipping.support.versions import client_of, make_version
from tests.support import servers
from tests.support.servers import MlflowServer, credentials, mlflow_server

DEV_POLICY = """\
version: 1
groups: {leads: [bob]}
policies:
  - name: dev
    match: {models: ["**"]}
    targets: {aliases: [prod, beta]}
    approvals: [{group: leads}]
"""
PROD_POLICY = """\
version: 1
groups: {leads: [frank], risk: [gina]}
policies:
  - name: production
    match: {models: ["**"]}
    targets: {aliases: [prod]}
    approvals:
      - {group: leads}
      - {group: risk, attested_by: {keys: [KEY], target: prod}}
    checks: [{attested_by: {keys: [KEY]}, approvers: 1}]
"""
PEOPLE = {"dev": ("alice", "bob"), "prod": ("release", "erin", "frank")}


def write_key(folder: Path) -> tuple[Path, str]:
    """Write a private key; return its file and its fingerprint."""
    key = Ed25519PrivateKey.generate()
    path = folder / "release.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return path, fingerprint_of(raw)


@contextlib.contextmanager
def approving(folder: Path, name: str, policy: str) -> Iterator[MlflowServer]:
    """Start a server that enforces a policy, with the users of that name."""
    folder.mkdir()
    (folder / "policy.yaml").write_text(policy)
    with mlflow_server(
        folder,
        registry=f"approval-sqlite:///{folder}/mlflow.db",
        artifacts=f"cas-file://{folder}/store",
        app_name="basic-auth",
        MLFLOW_PACK_APPROVALS_POLICY=str(folder / "policy.yaml"),
    ) as server:
        for person in PEOPLE[name]:
            servers.create_user(server, person, servers.PASSWORD)
        servers.make_sign_in_cheap(folder)
        yield server


def as_user(name: str) -> Any:
    return credentials(name, servers.PASSWORD)


def approve(server: MlflowServer, target: str, ask: str, by: str) -> None:
    client = client_of(server.url)
    with as_user(ask):
        client.set_model_version_tag("fraud", "1", "approvals.request", f"{target}: better")
    with as_user(by):
        client.set_model_version_tag("fraud", "1", "approvals.approve", f"{target}: it is")


def test_the_targets_policy_says_what_they_count_as(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, fingerprint = write_key(tmp_path)
    policy = PROD_POLICY.replace("KEY", f'"{fingerprint}"')
    with (
        approving(tmp_path / "dev", "dev", DEV_POLICY) as dev,
        approving(tmp_path / "prod", "prod", policy) as prod,
    ):
        with as_user("alice"):
            make_version(dev.url, "fraud", tmp_path / "model")
        profiles = tmp_path / "auth.toml"
        profiles.write_text(
            "".join(
                f'[profile.{name}]\nhosts = ["{server.url}"]\nsource = "basic"\n'
                f'username = "{user}"\npassword = {{ env = "THE_PASSWORD" }}\n'
                for name, server, user in (("dev", dev, "alice"), ("prod", prod, "release"))
            )
        )
        profiles.chmod(0o600)
        monkeypatch.setenv("THE_PASSWORD", servers.PASSWORD)

        def ship() -> Shipped:
            with monkeypatch.context() as patch:
                patch.setenv("MLFLOW_PACK_AUTH_CONFIG", str(profiles))
                options = Options(key=signing_key(key))
                source, target = End(dev.url), End(prod.url)
                return journey.ship(source, target, "models:/fraud/1", options, lambda _: None)

        def promote() -> None:
            with as_user("erin"):
                client_of(prod.url).set_registered_model_alias("fraud", "prod", "1")

        # Not approved at the source yet: the attestation says where it comes from, and no more.
        assert ship().attested == {}
        with pytest.raises(MlflowException, match="0 of 2 approvals"):
            promote()
        approve(dev, "prod", ask="alice", by="bob")
        assert ship().attested == {}, "an approval counts once it is applied"
        with as_user("alice"):
            client_of(dev.url).set_registered_model_alias("fraud", "prod", "1")
        again = ship()
        assert (again.is_new, again.is_attested_anew) == (False, True)
        assert again.attested == {"prod": ["bob"]}
        assert ship().is_attested_anew is False

        # It stands for the risk group; the lead of this server is asked all the same.
        with pytest.raises(MlflowException, match="0 of 1 approvals"):
            promote()
        with as_user("frank"):
            client_of(prod.url).set_model_version_tag(
                "fraud", "1", "approvals.approve", "prod: fine here"
            )
        promote()
        with as_user("erin"):
            found = client_of(prod.url).get_model_version("fraud", "1")
            assert found.aliases == ["prod"]
            assert unseal(found.tags[ATTESTATION_TAG]).fingerprint == fingerprint
            assert found.tags["mlflow_approvals.prod"] == (
                f"APPLIED 1/1 (frank), attested by {fingerprint[:19]}"
            )
            check = ["models:/fraud@prod", "--tracking-uri", prod.url, "--attested-by"]
            result = CliRunner().invoke(verify, [*check, fingerprint])
            assert result.exit_code == 0, result.output
            other = CliRunner().invoke(verify, [*check, f"sha256:{'0' * 64}"])
            assert isinstance(other.exception, ApprovalRequiredError)


def test_what_anyone_may_write_at_the_source_is_not_attested(
    dev: MlflowServer, prod: MlflowServer, tmp_path: Path
) -> None:
    make_version(dev.url, "forged", tmp_path / "model")
    key = signing_key(write_key(tmp_path)[0])
    source, target = End(dev.url), End(prod.url)
    plain = journey.ship(source, target, "models:/forged/1", Options(), lambda _: None)
    client = client_of(dev.url)
    request = '{"state":"APPLIED","request_id":"r","approvers":["bob"]}'
    approval = f'{{"request_id":"r","digest":"{plain.digest}"}}'
    client.set_model_version_tag("forged", "1", "mlflow_approvals.prod.request", request)
    client.set_model_version_tag("forged", "1", "mlflow_approvals.prod.approval", approval)
    done = journey.ship(source, target, "models:/forged/1", Options(key=key), lambda _: None)
    assert done.attested == {}
    assert any("anyone may write" in line for line in done.left.lines)
    there = client_of(prod.url).get_model_version("forged", "1").tags
    assert unseal(there[ATTESTATION_TAG]).statement.approvals == ()
    assert not any(tag.startswith("mlflow_approvals") for tag in there)
    assert sorted(t for t in client.get_model_version("forged", "1").tags if "ship-asks" in t) == []


@pytest.mark.parametrize("content", [b"a shared secret of some length", b"PUBLIC"])
def test_only_a_private_key_signs(tmp_path: Path, content: bytes) -> None:
    path, _ = write_key(tmp_path)
    if content == b"PUBLIC":
        loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
        content = loaded.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="Ed25519 private key"):
        signing_key(path)
