"""The places where bytes enter sign-in, webhooks, and the files that operators write."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from mlflow_plugins_pack.approvals.policy.notifications import MailServer
from mlflow_plugins_pack.approvals.policy.webhooks import Webhook
from mlflow_plugins_pack.approvals.webhooks import mail, messages
from mlflow_plugins_pack.approvals.webhooks.outbox import Delivery
from mlflow_plugins_pack.approvals.webhooks.sender import send
from mlflow_plugins_pack.auth.credentials.contracts import SourceError
from mlflow_plugins_pack.auth.manager import Manager
from mlflow_plugins_pack.auth.oidc.provider import Provider
from mlflow_plugins_pack.auth.profiles.models import OidcProfile
from mlflow_plugins_pack.auth.sources.command import CommandReader
from mlflow_plugins_pack.auth.sources.file import FileReader
from mlflow_plugins_pack.auth.token_store.stores import FileStore
from mlflow_plugins_pack.cli.main import cli
from mlflow_plugins_pack.errors import PackError
from mlflow_plugins_pack.identity.errors import KeysUnavailableError, TokenRefusedError
from mlflow_plugins_pack.identity.keys import KeyCache, fetch_json
from tests.auth.support import redirect_fuzz
from tests.auth.support.parts import write_profiles
from tests.auth.support.token_files import FIRST, KEY
from tests.fuzz.support.odd_inputs import Odd
from tests.fuzz.support.odd_server import OddServer
from tests.fuzz.support.running import FuzzError, Place, refused

PROFILES = """
[profile.p]
hosts = ["https://h.example/mlflow"]
source = "oidc"
issuer = "https://idp.example"
client_id = "c"
client_secret = { env = "S" }
scope = "mlflow"
timeout_seconds = 5
tls = { ca = "/x" }
"""
POLICY = """
version: 1
identity: {sources: [jwt], jwt: {issuer: "https://i.example", audience: a}}
groups: {leads: [bob, carol], risk: [dave]}
defaults: {expires_after: 2h}
policies:
  - name: prod
    match: {models: ["gov-*"], exclude: ["*-x"]}
    targets: {aliases: [prod], stages: [Production]}
    approvals: [{group: leads, count: 1}]
    checks: [{tag: t, equals: x, writers: ["group:risk"]}, {expr: "metrics.auc >= 0.5"}]
    freeze: [{cron: "* * * * FRI", tz: UTC}]
