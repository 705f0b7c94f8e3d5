"""Sends one event to one receiver, and nowhere else: no redirect, no proxy, no private address."""

from __future__ import annotations

from collections.abc import Mapping

import requests

from mlflow_plugins_pack import __version__
from mlflow_plugins_pack.approvals.policy.notifications import MailServer, Notification
from mlflow_plugins_pack.approvals.policy.webhooks import Webhook
from mlflow_plugins_pack.approvals.webhooks import mail, payload, secret_values
from mlflow_plugins_pack.approvals.webhooks.outbox import Delivery
from mlflow_plugins_pack.approvals.webhooks.public_address import (
    PrivateAddressError,
    PublicOnlyAdapter,
)
from mlflow_plugins_pack.http_deadline import WatchedAdapter, exchange
from mlflow_plugins_pack.web_urls import parse_url

_TIMEOUT_SECONDS = 10.0


def send(
    receiver: Webhook | Notification,
    delivery: Delivery,
    now_ms: int,
    mail_server: MailServer | None = None,
) -> str | None:
    """Make one attempt.

    Returns:
        None if the receiver took it, else why not, without any secret.
    """
    try:
        if isinstance(receiver, Webhook):
            status = _to_webhook(receiver, delivery, now_ms)
        elif receiver.url is not None:
            status = _to_chat(receiver, secret_values.read(receiver.url), delivery)
        elif mail_server is not None:
            mail.send(mail_server, receiver.to, delivery, now_ms, _TIMEOUT_SECONDS)
            return None
        else:
            return "the policy no longer names a mail server"
    except secret_values.SecretUnreadableError as exc:
        return str(exc)
    except Exception as exc:  # noqa: BLE001 - any failure is recorded and the attempt is repeated
        if isinstance(receiver, Webhook) or isinstance(exc, (PrivateAddressError, TimeoutError)):
            return f"{type(exc).__name__}: {exc}"
        return type(exc).__name__  # its text may have the address, which is a secret
    return None if 200 <= status < 300 else f"answered {status}"


def _to_webhook(webhook: Webhook, delivery: Delivery, now_ms: int) -> int:
    timestamp = str(now_ms // 1000)
    key = secret_values.read(webhook.secret)
    headers = {
        "X-MLflow-Delivery-Id": delivery.id,
        "X-MLflow-Timestamp": timestamp,
        "X-MLflow-Signature": payload.signature(key, delivery.id, timestamp, delivery.body),
    }
    public_only = not (webhook.allow_private or webhook.is_local)
    return _post(
        webhook.url,
        delivery.body,
        headers,
        public_only=public_only,
        may_use_proxies=webhook.allow_private,
    )


def _to_chat(notification: Notification, address: str, delivery: Delivery) -> int:
    url = parse_url(address)
    if url is None or not (url.is_secure or notification.allow_private):
        raise secret_values.SecretUnreadableError(
            "the address in the secret is neither https nor on this machine"
        )
    public_only = not (notification.allow_private or url.is_local)
    return _post(
        address,
        delivery.body,
        {},
        public_only=public_only,
        may_use_proxies=notification.allow_private,
    )


def _post(
    url: str,
    body: str,
    headers: Mapping[str, str],
    *,
    public_only: bool,
    may_use_proxies: bool,
) -> int:
    """Post JSON and return the status of the answer."""
    sent = {
        "Content-Type": "application/json",
        "User-Agent": f"mlflow-plugins-pack/{__version__}",
        **headers,
    }

    def ask(session: requests.Session) -> int:
        # A proxy would connect to any address for us.
        session.trust_env = may_use_proxies
        # The answer's body is not needed and might never end, so it is not read.
        with session.post(
            url,
            data=body.encode(),
            headers=sent,
            timeout=_TIMEOUT_SECONDS,
            allow_redirects=False,
            stream=True,
        ) as answer:
            return answer.status_code

    return exchange(_TIMEOUT_SECONDS, ask, PublicOnlyAdapter if public_only else WatchedAdapter)
