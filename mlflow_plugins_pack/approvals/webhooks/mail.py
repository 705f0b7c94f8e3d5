"""Hands an event to an SMTP server (RFC 5321), within one time limit for the whole conversation."""

from __future__ import annotations

import json
import smtplib
import socket
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate

from mlflow_plugins_pack.approvals.policy.notifications import MailServer
from mlflow_plugins_pack.approvals.webhooks import public_address, secret_values
from mlflow_plugins_pack.approvals.webhooks.outbox import Delivery
from mlflow_plugins_pack.http_deadline import Watch, within


def send(
    server: MailServer,
    recipients: Sequence[str],
    delivery: Delivery,
    now_ms: int,
    seconds: float,
) -> None:
    """Send an e-mail; the server has taken it when this returns.

    Args:
        server: The mail server.
        recipients: Its addresses.
        delivery: The event; its body has the subject and the text.
        now_ms: Milliseconds since the epoch.
        seconds: The limit of the whole conversation.

    Raises:
        SecretUnreadableError: If the password is not where the policy says.
        Exception: Any failure of the network or the server.
    """
    message = _message(server, recipients, delivery, now_ms)
    password = secret_values.read(server.password) if server.password is not None else None
    watch = Watch()

    def talk() -> None:
        with _Connection(server, watch, seconds) as smtp:
            smtp.connect(server.host, server.port)
            if server.security == "starttls":
                smtp.starttls(context=ssl.create_default_context())
            if server.username is not None and password is not None:
                smtp.login(server.username, password)
            smtp.send_message(message)

    within(seconds, talk, watch)


def _message(
    server: MailServer, recipients: Sequence[str], delivery: Delivery, now_ms: int
) -> EmailMessage:
    parts = json.loads(delivery.body)
    message = EmailMessage()
    message["From"], message["To"] = server.sender, ", ".join(recipients)
    message["Subject"] = parts["subject"]
    message["Date"] = formatdate(now_ms / 1000)
    # The same for each attempt, so that a mailbox shows it once.
    message["Message-ID"] = f"<{delivery.id}@{server.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic answers
    message.set_content(parts["text"])
    return message


class _Connection(smtplib.SMTP):
    """A connection that the watch can end, to an address that the policy allows."""

    def __init__(self, server: MailServer, watch: Watch, seconds: float) -> None:
        self._server, self._watch = server, watch
        super().__init__(timeout=seconds)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        self._host = host  # what STARTTLS compares the certificate with
        self.sock = socket.create_connection((host, port), timeout)
        self._watch.add(self)
        if not (self._server.allow_private or self._server.is_local):
            public_address.checked(self.sock)
        if self._server.security == "tls":
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=host)
        return self.sock
