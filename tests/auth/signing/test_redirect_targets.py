"""A redirect's target is the one that `requests` follows, however its Location is spelt."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from tests.auth.support import redirect_fuzz
from tests.auth.support.parts import JSON, SECRET, Profiles, Recorder, redirect_to
from tests.auth.support.scopes import covered


@pytest.mark.parametrize("slashes", ["////", "http:////", "http:\t//", "\x0b//", "http://///"])
@pytest.mark.parametrize("status", [302, 307])
def test_an_odd_spelling_of_another_host_gets_no_secret(
    signed_in: Callable[..., requests.Response],
    named: Recorder,
    evil: Recorder,
    slashes: str,
    status: int,
) -> None:
    address = evil.url.removeprefix("http://")
    named.rule = lambda seen: (
        redirect_to(f"{slashes}{address}/x", status)(seen)
        if seen.path.endswith("a.bin")
        else (200, JSON, b"{}")
    )
    with contextlib.suppress(MlflowException):  # a spelling that `requests` cannot follow
        signed_in("PUT", data=io.BytesIO(b"private bytes"))
    assert len(named.seen) >= 1
    assert not any(seen.has(SECRET) or seen.body for seen in evil.seen)


@pytest.mark.parametrize("location", ["http:team-b/x", "http:/team-b/x", "HTTP:team-b/x"])
def test_a_scheme_without_a_host_does_not_leave_the_prefix(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    profiles(f'[profile.prod]\nhosts = ["{named.url}/team-a"]\nsource = "env"\nenv = "TOKEN"\n')
    named.rule = lambda seen: (
        (200, JSON, b"{}") if "team-b" in seen.path else redirect_to(location, 302)(seen)
    )
    http_request(MlflowHostCreds(f"{named.url}/team-a"), "/x", "GET")
    assert [seen.path for seen in named.seen] == ["/team-a/x", "/team-b/x"]
    assert named.seen[0].has(SECRET)
    assert not named.seen[1].has(SECRET)


@pytest.mark.parametrize("location", ["http://[/", "http://\u2100/", "http://a:b/"])
def test_a_location_that_requests_cannot_read_is_an_error_that_says_so(
    signed_in: Callable[..., requests.Response], named: Recorder, location: str
) -> None:
    named.rule = lambda seen: (302, {"Location": location.encode().decode("latin-1")}, b"")
    with pytest.raises(MlflowException, match="redirected"):
        signed_in("GET", "/api/2.0/mlflow/runs/get")
    assert len(named.seen) == 1


def test_an_empty_location_is_not_followed(
    signed_in: Callable[..., requests.Response], named: Recorder
) -> None:
    named.rule = lambda seen: (302, {"Location": ""}, b"")
    assert signed_in().status_code == 302
    assert len(named.seen) == 1


@pytest.mark.parametrize("path", ["/..;/mlflow", "/x/..;a/mlflow", "/mlflow/..;/mlflow"])
def test_a_segment_that_climbs_at_some_servers_only_is_not_under_a_prefix(path: str) -> None:
    assert not covered("https://gw.example/mlflow", f"https://gw.example{path}")


def test_random_locations_and_urls_send_no_credential_elsewhere(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short run; the nightly one tries 1,000,000 (see `redirect_fuzz`)."""
    monkeypatch.setenv("FUZZ_TOKEN", redirect_fuzz.TOKEN)
    profiles(redirect_fuzz.PROFILE)
    count = 4000
    signed, followed, refused = redirect_fuzz.run(count, seed=20)
    assert signed > count / 2
    assert followed > count / 2
    assert refused > count / 20
