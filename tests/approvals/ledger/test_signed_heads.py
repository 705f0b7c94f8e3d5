"""Signed heads: a chain that a database administrator has rewritten as a whole is found."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from mlflow_plugins_pack.approvals.database import schema, tables
from mlflow_plugins_pack.approvals.ledger import audit_log, signed_heads
from mlflow_plugins_pack.cli.main import cli
from mlflow_plugins_pack.errors import AuditBrokenError, ConfigurationError


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    engine = sa.create_engine(url)
    schema.upgrade(engine)
    engine.dispose()
    fill(url, 5)
    return url


def fill(url: str, count: int, actor: str = "bob") -> None:
    engine = sa.create_engine(url)
    with sa.orm.Session(engine) as session:
        for number in range(count):
            audit_log.append(session, created_at=number, action="APPLIED", actor=actor)
        session.commit()
    engine.dispose()


def rewrite(url: str, count: int) -> None:
    """Do what an administrator can: drop the triggers, write another log that holds."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for trigger in tables.AUDIT_TRIGGERS:
            connection.execute(sa.text(f"DROP TRIGGER IF EXISTS {trigger}"))
        connection.execute(sa.delete(tables.audit))
        connection.execute(sa.update(tables.audit_head).values(seq=0, hash=audit_log.GENESIS))
    engine.dispose()
    fill(url, count, actor="mallory")


@pytest.fixture(params=["ed25519", "hmac"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Paths of the key that signs and of the one that checks."""
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    if request.param == "hmac":
        private.write_text("0123456789abcdef0123456789abcdef\n")
        return str(private), str(private)
    for arguments in (
        ["genpkey", "-algorithm", "ed25519", "-out", private],
        ["pkey", "-in", private, "-pubout", "-out", public],
    ):
        subprocess.run(["openssl", *map(str, arguments)], check=True)
    return str(private), str(public)


def call(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(
        cli, ["approvals", "audit", *arguments, "--registry-store-uri", f"approval-{url}"]
    )


def test_a_rewritten_log_is_found(url: str, keys: tuple[str, str], tmp_path: Path) -> None:
    private, public = keys
    head = str(tmp_path / "heads" / "head.json")
    assert call(url, "export", head, "--key", private).exit_code == 0
    fill(url, 3)
    good = call(url, "verify", "--against", head, "--key", public)
    assert good.exit_code == 0, good.output
    assert "goes on from entry 5" in good.output
    shown = json.loads(call(url, "verify", "--against", head, "--key", public, "--json").output)
    assert (shown["entries"], shown["goes_on_from"]) == (8, 5)

    for count, problem in ((8, "entry 5 has the hash"), (3, "the log ends at entry 3")):
        rewrite(url, count)
        assert call(url, "verify").exit_code == 0  # the chain alone looks well
        found = call(url, "verify", "--against", head, "--key", public)
        assert found.exit_code == 1
        assert isinstance(found.exception, AuditBrokenError)
        assert "the log was rewritten: its entry 5" in found.exception.message
        assert problem in found.exception.message


def test_a_forged_head_is_found(url: str, keys: tuple[str, str], tmp_path: Path) -> None:
    private, public = keys
    head = json.loads(call(url, "export", "--key", private).output)
    for name, value in (("seq", 4), ("hash", "0" * 64), ("exported_at", 1), ("signature", "!")):
        forged = tmp_path / f"{name}.json"
        forged.write_text(json.dumps({**head, name: value}))
        found = call(url, "verify", "--against", str(forged), "--key", public)
        assert isinstance(found.exception, AuditBrokenError), name
        assert "not signed by this key" in found.exception.message
    other = tmp_path / "other"
    other.write_text("another secret, long enough")
    whole = tmp_path / "head.json"
    whole.write_text(json.dumps(head))
    found = call(url, "verify", "--against", str(whole), "--key", str(other))
    assert isinstance(found.exception, AuditBrokenError)


def test_heads_go_to_s3_and_none_is_overwritten(
    url: str, moto: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "key").write_text("0123456789abcdef0123456789abcdef")
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_AUDIT_KEY", str(tmp_path / "key"))
    folder = moto.new_root() + "/heads/"
    done = call(url, "export", folder)
    assert done.exit_code == 0, done.output
    place = done.output.split(": ")[-1].strip()
    assert place.startswith(folder)
    assert call(url, "verify", "--against", place).exit_code == 0
    head = signed_heads.read_head(place)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        signed_heads.write_head(head, folder)
    with pytest.raises(ConfigurationError, match="no head of an audit log"):
        signed_heads.read_head(folder + "nothing.json")


def test_a_broken_log_is_not_signed(url: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("0123456789abcdef0123456789abcdef")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TRIGGER mpp_audit_no_update"))
        connection.execute(sa.text("UPDATE mpp_audit SET actor = 'x' WHERE seq = 2"))
    engine.dispose()
    done = call(url, "export", str(tmp_path / "head"), "--key", str(tmp_path / "key"))
    assert isinstance(done.exception, AuditBrokenError)
    assert "Nothing was signed" in done.exception.message
    assert not (tmp_path / "head").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("short", "shorter than 16 bytes"),
        ("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----", "cannot be read"),
    ],
)
def test_unusable_keys_are_explained(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "key").write_text(content)
    with pytest.raises(ConfigurationError, match=problem):
        signed_heads.read_key(tmp_path / "key")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        signed_heads.read_key(tmp_path / "missing")


def test_keys_of_another_kind_and_public_keys_cannot_sign(url: str, tmp_path: Path) -> None:
    for kind, name in (("ed25519", "ed"), ("x25519", "x")):
        subprocess.run(
            ["openssl", "genpkey", "-algorithm", kind, "-out", str(tmp_path / name)], check=True
        )
    subprocess.run(
        ["openssl", "pkey", "-in", tmp_path / "ed", "-pubout", "-out", tmp_path / "pub"], check=True
    )
    with pytest.raises(ConfigurationError, match="not an Ed25519 key"):
        signed_heads.read_key(tmp_path / "x")
    done = call(url, "export", "--key", str(tmp_path / "pub"))
    assert isinstance(done.exception, ConfigurationError)
    assert "public key cannot sign" in done.exception.message
    assert call(url, "export").exit_code == 2
    assert call(url, "verify", "--against", "x").exit_code == 2
