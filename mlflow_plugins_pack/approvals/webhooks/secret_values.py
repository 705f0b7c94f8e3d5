"""Reads what the policy names and does not contain: signing keys, addresses, passwords."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mlflow_plugins_pack.approvals.policy.webhooks import Secret


class SecretUnreadableError(ValueError):
    """A secret is not where the policy says; the message does not contain it."""


def read(secret: Secret) -> str:
    """Return a secret.

    Raises:
        SecretUnreadableError: If it is missing or empty.
    """
    if secret.env is not None:
        value, where = os.environ.get(secret.env, ""), f"the variable {secret.env}"
    else:
        where = secret.file or ""
        try:
            value = Path(where).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as exc:
            raise SecretUnreadableError(f"the secret cannot be read: {exc}") from exc
    if not value:
        raise SecretUnreadableError(f"the secret cannot be read: {where} is empty")
    return value


def problems(secrets: Iterable[tuple[str, Secret]]) -> list[str]:
    """Return why each secret that cannot be read here cannot; its events would wait.

    Args:
        secrets: What each is for, and where it is.
    """
    found = []
    for what, secret in secrets:
        try:
            read(secret)
        except SecretUnreadableError as exc:
            found.append(f"{what}: {exc}")
    return found