events: {webhooks: [{url: "https://h.example/x", secret: {env: S}}]}
"""


class Target:
    """Files and servers of the places."""

    def __init__(self, folder: Path, server: OddServer) -> None:
        self.folder, self.server = folder, server
        self.store = FileStore(str(folder / "state" / "auth"))
        self.store.write(KEY, FIRST)
        self.token_file = folder / "state" / "auth" / f"{KEY}.json"

    def policy(self, odd: Odd) -> None:
        file = self.folder / "policy.yaml"
        text = odd.yaml(POLICY)
        if odd.chance.random() < 0.3:
            old, word = odd.pick((("gov-*", "gov-*"), ("metrics.auc >= 0.5", "a.b"), ("2h", "2h")))
            text = POLICY.replace(old, odd.text(word).replace('"', "'"))
        data = text.encode("utf-8", "replace")
        file.write_bytes(data if odd.chance.random() < 0.9 else odd.data(POLICY.encode()))
        done = CliRunner().invoke(cli, ["approvals", "policy", "validate", str(file)])
        if not (done.exception is None or isinstance(done.exception, (SystemExit, PackError))):
            raise done.exception

    def profiles(self, odd: Odd) -> None:
        words = odd.pick(
            (("mlflow", "mlflow"), ("https://h.example/mlflow", "https://h"), ("5", "5"))
        )
        odd_text = odd.text(words[1]).replace('"', "'")
        text = odd.pick((PROFILES.replace(words[0], odd_text, 1), odd.cut(PROFILES), odd.text("x")))
        nested = f"a = {'[' * odd.depth()}"
        data = odd.pick((text, nested, f"{PROFILES}{nested}")).encode("utf-8", "replace")
        path = write_profiles(self.folder / "auth.toml", "")
        path.write_bytes(data[: odd.largest] if odd.chance.random() < 0.8 else odd.data())
        with _environment(MLFLOW_PACK_AUTH_CONFIG=str(path)), refused():
            Manager().profiles()

    def secret_files(self, odd: Odd) -> None:
        file = self.folder / "secret"
        file.write_bytes(odd.data(b"token-1\n"))
        with refused(SourceError):
            FileReader(str(file)).read()

    def programs(self, odd: Odd) -> None:
        valid = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": "t", "expirationTimestamp": "2027-01-01T00:00:00Z"},
        }
        document = odd.pick((valid, {"access_token": "t", "expires_in": 3600}))
        text = odd.json(document).encode("utf-8", "replace")
        file = self.folder / "output"
        file.write_bytes(text if odd.chance.random() < 0.7 else odd.data(text))
        with refused(SourceError):
            CommandReader(["cat", str(file)], 10).read()

    def provider(self, odd: Odd) -> None:
        url = self.server.url
        endpoints = ("authorization", "token", "device_authorization", "revocation")
        valid = {f"{name}_endpoint": f"{url}/{name}" for name in endpoints}
        valid |= {"issuer": url, "jwks_uri": f"{url}/jwks", "access_token": "t", "expires_in": 60}
        valid |= {"token_type": "Bearer", "refresh_token": "r", "error_description": "x"}
        self.server.answer(odd, valid)
        profile = OidcProfile(
            hosts=["https://h.example"],
            source="oidc",
            issuer=url,
            client_id="c",
            client_secret={"env": "ODD_SECRET"},
            scope="mlflow",
            timeout_seconds=5,
        )
        with _environment(ODD_SECRET="x"), refused(SourceError):
            from mlflow_plugins_pack.auth.sources import open_oidc

            provider: Provider = open_oidc("p", profile).provider
            odd.pick(
                (provider.grant, lambda: provider.refresh("r"), lambda: provider.revoke("r"))
            )()

    def issuer_keys(self, odd: Odd) -> None:
        key = {"kty": "RSA", "kid": "one", "use": "sig", "n": "AQAB" * 80, "e": "AQAB"}
        self.server.answer(odd, {"keys": [key, {"kty": "EC", "crv": "P-256", "x": "x", "y": "y"}]})
        with refused(KeysUnavailableError, TokenRefusedError):
            found = KeyCache(lambda: fetch_json(f"{self.server.url}/jwks")).find("one")
            from mlflow_plugins_pack.identity import jwt

            cache = KeyCache(lambda: {"keys": list(found)})
            token = "eyJhbGciOiJSUzI1NiIsImtpZCI6Im9uZSJ9.e30." + "x" * 342
            jwt.verify(token, cache, issuer="i", audience="a")

    def stored_tokens(self, odd: Odd) -> None:
        document = {"version": 1, "token": "t", "issued_at": 1.0, "expires_at": 2.0, "who": "a"}
        text = odd.json({**document, "refresh_token": "r"}).encode("utf-8", "replace")
        self.token_file.write_bytes(text if odd.chance.random() < 0.7 else odd.data(text))
        with refused(SourceError):
            self.store.read(KEY)

    def webhook_answers(self, odd: Odd) -> None:
        self.server.answer(odd, {"ok": True})
        settings = {"url": f"{self.server.url}/x", "secret": {"env": "FUZZ_TOKEN"}}
        webhook = Webhook.model_validate({**settings, "allow_private": True})
        with _environment(FUZZ_TOKEN="a secret"):
            problem = send(
                webhook,
                Delivery("1", 1, "vote", webhook.url, "{}", "pending", 0, 0, 0, None, None),
                0,
            )
        if (problem is None) != (200 <= self.server.status < 300):
            raise FuzzError(f"{self.server.status} counts as {problem}")

    def messages(self, odd: Odd) -> None:
        """Write messages about an event with odd names: none becomes a header or markup."""

        def stored(*words: str) -> str:  # a database keeps no half of a character
            return odd.text(*words).encode("utf-8", "replace").decode()

        entry = {
            "actor": stored("eve"),
            "name": stored("gov-a\r\nBcc: all@example.com"),
            "version": 1,
            "target": "alias:prod",
            "workspace": stored("default"),
            "request_id": "0" * 32,
            "after": json.dumps({"action": odd.pick(("promote", "x")), "comment": stored()}),
        }
        kind = odd.pick(("slack", "teams", "email"))
        body = messages.body(kind, "request.created", entry, "https://r.example")
        parts = json.loads(body)
        if kind == "slack" and "<" in parts["text"]:
            raise FuzzError(f"markup in {parts['text']!r}")
        if kind == "email":
            server = MailServer(host="localhost", sender="mlflow@example.com")
            told = Delivery("1", 1, "vote", "", body, "pending", 0, 0, 0, None, None)
            sent = mail._message(server, ["a@example.com"], told, 0).as_bytes()
            if b"\nBcc:" in sent.partition(b"\n\n")[0]:
                raise FuzzError(f"a header in {sent[:500]!r}")

    def locations(self, odd: Odd) -> None:
        path = write_profiles(self.folder / "redirect.toml", redirect_fuzz.PROFILE)
        with _environment(MLFLOW_PACK_AUTH_CONFIG=str(path), FUZZ_TOKEN=redirect_fuzz.TOKEN):
            redirect_fuzz.run(50, odd.chance.randrange(1 << 30))


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def places(folder: Path) -> Iterator[list[Place]]:
    server = OddServer()
    with server.served():
        on = Target(folder, server)
        policy = ("approvals/policy/parse.py", "approvals/policy/expressions.py")
        sources = "auth/sources"
        table: tuple[tuple[str, tuple[str, ...], Any, int, int], ...] = (
            ("the policy file", policy, on.policy, 70_000, 12),
            ("the profiles file", ("auth/profiles/file.py",), on.profiles, 2 << 20, 20),
            ("secrets in files", (f"{sources}/file.py",), on.secret_files, 1 << 20, 12),
            ("output of programs", (f"{sources}/command.py",), on.programs, 1 << 20, 12),
            ("answers of a provider", ("auth/oidc/transport.py",), on.provider, 2 << 20, 20),
            (
                "answers of webhooks",
                ("approvals/webhooks/sender.py",),
                on.webhook_answers,
                70_000,
                8,
            ),
            (
                "messages to people",
                ("approvals/webhooks/messages.py",),
                on.messages,
                8000,
                20,
            ),
            ("an issuer's keys", ("identity/keys.py",), on.issuer_keys, 2 << 20, 20),
            ("stored tokens", ("auth/token_store/stores.py",), on.stored_tokens, 1 << 20, 30),
            ("Location of a redirect", ("auth/signing/signer.py",), on.locations, 1 << 20, 4),
        )
        yield [
            Place(name, reads, feed, largest, speed=speed)
            for name, reads, feed, largest, speed in table
        ]
