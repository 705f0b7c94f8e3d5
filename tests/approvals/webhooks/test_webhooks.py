"""Webhooks of approvals: each event once it is so, signed, repeated until it arrives."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.entities.webhook import WebhookEvent
from mlflow.exceptions import MlflowException
from mlflow.webhooks.delivery import _generate_hmac_signature

from mlflow_plugins_pack.approvals.background import worker
from mlflow_plugins_pack.approvals.policy.parse import parse_policy
from mlflow_plugins_pack.approvals.policy.webhooks import Webhook
from mlflow_plugins_pack.approvals.webhooks import outbox, payload, sender
from mlflow_plugins_pack.cli.main import cli
from mlflow_plugins_pack.errors import PolicyInvalidError
from tests.approvals.support.bench import Bench
from tests.support import servers

POLICY = """
version: 1
groups: {leads: [bob], oncall: [zoe]}
policies:
  - name: prod
    match: {models: ["gov-*"]}
    targets: {aliases: [prod]}
    approvals: [{group: leads}]
    break_glass: {group: oncall, expires_after: 24h, post_review: {approvals: 1}}
events:
  webhooks:
    - {url: "URL", secret: {env: HOOK_SECRET}}
"""


class Receiver:
    """A webhook's other end, on loopback; answers what it is told to."""

    def __init__(self, port: int = 0) -> None:
        self.got: list[tuple[dict[str, str], str]] = []
        self.answers: list[int] = []
        self.location = ""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                text = self.rfile.read(length).decode()
                outer.got.append((dict(self.headers), text))
                status = outer.answers.pop(0) if outer.answers else 204
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", outer.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def told(self) -> list[str]:
        return [json.loads(text)["event"] for _, text in self.got]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


