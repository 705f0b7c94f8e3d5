"""Other credentials for the same host: the profile wins, or the request is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from tests.auth.support.parts import (
    API,
    SECRET,
    Profiles,
    Recorder,
    conflict_netrc,
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
