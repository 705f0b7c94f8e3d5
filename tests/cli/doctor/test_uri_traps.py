"""Spellings that MLflow accepts and that do something else than they look like."""

from __future__ import annotations

import pytest

from mlflow_plugins_pack.cli.doctor.uri_traps import find_trap


@pytest.mark.parametrize(
    ("role", "uri"),
    [
        ("registry", "approval-sqlite:///mlflow.db"),
        ("registry", "approval-postgresql+psycopg2://u:p@h/db"),
        ("registry", "sqlite:///mlflow.db"),
        ("registry", "http://server"),
        ("backend", "sqlite:///mlflow.db"),
        ("tracking", "https://mlflow.example.com"),
        ("tracking", "./mlruns"),
        ("artifacts", "cas-s3://bucket/prefix"),
        ("artifacts", "cas-file:///srv/artifacts"),
        ("artifacts", "s3://cas-bucket/prefix"),
        ("artifacts", "./cas"),
    ],
)
def test_what_works_is_no_trap(role: str, uri: str) -> None:
    assert find_trap(role, uri) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("role", "uri", "consequence", "instead"),
    [
        ("registry", "sqlite+approval:///m.db", "NO approval", "approval-sqlite:///m.db"),
        ("registry", "postgresql-approval://h/d", "NO approval", "approval-postgresql://h/d"),
        ("registry", "approval+sqlite:///m.db", "answers 400", "approval-sqlite:///m.db"),
        ("registry", "approvals-mysql://h/d", "answers 400", "approval-mysql://h/d"),
        ("registry", "approval-redis://h", "answers 400", ""),
        ("registry", "cas-s3://bucket", "is not a registry", ""),
        ("artifacts", "cas+s3://bucket/p", "into a space", "cas-s3://bucket/p"),
        ("artifacts", "file+cas:///srv", "into a space", "cas-file:///srv"),
        ("artifacts", "cas-hdfs://host/path", "serves cas-file", ""),
        ("artifacts", "s3-cas://bucket", "serves cas-file", "cas-s3://bucket"),
        ("artifacts", "approval-sqlite:///m.db", "is not an artifact store", ""),
        ("backend", "approval-sqlite:///m.db", "--backend-store-uri", "sqlite:///m.db"),
        ("tracking", "cas-file:///srv", "tracking URI", "file:///srv"),
    ],
)
def test_a_trap_is_named_with_what_to_write(
    role: str, uri: str, consequence: str, instead: str
) -> None:
    trap = find_trap(role, uri)  # type: ignore[arg-type]
    assert trap is not None
    assert consequence in trap.consequence
    assert instead in trap.instead


def test_a_password_is_not_repeated() -> None:
    trap = find_trap("registry", "postgresql+approval://u:hunter2@h/db")
    assert trap is not None
    assert "hunter2" not in trap.instead
    assert trap.instead == "approval-postgresql://u:***@h/db"
