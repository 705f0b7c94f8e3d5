"""Other credentials for the same host: the profile wins, or the request is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from mlflow_plugins_pack.auth.manager import get_manager
from mlflow_plugins_pack.auth.tools.whoami import ask_servers
from tests.auth.support.certificates import Authority
from tests.auth.support.parts import (
    API,
    JSON,
    SECRET,
    Profiles,
    Recorder,
    conflict_netrc,
    recording,
)


def conflict_token(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> dict[str, Any]:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "other-token")
    return {"token": "other-token"}


def conflict_user(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> dict[str, Any]:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "other")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "other-password")
    return {"username": "other", "password": "other-password"}


def conflict_file(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> dict[str, Any]:
    """Stock MLflow reads ~/.mlflow/credentials where it makes the host's credentials."""
    from mlflow.utils.credentials import get_default_host_creds

    monkeypatch.setenv("HOME", str(home))
    (home / ".mlflow").mkdir()
    (home / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = other\nmlflow_tracking_password = other-password\n"
    )
    found = get_default_host_creds(url)
    assert found.username == "other"
    return {"username": found.username, "password": found.password}


@pytest.mark.parametrize("conflict", [conflict_token, conflict_user, conflict_file, conflict_netrc])
def test_the_profile_wins_over_other_credentials_with_one_warning(
    named: Recorder,
    profiles: Profiles,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    conflict: Callable[..., dict[str, Any]],
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    extra = conflict(monkeypatch, tmp_path, named.url)
    text = f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "env"\nenv = "TOKEN"\n'
    profiles(text)
    for _ in range(3):
        http_request(MlflowHostCreds(named.url, **extra), API, "GET")
    assert {seen.headers["Authorization"] for seen in named.seen} == {f"Bearer {SECRET}"}
    warnings = [r for r in caplog.records if r.name.startswith("mlflow_plugins_pack")]
    assert len(warnings) == 1
    named.seen.clear()
    profiles(f'{text}on_conflict = "error"\n')
    with pytest.raises(MlflowException, match="on_conflict"):
        http_request(MlflowHostCreds(named.url, **extra), API, "GET")
    assert named.seen == []


def test_a_second_provider_with_the_same_header_does_not_mix_with_ours(
    signed_in: Callable[..., requests.Response], named: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking.request_header import registry

    class Other:
        def in_context(self) -> bool:
            return True

        def request_headers(self) -> dict[str, str]:
            return {"Authorization": "Bearer other"}

    registered = registry._request_header_provider_registry
    monkeypatch.setattr(registered, "_registry", [*registered._registry, Other()])
    signed_in()
    assert named.seen[0].headers["Authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MLFLOW_TRACKING_INSECURE_TLS", "true"), ("MLFLOW_TRACKING_SERVER_CERT_PATH", "/other.pem")],
)
def test_a_variable_does_not_replace_the_certificates_of_the_profile(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str
) -> None:
    from mlflow.utils.credentials import get_default_host_creds

    monkeypatch.setenv("TOKEN", SECRET)
    authority = Authority(tmp_path)
    with recording(certificate=authority.issue("server")) as secure:
        profiles(
            f'[profile.prod]\nhosts = ["{secure.url}"]\nsource = "env"\nenv = "TOKEN"\n'
            f'tls = {{ ca = "{authority.ca}" }}\n'
        )
        assert http_request(get_default_host_creds(secure.url), API, "GET").status_code == 200
        secure.seen.clear()
        monkeypatch.setenv(variable, value)
        with pytest.raises(MlflowException, match=variable):
            http_request(get_default_host_creds(secure.url), API, "GET")
        assert secure.seen == []


def test_a_refusal_shows_the_reason_of_the_server(signed_in: object, named: Recorder) -> None:
    named.rule = lambda seen: (
        403,
        JSON,
        b'{"error_code": "PERMISSION_DENIED", "message": "token expired at noon; secret=abcdef"}',
    )
    (answer,) = ask_servers(get_manager(), "prod")
    assert answer.said == "refuses us (403: token [hidden] at noon; secret=[hidden])"
    named.rule = lambda seen: (403, {"Content-Type": "text/html"}, b"<html>blocked</html>")
    (answer,) = ask_servers(get_manager(), "prod")
    assert answer.said == "refuses us (403)"


@pytest.mark.parametrize("mode", ["profile", "error"])
def test_another_authorization_next_to_a_header_of_the_profile(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Both are sent, as to a proxy and the server behind it, unless the profile excludes that."""
    monkeypatch.setenv("TOKEN", SECRET)
    profiles(
        f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "env"\nenv = "TOKEN"\n'
        f'header = "X-Api-Key"\nscheme = ""\non_conflict = "{mode}"\n'
    )
    if mode == "error":
        with pytest.raises(MlflowException, match="on_conflict"):
            http_request(MlflowHostCreds(named.url, token="other"), API, "GET")
        assert named.seen == []
    else:
        http_request(MlflowHostCreds(named.url, token="other"), API, "GET")
        assert named.seen[0].headers["X-Api-Key"] == SECRET
        assert named.seen[0].headers["Authorization"] == "Bearer other"
