"""A cookie goes with the redirects of its own request, and with no other request."""

from __future__ import annotations

import pytest
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from tests.auth.support.parts import (
    ARTIFACT,
    JSON,
    Answer,
    Profiles,
    Recorder,
    Seen,
    env_profile,
    get,
)

COOKIE = "session=of-alice"


@pytest.fixture(autouse=True)
def _no_session_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow keeps its sessions, with their cookies, as long as the process runs."""
    from mlflow.utils import request_utils

    request_utils._cached_get_request_session.cache_clear()
    monkeypatch.setenv("A", "token-of-alice")
    monkeypatch.setenv("B", "token-of-bob")


def two_teams(url: str) -> str:
    return (
        f'[profile.a]\nhosts = ["{url}/a"]\nsource = "env"\nenv = "A"\n'
        f'[profile.b]\nhosts = ["{url}/b"]\nsource = "env"\nenv = "B"\n'
    )


def cookies(recorder: Recorder) -> list[str | None]:
    return [seen.headers.get("Cookie") for seen in recorder.seen]


@pytest.mark.parametrize("status", [200, 401, 404, 500])
def test_a_cookie_of_one_profile_is_not_sent_for_another(
    named: Recorder, evil: Recorder, profiles: Profiles, status: int
) -> None:
    """Nor for none: cookies know no ports."""
    profiles(two_teams(named.url))
    named.rule = lambda seen: (status, {**JSON, "Set-Cookie": f"{COOKIE}; Path=/"}, b"{}")
    for url in (f"{named.url}/a", f"{named.url}/b", f"{named.url}/a", evil.url):
        get(url, raise_on_status=False)
    assert cookies(named) == [None, None, None]
    assert cookies(evil) == [None]


def test_a_cookie_of_an_unsigned_request_is_not_sent_with_a_signed_one(
    named: Recorder, evil: Recorder, profiles: Profiles
) -> None:
    profiles(two_teams(named.url))
    evil.rule = lambda seen: (200, {**JSON, "Set-Cookie": "session=fixed; Path=/"}, b"{}")
    get(evil.url)
    get(f"{named.url}/a")
    assert cookies(named) == [None]
    get(evil.url)
    assert cookies(evil) == [None, "session=fixed"]  # as stock sends it


def test_a_cookie_serves_the_redirects_of_its_request(named: Recorder, profiles: Profiles) -> None:
    def rule(seen: Seen) -> Answer:
        if "Cookie" in seen.headers:
            return 200, JSON, b"{}"
        return 302, {"Location": f"{seen.path}?again", "Set-Cookie": f"{COOKIE}; Path=/"}, b""

    profiles(two_teams(named.url))
    named.rule = rule
    assert get(f"{named.url}/a").status_code == 200
    assert cookies(named) == [None, COOKIE]
    get(f"{named.url}/b")
    assert cookies(named)[2:] == [None, COOKIE]


def test_a_cookie_of_the_session_is_not_added_to_a_redirect(
    named: Recorder, evil: Recorder, profiles: Profiles
) -> None:
    profiles(two_teams(named.url))
    evil.rule = lambda seen: (200, {**JSON, "Set-Cookie": "session=fixed; Path=/"}, b"{}")
    get(evil.url)
    named.rule = lambda seen: (
        (200, JSON, b"{}") if "again" in seen.path else (302, {"Location": "/a/again"}, b"")
    )
    get(f"{named.url}/a")
    assert cookies(named) == [None, None]


def test_a_cookie_does_not_follow_a_redirect_elsewhere(
    named: Recorder, evil: Recorder, profiles: Profiles
) -> None:
    profiles(two_teams(named.url))
    moved = {"Location": f"{evil.url}/x", "Set-Cookie": f"{COOKIE}; Path=/"}
    named.rule = lambda seen: (302, moved, b"")
    get(f"{named.url}/a", ARTIFACT)
    assert cookies(evil) == [None]


def test_a_cookie_of_a_refused_try_is_not_kept(
    named: Recorder, profiles: Profiles, tmp_path: object
) -> None:
    profiles(
        f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "command"\n'
        'command = ["sh", "-c", "echo token-$$"]\n'
    )
    first: list[Seen] = []

    def rule(seen: Seen) -> Answer:
        first.append(seen)
        return 401 if len(first) == 1 else 200, {**JSON, "Set-Cookie": COOKIE}, b"{}"

    named.rule = rule
    get(named.url)
    get(named.url)
    assert cookies(named) == [None, None, None]


def test_a_cookie_that_the_caller_sets_is_sent(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking.request_header import registry

    class Other:
        def in_context(self) -> bool:
            return True

        def request_headers(self) -> dict[str, str]:
            return {"Cookie": "gateway=1"}

    registered = registry._request_header_provider_registry
    monkeypatch.setattr(registered, "_registry", [*registered._registry, Other()])
    monkeypatch.setenv("TOKEN", "t")
    profiles(env_profile(named.url))
    http_request(MlflowHostCreds(named.url), ARTIFACT, "GET")
    assert cookies(named) == ["gateway=1"]
