"""Odd numbers, secrets and pauses in what sources answer."""

from __future__ import annotations

import base64
import gzip
import json
import sys
import time
import traceback
import tracemalloc
import zlib
from email.utils import formatdate

import pytest

from mlflow_plugins_pack.auth.credentials import lifetime
from mlflow_plugins_pack.auth.credentials.claims import life_of
from mlflow_plugins_pack.auth.credentials.contracts import SourceDownError, SourceError
from mlflow_plugins_pack.auth.credentials.lifetime import State, parse_lifetime
from mlflow_plugins_pack.auth.manager import Manager
from mlflow_plugins_pack.auth.oidc.transport import Transport
from mlflow_plugins_pack.auth.profiles.fields import Tls
from mlflow_plugins_pack.auth.sources.command import CommandReader
from mlflow_plugins_pack.auth.sources.sigv4 import AwsSigv4Source
from mlflow_plugins_pack.auth.token_store.stored_token import parse
from mlflow_plugins_pack.auth.token_store.stores import open_keyring
from mlflow_plugins_pack.errors import CredentialError
from mlflow_plugins_pack.identity.errors import KeysUnavailableError
from mlflow_plugins_pack.identity.keys import fetch_json
from tests.auth.support.parts import JSON, Profiles, Recorder

DIGITS = "9" * 400


@pytest.mark.parametrize("number", [DIGITS, f"-{DIGITS}", "1e400", "-1", "NaN", "1e300"])
@pytest.mark.parametrize("field", ["expires_at", "issued_at"])
def test_a_stored_token_with_an_impossible_time_counts_as_damaged(field: str, number: str) -> None:
    values = {"version": 1, "token": "t", "issued_at": 1, "expires_at": 2, field: "NUMBER"}
    assert parse(json.dumps(values).replace('"NUMBER"', number).encode()) is None


@pytest.mark.parametrize("claim", ["exp", "iat"])
def test_a_claim_that_no_float_holds_is_no_time(claim: str) -> None:
    claims = json.dumps({"exp": time.time() + 60, "iat": time.time(), claim: "NUMBER"})
    body = base64.urlsafe_b64encode(claims.replace('"NUMBER"', DIGITS).encode()).decode()
    life = life_of(f"e30.{body}.x")
    assert life is None or life == pytest.approx(60, abs=5)


@pytest.mark.parametrize("value", [int(DIGITS), DIGITS])
def test_a_life_of_400_digits_is_a_year(value: object) -> None:
    assert parse_lifetime(value) == lifetime.LONGEST_LIFE_SECONDS


@pytest.mark.parametrize("text", ["hunter2", "pw: x", "token abc", "qz"])
def test_no_word_of_a_helper_is_shown(text: str) -> None:
    with pytest.raises(SourceError, match="exit code 3") as caught:
        CommandReader(["sh", "-c", f"echo '{text}' >&2; exit 3"], 10).read()
    assert text not in str(caught.value)
    assert "run it yourself" in str(caught.value)


@pytest.mark.parametrize("backend", ["null", "fail"])
def test_a_keyring_that_stores_nothing_is_not_one(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = pytest.importorskip("keyring")
    module = pytest.importorskip(f"keyring.backends.{backend}")
    before = keyring.get_keyring()
    keyring.set_keyring(module.Keyring())
    try:
        with pytest.raises(SourceError, match="stores nothing"):
            open_keyring()
    finally:
        keyring.set_keyring(before)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("DATE", 120), ("", 0), ("soon", 0)],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_read(named: Recorder, header: str, seconds: float, status: int) -> None:
    header = header.replace("DATE", formatdate(time.time() + 120, usegmt=True))
    named.rule = lambda seen: (status, {**JSON, "Retry-After": header}, b"{}")
    with pytest.raises(SourceDownError) as caught:
        Transport(5, Tls(), None).post(f"{named.url}/token", {})
    assert caught.value.retry_after_seconds == pytest.approx(seconds, abs=60 if seconds > 60 else 0)


