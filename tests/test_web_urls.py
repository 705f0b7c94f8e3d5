"""One notion of local and of secure addresses, wherever a secret or a key depends on it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from pydantic import TypeAdapter

from mlflow_plugins_pack.approvals.policy.webhooks import Webhook
from mlflow_plugins_pack.auth.profiles.fields import SecureUrl
from mlflow_plugins_pack.auth.profiles.origins import parse_scope
from mlflow_plugins_pack.identity import resolvers
from mlflow_plugins_pack.identity.errors import KeysUnavailableError
from mlflow_plugins_pack.identity.settings import JwtSettings
from mlflow_plugins_pack.web_urls import parse_url, shown
from tests.auth.support.parts import JSON, recording


def host(url: str) -> None:
    parse_scope(url)


def provider(url: str) -> None:
    TypeAdapter(SecureUrl).validate_python(url)


def issuer(url: str) -> None:
    JwtSettings(issuer=url, audience="mlflow")


def key_set(url: str) -> None:
    JwtSettings(issuer="https://idp.example", audience="mlflow", jwks_uri=url)


def key_set_of_discovery(url: str) -> None:
    with recording() as server:
        document = {"issuer": server.url, "jwks_uri": url}
        server.rule = lambda seen: (200, JSON, json.dumps(document).encode())
        try:
            resolvers._jwks_uri(server.url)
        except KeysUnavailableError as exc:
            raise ValueError(str(exc)) from None


def webhook(url: str) -> None:
    Webhook.model_validate({"url": url, "secret": {"env": "SECRET"}})


CHECKS = [host, provider, issuer, key_set, key_set_of_discovery, webhook]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1.evil.test/x",
        "http://localhost.evil.test/x",
        "http://127.0.0.1@evil.test/x",
        "http://localhost:1@evil.test/x",
        "http://[::1].evil.test/x",
        "http://127.0.0.1\\@evil.test/x",
        "http://127.0.0.1:80x/",
        "http://localhost./x",
        "http://127.1/x",
        "http://2130706433/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://0.0.0.0/x",
        "http:127.0.0.1/x",
        "http://evil.test/127.0.0.1",
        "ftp://127.0.0.1/x",
        "https:/x",
        "https://user:pw@idp.example/x",
    ],
)
def test_look_alikes_are_neither_local_nor_secure(check: Callable[[str], None], url: str) -> None:
    with pytest.raises(ValueError):
        check(url)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "url",
    [
        "https://idp.example/x",
        "https://10.0.0.1:8443/x",
        "http://127.0.0.1:8080/x",
        "http://127.8.8.8/x",
        "http://localhost/x",
        "HTTP://LOCALHOST:80/x",
        "http://[::1]:5000/x",
    ],
)
def test_local_and_secure_addresses_are_accepted(check: Callable[[str], None], url: str) -> None:
    check(url)


@pytest.mark.parametrize(
    ("url", "local", "secure"),
    [
        ("http://localhost/", True, True),
        ("https://idp.example/", False, True),
        ("http://idp.example/", False, False),
    ],
)
def test_local_and_secure(url: str, local: bool, secure: bool) -> None:
    found = parse_url(url)
    assert found is not None
    assert (found.is_local, found.is_secure) == (local, secure)


@pytest.mark.parametrize(
    "url",
    [
        "https://alice:pw@host/x",
        "https://alice:pw?w@host/x",
        "https://alice:pw#w@host/x",
        "https://alice:pw/w@host/x",
        "https://alice:pw\\w@host/x",
        "https://alice:p@pw@host/x",
        "https://host/x?token=pw",
        "https://host/x?token=a@pw",
        "https://host/x#pw",
        "https://b\u00fccher.example/x?token=pw@x",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    assert "pw" not in shown(url)
    assert shown(url).startswith("https://")


def test_addresses_are_shown() -> None:
    assert shown("https://host:1/a@b?q") == "https://host:1/a@b"
    assert shown("https://b\u00fccher.example/x?q") == "https://b\u00fccher.example/x"
    assert shown("https://u:p@host./x") == "https://host./x"
    assert shown(None) == ""
