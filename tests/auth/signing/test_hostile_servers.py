"""What signing in does where a server is hostile or odd."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from tests.auth.support.parts import (
    API,
    ARTIFACT,
    JSON,
    SECRET,
    Answer,
    Profiles,
    Recorder,
    Seen,
    conflict_netrc,
    redirect_to,
)


def test_coming_back_from_elsewhere_is_not_signed_in_again(
    signed_in: Callable[..., requests.Response], named: Recorder, evil: Recorder
) -> None:
    """Else the other server would choose what is asked in the person's name."""
    evil.rule = redirect_to(f"{named.url}/api/2.0/mlflow/chosen-by-evil", 302)
    named.rule = lambda seen: (
        (401, JSON, b"{}") if "evil" in seen.path else (302, {"Location": f"{evil.url}/x"}, b"")
    )
    signed_in()
    assert [seen.path.rpartition("/")[2] for seen in named.seen] == ["a.bin", "chosen-by-evil"]
    assert not named.seen[1].has(SECRET)


def test_a_redirect_within_the_host_stays_signed_in(
    signed_in: Callable[..., requests.Response], named: Recorder
) -> None:
    named.rule = lambda seen: (
        (200, JSON, b"{}") if seen.path == "/next" else (307, {"Location": "/next"}, b"")
    )
    assert signed_in().status_code == 200
    assert named.seen[1].headers["Authorization"] == f"Bearer {SECRET}"


def test_a_redirect_after_a_refreshed_token_carries_neither_token(
    named: Recorder, evil: Recorder, profiles: Profiles, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("old-token-1")
    profiles(f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "file"\nfile = "{token}"\n')

    def rule(seen: Seen) -> Answer:
        if seen.headers.get("Authorization") == "Bearer old-token-1":
            token.write_text("new-token-22")
            return 401, JSON, b"{}"
        return 302, {"Location": f"{evil.url}/x"}, b""

    named.rule = rule
    http_request(MlflowHostCreds(named.url), ARTIFACT, "GET")
    assert len(evil.seen) == 1
    assert not evil.seen[0].has("old-token-1")
    assert not evil.seen[0].has("new-token-22")


@pytest.mark.parametrize("status", [403, 404, 500])
def test_other_refusals_are_not_retried(
    signed_in: Callable[..., requests.Response], named: Recorder, status: int
) -> None:
    named.rule = lambda seen: (status, JSON, b"{}")
    signed_in(raise_on_status=False)
    assert len(named.seen) == 1


def test_a_sign_in_page_is_recognised(
    signed_in: Callable[..., requests.Response], named: Recorder
) -> None:
    named.rule = lambda seen: (200, {"Content-Type": "text/html; charset=utf-8"}, b"<form>")
    with pytest.raises(MlflowException, match="sign-in page"):
        signed_in(path=API)
    assert signed_in(path=ARTIFACT).status_code == 200  # an HTML report is a fine artifact


def test_netrc_does_not_take_over_after_a_redirect(
    signed_in: Callable[..., requests.Response],
    named: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    conflict_netrc(monkeypatch, tmp_path, named.url)
    named.rule = redirect_to("/next", 307)
    with pytest.raises(MlflowException, match="netrc"):
        signed_in()
    assert len(named.seen) == 1


class OtherProvider:
    """Another plugin's sign-in: as a request_auth_provider and in SigV4's place."""

    def get_name(self) -> str:
        return "other"

    def get_auth(self) -> tuple[str, str]:
        return "other", "password"


@pytest.mark.parametrize("other", [{"aws_sigv4": True}, {"auth": "other"}])
def test_another_way_to_sign_in_to_a_named_host_is_refused(
    signed_in: object, named: Recorder, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    from mlflow.tracking.request_auth import registry

    # Its package is optional, and it is never called: a name to import is all that is needed.
    sigv4 = types.ModuleType("requests_auth_aws_sigv4")
    sigv4.AWSSigV4 = lambda service: ("other", "password")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "requests_auth_aws_sigv4", sigv4)
    registered = registry._request_auth_provider_registry
    monkeypatch.setattr(registered, "_registry", [*registered._registry, OtherProvider()])
    with pytest.raises(MlflowException, match="both sign in"):
        http_request(MlflowHostCreds(named.url, **other), API, "GET")
    assert named.seen == []


def test_a_proxy_does_not_get_to_read_a_loopback_credential(
    signed_in: Callable[..., requests.Response],
    named: Recorder,
    evil: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", evil.url)
    monkeypatch.setenv("http_proxy", evil.url)
    with pytest.raises(MlflowException, match="NO_PROXY"):
        signed_in()
    assert evil.seen == named.seen == []


@pytest.mark.parametrize("variable", ["Http_Proxy", "aLL_pROXY"])
def test_a_proxy_by_any_spelling_does_not_read_a_loopback_credential(
    signed_in: Callable[..., requests.Response],
    named: Recorder,
    evil: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    """`requests` takes the names of proxies in any spelling."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, evil.url)
    with pytest.raises(MlflowException, match="clear text"):
        signed_in()
    assert evil.seen == named.seen == []


def test_a_redirect_between_named_loopback_hosts_does_not_pass_a_proxy(
    named: Recorder, evil: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_PROXY has the first of the two only."""
    monkeypatch.setenv("TOKEN", SECRET)
    other = f"http://localhost:{named.port}"
    profiles(f'[profile.prod]\nhosts = ["{named.url}", "{other}"]\nsource = "env"\nenv = "TOKEN"\n')
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HTTP_PROXY", evil.url)
    named.rule = redirect_to(f"{other}/next", 307)
    with pytest.raises(MlflowException, match="clear text"):
        http_request(MlflowHostCreds(named.url), ARTIFACT, "GET")
    assert len(named.seen) == 1
    assert evil.seen == []