def test_retry_after_is_kept_to_within_bounds() -> None:
    def rest(seconds: float) -> float:
        return lifetime.failed(State(), "busy", 0.0, None, retry_after_seconds=seconds).retry_at

    assert rest(0) == 0.5
    assert rest(30) == 30
    assert rest(1e6) == lifetime.LONGEST_REST_SECONDS


def test_a_busy_provider_is_not_asked_again_before_it_says(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {"issuer": named.url, "token_endpoint": f"{named.url}/token"}
    named.rule = lambda seen: (
        (429, {**JSON, "Retry-After": "60"}, b"{}")
        if seen.path == "/token"
        else (200, JSON, json.dumps(document).encode())
    )
    monkeypatch.setenv("SECRET", "s")
    profiles(
        f'[profile.p]\nhosts = ["https://h.example"]\nsource = "oidc"\nissuer = "{named.url}"\n'
        'client_id = "c"\nclient_secret = { env = "SECRET" }\n'
    )
    manager = Manager()
    for _ in range(3):
        with pytest.raises(CredentialError, match="busy"):
            manager.credential("p")
        monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + 10)
    assert [seen.path for seen in named.seen].count("/token") == 1


def test_a_blank_in_a_query_is_signed_as_servers_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    source = AwsSigv4Source("eu-west-1", "execute-api", None, 15)
    credential = source.fetch()

    def signed(url: str) -> tuple[str, str]:
        request = requests.Request("GET", url).prepare()
        headers = {name: value.reveal() for name, value in credential.headers_for(request)}
        return str(request.url), headers["Authorization"]

    monkeypatch.setattr("botocore.auth.get_current_datetime", _noon, raising=False)
    sent, plus = signed("https://h.example/x?filter=a+b&c=%2B")
    assert sent == "https://h.example/x?filter=a%20b&c=%2B"
    assert sys.modules["botocore"] is not None
    assert plus.split("Signature=")[0] == signed(sent)[1].split("Signature=")[0]


def _noon(*_: object, **__: object) -> object:
    from datetime import datetime, timezone

    return datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


BOMB = gzip.compress(bytes(64 << 20))


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", BOMB),
        ("gzip, gzip", gzip.compress(BOMB)),
        ("gzip", gzip.compress(BOMB)),
        ("deflate", zlib.compress(bytes(64 << 20))),
        ("gzip", b"not gzip"),
        ("gzip", gzip.compress(b"{}")[:-9]),
        ("br", b"{}"),
        ("x" * 1000, b"{}"),
        ("", b" " * (2 << 20)),
    ],
    ids=range(9),
)
def test_an_answer_does_not_unpack_to_more_than_its_limit(
    named: Recorder, encoding: str, body: bytes
) -> None:
    named.rule = lambda seen: (200, {**JSON, "Content-Encoding": encoding}, body)
    tracemalloc.start()
    try:
        with pytest.raises(SourceError):
            Transport(5, Tls(), None).get(named.url)
        with pytest.raises(KeysUnavailableError):
            fetch_json(named.url)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_an_answer_in_gzip_is_read(named: Recorder) -> None:
    packed = gzip.compress(b'{"a": 1}')
    named.rule = lambda seen: (200, {**JSON, "Content-Encoding": "gzip"}, packed)
    assert Transport(5, Tls(), None).get(named.url) == {"a": 1}
    assert fetch_json(named.url) == {"a": 1}
    assert {seen.headers["Accept-Encoding"] for seen in named.seen} == {"gzip"}


@pytest.mark.parametrize("lines", ["subject_token", "assertion", "client_secret"])
def test_half_a_character_in_a_secret_is_said_and_not_shown(
    named: Recorder, profiles: Profiles, lines: str
) -> None:
    document = {"issuer": named.url, "token_endpoint": f"{named.url}/token"}
    named.rule = lambda seen: (200, JSON, json.dumps(document).encode())
    program = """["printf", '{"access_token": "hunter2\\\\ud800"}']"""
    profiles(
        f'[profile.p]\nhosts = ["https://h.example"]\nsource = "oidc"\nissuer = "{named.url}"\n'
        f'client_id = "c"\n{lines} = {{ command = {program} }}\n'
    )
    with pytest.raises(CredentialError, match="half of a character") as caught:
        Manager().credential("p")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
