"""Messages to people: Slack, Teams and e-mail, from the outbox, and reminders."""

from __future__ import annotations

import contextlib
import email
import email.policy
import http.server
import json
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from mlflow_plugins_pack.approvals.background import worker
from mlflow_plugins_pack.approvals.policy.notifications import MailServer, Notification
from mlflow_plugins_pack.approvals.policy.parse import parse_policy
from mlflow_plugins_pack.approvals.webhooks import messages, sender
from mlflow_plugins_pack.approvals.webhooks.outbox import Delivery
from mlflow_plugins_pack.errors import PolicyInvalidError
from tests.approvals.support.bench import HOUR, POLICY, ClockBench
from tests.auth.support.certificates import Authority
from tests.support.servers import free_port

EVENTS = """
events:
  remind_before: 30m
  mail_server: {host: 127.0.0.1, port: PORT, security: none, sender: mlflow@example.com}
  notifications:
    - {name: channel, kind: slack, url: {env: SLACK_URL}}
    - {name: team, kind: teams, url: {env: TEAMS_URL}, events: [request.created]}
    - name: leads
      kind: email
      to: [leads@example.com]
      events: [request.created, request.expiring]
"""


class Chat:
    """The other end of incoming webhooks, on loopback."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Any]] = []
        self.status = 200
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((self.path, json.loads(body)))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Mailbox(Controller):
    """A mail server that keeps what it takes."""

    def __init__(self, **options: Any) -> None:
        self.got: list[EmailMessage] = []
        self._open = 0
        self._changed = threading.Condition()
        super().__init__(self, "127.0.0.1", free_port(), **options)
        self.start()
        self._is_running = True

    def factory(self) -> SMTP:
        return _Session(self, self.handler, **self.SMTP_kwargs)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        found = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(found, EmailMessage)
        self.got.append(found)
        return "250 OK"

    def note(self, change: int) -> None:
        """Note that a connection began or ended."""
        with self._changed:
            self._open += change
            self._changed.notify_all()

    def close(self) -> None:
        """Stop the server, once its connections are closed."""
        if self._is_running:
            self._is_running = False
            with self._changed:
                self._changed.wait_for(lambda: self._open <= 0, 5)
            self.stop()


class _Session(SMTP):
    def __init__(self, mailbox: Mailbox, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._mailbox, self._is_noted = mailbox, False

    def connection_made(self, transport: Any) -> None:
        if not self._is_noted:  # not again after STARTTLS
            self._is_noted = True
            self._mailbox.note(1)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._mailbox.note(-1)


@pytest.fixture
def chat() -> Iterator[Chat]:
    found = Chat()
    yield found
    found.close()


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    found = Mailbox()
    yield found
    found.close()


@pytest.fixture
def bench(
    tmp_path: Path,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    chat: Chat,
    mailbox: Mailbox,
) -> Iterator[ClockBench]:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    found = ClockBench(tmp_path, monkeypatch)
    found.file.write_text(POLICY + EVENTS.replace("PORT", str(mailbox.port)))
    monkeypatch.setenv("SLACK_URL", f"{chat.url}/services/T/B/secret")
    monkeypatch.setenv("TEAMS_URL", f"{chat.url}/workflows/1?sig=secret")
    monkeypatch.setenv("MLFLOW_PACK_REVIEW_URL", "https://mlflow.example.com/")
    yield found
    found.close()


def step(bench: ClockBench) -> None:
    policy = bench.store.governance.policy
    assert worker.Worker(bench.store._transactions, policy, lambda: bench.now).step()
    bench.now += worker.LEASE_MS + 1  # the next worker is another process


def outbox(bench: ClockBench) -> list[Any]:
    with bench.store.engine.connect() as connection:
        return list(connection.execute(sa.text("SELECT * FROM mpp_outbox ORDER BY seq, id")))


def test_a_request_reaches_each_kind_with_its_link(
    bench: ClockBench, chat: Chat, mailbox: Mailbox
) -> None:
    version = bench.version()
    bench.say(
        "erin", "request", version, "prod: see <https://evil.example|the report> & <!channel>"
    )
    step(bench)
    with bench.store.engine.connect() as connection:
        request = connection.execute(sa.text("SELECT id FROM mpp_request")).scalar_one()
    page = f"https://mlflow.example.com/approvals/requests/{request}"
    title = "erin asks for approval: gov-a version 1 becomes prod"
    said = "see <https://evil.example|the report> & <!channel>"
    (slack,) = [body for path, body in chat.got if path == "/services/T/B/secret"]
    assert slack["text"] == title
    shown = json.dumps(slack)
    assert f"<{page}|Open the request>" in shown
    assert "&lt;https://evil.example|the report&gt; &amp; &lt;!channel&gt;" in shown
    (teams,) = [body for path, body in chat.got if path.startswith("/workflows/")]
    card = teams["attachments"][0]["content"]
    assert [block["inlines"][0]["text"] for block in card["body"]] == [title, said]
    assert {block["type"] for block in card["body"]} == {"RichTextBlock"}  # not Markdown
    assert card["actions"] == [{"type": "Action.OpenUrl", "title": "Open the request", "url": page}]
    (mail,) = mailbox.got
    assert (mail["From"], mail["To"]) == ("mlflow@example.com", "leads@example.com")
    assert mail["Subject"] == title
    assert mail.get_content().replace("\r\n", "\n").split("\n\n") == [
        title,
        said,
        f"Open the request: {page}\n",
    ]
    assert {row.state for row in outbox(bench)} == {"delivered"}

    bench.say("bob", "reject", version)
    step(bench)
    assert chat.got[-1][1]["text"] == "bob rejected: gov-a version 1 for prod"
    assert len(mailbox.got) == 1  # which asked for other events


def test_a_request_and_an_approval_are_reminded_of_once_each(
    bench: ClockBench, chat: Chat, mailbox: Mailbox
) -> None:
    """A request waits two hours, an approval is good for one; reminders come 30 min before."""
    version = bench.version()
    bench.say("erin", "request", version)
    step(bench)
    del chat.got[:], mailbox.got[:]
    bench.now += HOUR
    step(bench)
    assert mailbox.got == []
    bench.now += HOUR // 2
    for _ in range(3):
        step(bench)
        bench.now += 2 * worker.POLL_SECONDS
    (mail,) = mailbox.got
    assert mail["Subject"].startswith("Expires at 2027-01-15T10:00Z: gov-a version 1 becomes prod")
    bench.say("bob", "approve", version)
    bench.now += HOUR * 3 // 4
    for _ in range(3):
        step(bench)
    assert len(mailbox.got) == 2
    assert bench.audit_is_intact()


def test_nothing_is_sent_unless_the_policy_asks_for_it(bench: ClockBench, chat: Chat) -> None:
    bench.file.write_text(POLICY)
    bench.say("erin", "request", bench.version())
    bench.now += HOUR * 7 // 4
    step(bench)
    assert (chat.got, outbox(bench)) == ([], [])


def test_what_fails_is_repeated_and_its_secret_is_shown_nowhere(
    bench: ClockBench, chat: Chat, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.say("erin", "request", bench.version())
    chat.status = 500
    mailbox.close()
    step(bench)
    chat.close()
    step(bench)
    monkeypatch.delenv("TEAMS_URL")
    bench.now += HOUR
    step(bench)
    rows = outbox(bench)
    assert {row.state for row in rows} == {"pending"}
    problems = {row.url: row.last_error for row in rows}
    assert problems == {
        "notification:channel": "ConnectionError",
        "notification:team": "the secret cannot be read: the variable TEAMS_URL is empty",
        "notification:leads": "ConnectionRefusedError",
    }
    assert "secret/" not in str(rows)


MAIL = Notification(name="leads", kind="email", to=["leads@example.com"])


def delivery(**parts: str) -> Delivery:
    body = json.dumps({"subject": "s", "text": "t", **parts})
    return Delivery("i", 1, "drift", MAIL.key, body, "pending", 0, 0, 0, None, None)


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_is_handed_over_encrypted_and_signed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: Any
) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("mail"))
    encryption: dict[str, Any] = {"ssl_context": context}
    if security == "starttls":
        encryption = {"tls_context": context, "require_starttls": True}

    def check(server: Any, session: Any, envelope: Any, mechanism: Any, data: Any) -> AuthResult:
        is_right = (data.login, data.password) == (b"mlflow", b"pass")
        return AuthResult(success=is_right, handled=False)

    # aiosmtpd takes STARTTLS for the only way to encryption.
    options = {"authenticator": check, "auth_require_tls": security == "starttls"}
    monkeypatch.setenv("MAIL_PASSWORD", "pass")
    server = MailServer(
        host="127.0.0.1",
        port=1,
        security=security,
        username="mlflow",
        password={"env": "MAIL_PASSWORD"},
        sender="mlflow@example.com",
    )
    with contextlib.closing(Mailbox(**encryption, **options)) as mailbox:
        server = server.model_copy(update={"port": mailbox.port})
        # A certificate that no one vouches for is not accepted.
        problem = sender.send(MAIL, delivery(), 1, server)
        assert problem == "SSLCertVerificationError"
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
        assert sender.send(MAIL, delivery(), 1, server) is None
        monkeypatch.setenv("MAIL_PASSWORD", "wrong")
        assert sender.send(MAIL, delivery(), 1, server) == "SMTPAuthenticationError"
        assert [mail["Message-ID"] for mail in mailbox.got] == ["<i@example.com>"]


def test_mail_goes_to_no_private_address_and_waits_for_no_slow_server(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        return real("127.0.0.1" if host == "mail.example.com" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    server = MailServer(host="mail.example.com", port=mailbox.port, sender="a@example.com")
    assert "not a public IP address" in str(sender.send(MAIL, delivery(), 1, server))
    assert mailbox.got == []
    monkeypatch.setattr(sender, "_TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        server = MailServer(host="127.0.0.1", port=port, security="none", sender="a@example.com")
        problem = str(sender.send(MAIL, delivery(), 1, server))
        # smtplib turns a time-out of its own into the other, if it comes first.
        assert "TimeoutError" in problem or "SMTPServerDisconnected" in problem


def test_no_name_becomes_a_header_or_markup() -> None:
    entry = {
        "actor": "eve",
        "name": "a\r\nBcc: all@example.com",
        "version": 1,
        "target": "alias:prod",
        "workspace": "default",
        "request_id": "0" * 32,
        "after": json.dumps({"action": "demote", "comment": "x" * 5000}),
    }
    mail = json.loads(messages.body("email", "request.created", entry))
    assert mail["subject"] == "eve asks for approval: a Bcc: all@example.com version 1 loses prod"
    assert len(mail["text"]) < 1200
    assert "Open" not in mail["text"]  # there is no review app to open


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("notifications: [{name: a, kind: slack}]", "slack and teams have 'url'"),
        ("notifications: [{name: a, kind: email, to: [a@b.c]}]", "there is no mail_server"),
        ("notifications: [{name: a, kind: email, to: ['a@b.c\\n']}]", "to"),
        ("mail_server: {host: mx.example.com, security: none, sender: a@b.c}", "allow_private"),
        ("mail_server: {host: mx.example.com, username: a, sender: a@b.c}", "both username"),
        ("remind_before: soon", "remind_before"),
    ],
)
def test_invalid_notifications(text: str, why: str) -> None:
    with pytest.raises(PolicyInvalidError) as caught:
        parse_policy(f"{POLICY}\nevents:\n  {text}\n", "policy.yaml")
    assert why in str(caught.value.message)
