"""Sends one event to one webhook, and nowhere else: no redirect, no proxy, no private address."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import requests

from mlflow_plugins_pack import __version__
from mlflow_plugins_pack.approvals.policy.webhooks import Secret, Webhook
from mlflow_plugins_pack.approvals.webhooks import payload
from mlflow_plugins_pack.approvals.webhooks.outbox import Delivery
from mlflow_plugins_pack.approvals.webhooks.public_address import PublicOnlyAdapter
from mlflow_plugins_pack.http_deadline import WatchedAdapter, exchange

_TIMEOUT_SECONDS = 10.0


def send(webhook: Webhook, delivery: Delivery, now_ms: int) -> str | None:
    """Make one attempt.

    Returns:
        None if the webhook answered with a 2xx, else why not, without the secret.
    """
    try:
        secret = _secret(webhook.secret)
    except (OSError, ValueError) as exc:
        return _secret_problem(exc)
    timestamp = str(now_ms // 1000)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"mlflow-plugins-pack/{__version__}",
        "X-MLflow-Delivery-Id": delivery.id,
        "X-MLflow-Timestamp": timestamp,
        "X-MLflow-Signature": payload.signature(secret, delivery.id, timestamp, delivery.body),
    }

    def ask(session: requests.Session) -> int:
        # A proxy would connect to any address for us.
        session.trust_env = webhook.allow_private
        # The answer's body is not needed and might never end, so it is not read.
        with session.post(
            webhook.url,
            data=delivery.body.encode(),
            headers=headers,
            timeout=_TIMEOUT_SECONDS,
            allow_redirects=False,
            stream=True,
        ) as answer:
            return answer.status_code

    try:
        public_only = not (webhook.allow_private or webhook.is_local)
        status = exchange(
            _TIMEOUT_SECONDS, ask, PublicOnlyAdapter if public_only else WatchedAdapter
        )
    except Exception as exc:  # noqa: BLE001 - any failure is recorded and the attempt is repeated
        return f"{type(exc).__name__}: {exc}"
    return None if 200 <= status < 300 else f"answered {status}"


def secret_problems(webhooks: Iterable[Webhook]) -> list[str]:
    """Return, for each webhook whose secret cannot be read here, why; its events would wait."""
    found = []
    for webhook in webhooks:
        try:
            _secret(webhook.secret)
        except (OSError, ValueError) as exc:
            found.append(f"{webhook.url}: {_secret_problem(exc)}")
    return found


def _secret_problem(exc: Exception) -> str:
    return f"the secret cannot be read: {exc}"


def _secret(secret: Secret) -> str:
    if secret.env is not None:
        value, where = os.environ.get(secret.env, ""), f"the variable {secret.env}"
    else:
        path = secret.file or ""
        value, where = Path(path).read_text(encoding="utf-8").strip(), path
    if not value:
        raise ValueError(f"{where} is empty")
    return value