class WebhookBench(Bench):
    """Under a policy that names the receiver, with a worker and a clock."""

    def __init__(self, url: str, folder: Path, receiver: Receiver) -> None:
        (folder / "policy.yaml").write_text(POLICY.replace("URL", receiver.url))
        super().__init__(url, folder)
        self.receiver = receiver
        self.ahead = 0
        self.worker = self.new_worker()

    def new_worker(self) -> worker.Worker:
        policies = self.store.governance.policy
        return worker.Worker(self.store._transactions, policies, self.now)

    def now(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead

    def rows(self) -> list[dict[str, Any]]:
        done = CliRunner().invoke(
            cli, ["approvals", "events", "list", "--json", "--registry-store-uri", self.url]
        )
        assert done.exit_code == 0, done.output
        found: list[dict[str, Any]] = json.loads(done.output)
        return found


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def served(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_database: Callable[[str, Path], str],
) -> Iterator[WebhookBench]:
    """A store for all tests of a database: MLflow's own tables take seconds to make."""
    folder = tmp_path_factory.mktemp("events")
    url = mlflow_database(request.param, folder)
    receiver = Receiver()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_PACK_APPROVALS_POLICY", str(folder / "policy.yaml"))
        bench = WebhookBench(url, folder, receiver)
    yield bench
    bench.store._dispose_engine()
    receiver.close()


@pytest.fixture
def bench(served: WebhookBench, monkeypatch: pytest.MonkeyPatch) -> WebhookBench:
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    with served.store.engine.begin() as connection:
        for table in ("mpp_outbox", "mpp_lease", "registered_model_aliases", "mpp_grant"):
            connection.execute(sa.text(f"DELETE FROM {table}"))
    served.receiver.got.clear()
    served.ahead, served.worker = 0, served.new_worker()
    return served


def test_each_event_arrives_signed_and_in_order(bench: WebhookBench) -> None:
    receiver = bench.receiver
    one, two = bench.version("gov-a"), bench.version("gov-a")
    with pytest.raises(MlflowException, match="APPROVAL_REQUIRED"):
        bench.set_alias(one)
    bench.say("bob", "approve", one)
    bench.set_alias(one)
    bench.say("erin", "request", two)
    bench.say("bob", "reject", two)
    bench.say("erin", "request", two)
    bench.say("erin", "cancel", two)
    assert bench.worker.step()
    assert receiver.told() == [
        "request.created",
        "request.approved",
        "request.applied",
        "request.created",
        "request.rejected",
        "request.created",
        "request.cancelled",
    ]
    for headers, text in receiver.got:
        signed = _generate_hmac_signature(
            "s3cret", headers["X-MLflow-Delivery-Id"], headers["X-MLflow-Timestamp"], text
        )
        assert headers["X-MLflow-Signature"] == signed
    told = json.loads(receiver.got[2][1])
    assert told["data"]["after"]["approvers"] == ["bob"]
    assert (told["data"]["name"], told["data"]["version"]) == ("gov-a", 1)
    assert told["timestamp"].endswith("Z")
    assert bench.worker.step()
    assert len(receiver.got) == 7  # nothing twice
    assert {row["state"] for row in bench.rows()} == {"delivered"}

    # Changed in the database: reported once, by the process that runs the worker.
    with bench.store.engine.begin() as connection:
        connection.execute(sa.text("UPDATE registered_model_aliases SET version = 2"))
    bench.ahead += worker.DRIFT_MS
    assert bench.worker.step()
    bench.ahead += worker.DRIFT_MS
    assert bench.worker.step()
    assert receiver.told()[7:] == ["drift"]
    assert json.loads(receiver.got[7][1])["data"]["after"]["kind"] == "unapproved"


def test_a_break_glass_is_reported(bench: WebhookBench) -> None:
    bench.say("zoe", "break_glass", bench.version("gov-emergency"), name="gov-emergency")
    bench.worker.step()
    told = bench.receiver.told()
    assert told.index("break_glass") < told.index("request.applied")


def test_a_failed_delivery_is_repeated_later_and_later(bench: WebhookBench) -> None:
    receiver = bench.receiver
    bench.say("erin", "request", bench.version("gov-b"), name="gov-b")
    receiver.answers = [500, 302, 404]
    receiver.location = receiver.url
    for attempt in range(1, 4):
        assert bench.worker.step()
        assert len(receiver.got) == attempt  # a redirect is not followed
        (row,) = bench.rows()
        assert (row["state"], row["attempts"]) == ("pending", attempt)
        assert row["last_error"].startswith("answered ")
        assert bench.worker.step()
        assert len(receiver.got) == attempt  # not before its time
        bench.ahead += payload.wait_ms(attempt, 1.0)
    assert bench.worker.step()
    (row,) = bench.rows()
    assert (row["state"], row["attempts"], row["last_error"]) == ("delivered", 4, None)
    assert len({headers["X-MLflow-Delivery-Id"] for headers, _ in receiver.got}) == 1


def test_given_up_events_are_revived_by_hand(
    bench: WebhookBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload, "MAX_ATTEMPTS", 2)
    bench.say("erin", "request", bench.version("gov-c"), name="gov-c")
    bench.receiver.answers = [500, 500]
    for _ in range(3):
        bench.worker.step()
        bench.ahead += payload.wait_ms(9, 1.0)
    (row,) = bench.rows()
    assert row["state"] == "failed"
    registry = ["--registry-store-uri", f"approval-{bench.url}"]
    done = CliRunner().invoke(cli, ["approvals", "events", "retry", row["delivery"], *registry])
    assert done.output.startswith("1 will be attempted")
    bench.worker.step()
    assert bench.rows()[0]["state"] == "delivered"
    assert CliRunner().invoke(cli, ["approvals", "events", "retry", *registry]).exit_code == 2
    done = CliRunner().invoke(cli, ["approvals", "events", "retry", "--all", *registry])
    assert done.output.startswith("0 will")


def test_deliveries_made_long_ago_are_forgotten(bench: WebhookBench) -> None:
    version = bench.version("gov-old")
    bench.say("erin", "request", version, name="gov-old")
    assert bench.worker.step()
    bench.ahead += outbox.KEPT_MS - 60_000
    bench.say("erin", "cancel", version, name="gov-old")
    assert bench.worker.step()
    assert [row["event"] for row in bench.rows()] == ["request.created", "request.cancelled"]
    bench.ahead += 120_000
    bench.say("erin", "request", version, name="gov-old")
    assert bench.worker.step()
    assert [row["event"] for row in bench.rows()] == ["request.cancelled", "request.created"]


def test_one_worker_at_a_time_until_it_dies(bench: WebhookBench) -> None:
    receiver = bench.receiver
    bench.say("erin", "request", bench.version("gov-d"), name="gov-d")
    others = [bench.new_worker() for _ in range(3)]
    assert bench.worker.step()
    assert [other.step() for other in others] == [False, False, False]
    bench.say("erin", "cancel", 1, name="gov-d")
    bench.ahead += worker.LEASE_MS + 1  # the first is dead, or asleep for too long
    with contextlib.ExitStack() as stack:
        worked = []
        threads = [threading.Thread(target=lambda o=o: worked.append(o.step())) for o in others]
        stack.callback(lambda: [thread.join() for thread in threads])
        for thread in threads:
            thread.start()
    assert worked.count(True) == 1
    assert not bench.worker.step()
    assert receiver.told() == ["request.created", "request.cancelled"]


def test_what_is_rolled_back_is_not_told(bench: WebhookBench) -> None:
    def work(session: Any) -> None:
        ledger = bench.store.enforcer.ledger(session)
        ledger.record("APPLIED", workspace="default", name="gov-e", version=1, target="alias:prod")
        raise MlflowException("no")

    with pytest.raises(MlflowException):
        bench.store._transactions.write(work)
    with pytest.raises(MlflowException):
        bench.set_alias(1, name="gov-nowhere")
    bench.worker.step()
    assert bench.receiver.got == []


def _webhook(**values: Any) -> Webhook:
    return Webhook(**{"url": "https://example.com", "secret": {"env": "X"}, **values})


def test_only_safe_urls_are_accepted() -> None:
    def problem(**values: Any) -> str:
        text = POLICY.replace('{url: "URL", secret: {env: HOOK_SECRET}}', json.dumps(values))
        with pytest.raises(PolicyInvalidError) as caught:
            parse_policy(text, "policy.yaml")
        return str(caught.value.message)

    secret = {"env": "X"}
    assert "plain http" in problem(url="http://example.com/", secret=secret)
    assert "plain http" in problem(url="http://127.0.0.1.example.com/", secret=secret)
    assert "not of the form https:" in problem(url="file:///etc/passwd", secret=secret)
    assert "password in it" in problem(url="https://a:b@example.com/", secret=secret)
    assert "either env" in problem(url="https://example.com/", secret={})
    assert "events.webhooks.0.secret" in problem(url="https://example.com/")
    assert "unknown key" in problem(url="https://example.com/", secret=secret, retries=3)
    for url in ("http://localhost:1/", "http://[::1]:1/", "https://example.com/"):
        parse_policy(POLICY.replace("URL", url), "policy.yaml")
    assert _webhook(url="http://10.0.0.1/", allow_private=True).allow_private


def test_a_name_that_leads_to_a_private_address_is_not_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS may say anything: what counts is the address of the connection itself."""
    import socket

    real = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        # urllib3 gives the name as text or bytes.
        name = host.decode() if isinstance(host, bytes) else host
        return real("127.0.0.1" if name == "hook.example.com" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("X", "secret")
    port = receiver.server.server_port
    delivery = _delivery()
    problem = sender.send(_webhook(url=f"https://hook.example.com:{port}/"), delivery, 1)
    assert problem is not None
    assert "not a public IP address" in problem
    assert receiver.got == []
    local = _webhook(url=f"http://hook.example.com:{port}/", allow_private=True)
    assert sender.send(local, delivery, 1) is None


def _delivery() -> Any:
    from mlflow_plugins_pack.approvals.webhooks.outbox import Delivery

    return Delivery("i", 1, "drift", "u", "{}", "pending", 0, 0, 0, None, None)


def test_secrets_come_from_the_environment_or_a_file(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = _webhook(url=receiver.url, secret={"file": str(tmp_path / "secret")})
    assert "the secret cannot be read" in str(sender.send(hook, _delivery(), 1))
    (tmp_path / "secret").write_text("from a file\n")
    assert sender.send(hook, _delivery(), 1000) is None
    headers, text = receiver.got[0]
    signed = payload.signature("from a file", "i", "1", text)
    assert headers["X-MLflow-Signature"] == signed
    monkeypatch.delenv("X", raising=False)
    assert "the variable X is empty" in str(sender.send(_webhook(url=receiver.url), _delivery(), 1))


def test_waits_double_up_to_an_hour() -> None:
    assert [payload.wait_ms(n, 1.0) for n in (1, 2, 3, 9, 10, 500)] == [
        10_000,
        20_000,
        40_000,
        2_560_000,
        3_600_000,
        3_600_000,
    ]
    assert payload.wait_ms(1, 0.0) == 5_000


def test_a_killed_server_loses_no_event_and_stock_webhooks_stay_right(
    tmp_path: Path, receiver: Receiver
) -> None:
    """The receiver is away, every process of the server dies; the next server delivers."""
    port = receiver.server.server_port
    receiver.close()
    stock = Receiver()
    (tmp_path / "policy.yaml").write_text(POLICY.replace("URL", receiver.url))
    settings = {
        "registry": f"approval-sqlite:///{tmp_path / 'mlflow.db'}",
        "app_name": "basic-auth",
        "workers": 2,
        "MLFLOW_PACK_APPROVALS_POLICY": str(tmp_path / "policy.yaml"),
        "HOOK_SECRET": "s3cret",
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    }
    with servers.mlflow_server(tmp_path, **settings) as server:  # type: ignore[arg-type]
        for name in ("erin", "bob"):
            servers.create_user(server, name, servers.PASSWORD)
        servers.make_sign_in_cheap(tmp_path)
        client = MlflowClient(server.url, server.url)
        with servers.credentials(*servers.ADMIN):
            client.create_webhook(
                "stock", stock.url, [WebhookEvent("model_version_alias", "created")]
            )
            run = client.create_run("0")
            client.log_text(run.info.run_id, "weights", "model/weights.txt")
            client.create_registered_model("gov-a")
            client.create_model_version("gov-a", f"{run.info.artifact_uri}/model", run.info.run_id)
        with (
            servers.credentials("erin", servers.PASSWORD),
            pytest.raises(MlflowException, match="APPROVAL_REQUIRED"),
        ):
            client.set_registered_model_alias("gov-a", "prod", "1")
        with servers.credentials("bob", servers.PASSWORD):
            client.set_model_version_tag("gov-a", "1", "approvals.approve", "prod: fine")
        with servers.credentials("erin", servers.PASSWORD):
            client.set_registered_model_alias("gov-a", "prod", "1")
        servers.wait_until(lambda: bool(stock.got), "the stock webhook's event")
        os.killpg(server.process.pid, signal.SIGKILL)
    stock.close()
    # Not for the refusal: only for what happened.
    assert [json.loads(text)["data"]["alias"] for _, text in stock.got] == ["prod"]
    receiver = Receiver(port)
    registry = ["--registry-store-uri", settings["registry"]]
    assert CliRunner().invoke(cli, ["approvals", "events", "retry", "--all", *registry]).output
    with servers.mlflow_server(tmp_path, **settings) as server:  # type: ignore[arg-type]
        with servers.credentials("erin", servers.PASSWORD):
            MlflowClient(server.url, server.url).search_registered_models()
        servers.wait_until(lambda: len(receiver.got) >= 3, "the delivery of three events")
    receiver.close()
    assert set(receiver.told()) == {"request.created", "request.approved", "request.applied"}
