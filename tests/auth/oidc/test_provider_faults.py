"""A provider that is down, slow or odd, and clocks that are wrong."""

from __future__ import annotations

import time

import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from mlflow_plugins_pack.auth.manager import Manager
from mlflow_plugins_pack.auth.profiles.models import OidcProfile
from mlflow_plugins_pack.auth.sources import open_oidc
from mlflow_plugins_pack.auth.sources.oidc import OidcSource
from tests.auth.support.parts import (
    API,
    Profiles,
    Recorder,
)
from tests.auth.support.sign_ins import machine
from tests.support.oidc import SECRET as CLIENT_SECRET
from tests.support.oidc import OidcProvider


@pytest.fixture(autouse=True)
def _client_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", CLIENT_SECRET)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("down", "cannot be reached"),
        ("slow", "did not answer in time"),
        ("html", "a web page"),
        ("busy", "busy or out of order"),
        ({"expires_in": -5}, "expires_in is negative"),
        ({"expires_in": "soon"}, "expires_in is not a number"),
        ({"access_token": ""}, "without an access_token"),
        ({"access_token": "a\r\nX-Evil: 1"}, "line break"),
    ],
    ids=str,
)
def test_a_provider_in_trouble_is_named_and_nothing_is_sent(
    provider: OidcProvider,
    profiles: Profiles,
    named: Recorder,
    fault: str | dict[str, object],
    said: str,
) -> None:
    profiles(machine(provider.issuer, named.url, "timeout_seconds = 1\n"))
    provider.fault(fault)
    with pytest.raises(MlflowException, match=said) as caught:
        http_request(MlflowHostCreds(named.url), API, "GET")
    assert "'ci'" in str(caught.value)
    assert named.seen == []


@pytest.mark.parametrize(
    ("given", "life"),
    [(None, None), (0, 0), (10**12, 366 * 86400), ("3600", 3600), (1.5, 1.5)],
)
def test_odd_lives(
    provider: OidcProvider, profiles: Profiles, given: object, life: float | None
) -> None:
    profiles(machine(provider.issuer, extra='cache = "memory"\n'))
    provider.fault({"expires_in": given})
    found = Manager().credential("ci").lifetime_seconds
    assert found == (None if life is None else pytest.approx(life, abs=1))


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_wrong_by_an_hour_costs_a_fetch_and_no_more(
    provider: OidcProvider, profiles: Profiles, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Another process, whose clock is wrong, or after the clock was set."""
    monkeypatch.setenv("CLIENT_SECRET", "planted-client-secret")
    profiles(machine(provider.issuer))
    wanted = Manager().profile("ci")
    assert isinstance(wanted, OidcProfile)
    before = len(provider.grants())
    right = open_oidc("ci", wanted)
    wrong = OidcSource("ci", right.provider, lambda: time.time() + hours * 3600)
    first, second = right.fetch(), wrong.fetch()
    assert len(provider.grants()) == before + 2
    assert first.headers != second.headers
    assert second.lifetime_seconds == pytest.approx(3600, abs=5)
