"""A server that never comes to an end does not hold its caller, nor a thread, nor a lock."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

import pytest
import requests

from mlflow_plugins_pack import http_deadline
from mlflow_plugins_pack.approvals.policy.webhooks import Secret, Webhook
from mlflow_plugins_pack.approvals.webhooks import sender
from mlflow_plugins_pack.approvals.webhooks.outbox import Delivery
from mlflow_plugins_pack.auth.credentials.contracts import SourceDownError
from mlflow_plugins_pack.auth.oidc.transport import Transport
from mlflow_plugins_pack.auth.profiles.fields import Tls
from mlflow_plugins_pack.auth.profiles.models import EnvProfile
from mlflow_plugins_pack.auth.tools import doctor, whoami
from mlflow_plugins_pack.identity.errors import KeysUnavailableError
from mlflow_plugins_pack.identity.keys import fetch_json
from mlflow_plugins_pack.lineage.delivery import openlineage
from mlflow_plugins_pack.lineage.document.graph import Entry
from mlflow_plugins_pack.lineage.fingerprints.hashing import Fingerprinter
from mlflow_plugins_pack.lineage.query import verify
from tests.auth.support.certificates import Authority
from tests.auth.support.parts import conflict_netrc, recording
from tests.support.dripping import FAULTS, dripping
from tests.support.servers import wait_until

LIMIT_SECONDS = 1.0


def token_endpoint(url: str) -> None:
    transport = Transport(LIMIT_SECONDS, Tls(), None)
    with pytest.raises(SourceDownError, match="did not answer in time"):
        transport.post(f"{url}/token", {"grant_type": "client_credentials"})


def key_set(url: str) -> None:
    with pytest.raises(KeysUnavailableError, match="does not answer"):
        fetch_json(f"{url}/jwks", LIMIT_SECONDS)


def webhook(url: str) -> None:
    delivery = Delivery("1", 1, "drift", url, "{}", "pending", 0, 0, 0, None, None)
    told = sender.send(Webhook(url=f"{url}/hook", secret=Secret(env="HOOK_SECRET")), delivery, 0)
    assert told is not None
    assert told.startswith("TimeoutError")


def has_left_no_thread() -> bool:
    return not [t for t in threading.enumerate() if t.name == "mlflow-pack-http"]


def host_check(url: str) -> None:
    profile = EnvProfile(hosts=[url], source="env", env="TOKEN")
    (finding,) = doctor._check_host("profile p", profile.scopes[0], profile)
    assert "no whole answer within 1 s" in finding.message


def open_lineage(url: str) -> None:
    with pytest.raises(TimeoutError):
        openlineage._post(url, b"{}")


def recorded_file(url: str) -> None:
    found = verify.check(Entry(f"{url}/a.csv", version="1"), Fingerprinter())
    assert (found.result, "no whole answer" in found.reason) == (verify.UNKNOWN, True)


ASKED = (token_endpoint, key_set, webhook, host_check, open_lineage, recorded_file)
WITHOUT_BODY = (webhook, host_check, open_lineage, recorded_file)


@pytest.mark.parametrize(
    ("ask", "fault"),
    [
        (ask, fault)
        for ask in ASKED
        for fault in FAULTS
        if fault != "body" or ask not in WITHOUT_BODY
    ],
)
def test_an_answer_without_end_is_given_up_in_time(
    ask: Callable[[str], None], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "secret")
    monkeypatch.setattr(sender, "_TIMEOUT_SECONDS", LIMIT_SECONDS)
    monkeypatch.setattr(doctor, "_CONNECT_SECONDS", LIMIT_SECONDS)
    monkeypatch.setattr(openlineage, "_SECONDS", LIMIT_SECONDS)
    monkeypatch.setattr(verify, "_HTTP_SECONDS", LIMIT_SECONDS)
    with dripping(fault) as url:
        start = time.monotonic()
        ask(url)
        assert time.monotonic() - start < LIMIT_SECONDS + 2
        wait_until(has_left_no_thread, "the end of the thread")


@pytest.mark.parametrize("ask", ASKED)
def test_no_password_of_netrc_is_sent(
    ask: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where a redirect leads that is followed."""
    monkeypatch.setenv("HOOK_SECRET", "secret")
    conflict_netrc(monkeypatch, tmp_path, "")
    with recording() as server:
        server.rule = lambda seen: (307, {"Location": f"{server.url}/elsewhere"}, b"")
        with contextlib.suppress(Exception, pytest.fail.Exception):
            ask(server.url)  # which expects a server that does not answer
    assert server.seen
    assert [seen.path for seen in server.seen if "Authorization" in seen.headers] == []


@pytest.mark.parametrize("fault", FAULTS)
def test_whoami_gives_up_a_server_in_time(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes MLflow's own way, whose connections no one can end: only the wait has a limit."""
    monkeypatch.setattr(whoami, "_SECONDS", LIMIT_SECONDS)
    with dripping(fault) as url:
        start = time.monotonic()
        said = whoami.ask_server(url)
        assert time.monotonic() - start < LIMIT_SECONDS + 2
    assert (said.accepted, "no whole answer within 1 s" in said.said) == (False, True), said
    wait_until(has_left_no_thread, "the end of the thread")


def test_a_call_has_the_context_of_its_caller() -> None:
    context = ContextVar("context", default="none")
    context.set("of the caller")
    assert http_deadline.within(5, context.get) == "of the caller"


def test_a_call_is_made_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the end of an interpreter, from Python 3.12 on."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(threading.main_thread(), "is_alive", lambda: False)
    assert http_deadline.within(5, lambda: 7) == 7
    assert http_deadline.uninterrupted(lambda: 7) == 7


def test_a_call_is_not_made_where_there_are_too_many_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As no thread is left that would end it."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(TimeoutError, match="no thread"):
        http_deadline.within(5, lambda: 7)
    assert http_deadline.uninterrupted(lambda: 7) == 7  # which has a limit of its own
    with pytest.raises(SourceDownError, match="did not answer in time"):
        Transport(5, Tls(), None).get("http://127.0.0.1:1/")


@pytest.mark.parametrize("fault", FAULTS)
def test_the_same_over_tls(fault: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with dripping(fault, authority.issue("server")) as url:
        transport = Transport(LIMIT_SECONDS, Tls(ca=str(authority.ca)), None)
        with pytest.raises(SourceDownError, match="did not answer in time"):
            transport.get(url)
        wait_until(has_left_no_thread, "the end of the thread")


def test_a_thread_that_connects_too_late_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a slow name lookup."""
    real = http_deadline.HTTPConnection.connect
    reached = threading.Event()

    def slow(self: object) -> None:
        time.sleep(0.5)
        real(self)  # type: ignore[arg-type]
        reached.set()

    monkeypatch.setattr(http_deadline.HTTPConnection, "connect", slow)
    with dripping("interim responses") as url:
        with pytest.raises(TimeoutError):
            http_deadline.exchange(0.1, lambda session: session.get(url, timeout=60))
        assert reached.wait(5)
        wait_until(has_left_no_thread, "the end of the thread")


def test_errors_and_results_are_those_of_the_call() -> None:
    with pytest.raises(requests.ConnectionError):
        http_deadline.exchange(5, lambda session: session.get("http://127.0.0.1:9/", timeout=5))
    assert http_deadline.exchange(5, lambda session: 7) == 7
