"""A fresh manager for each test, recording servers, and a protected stock server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from mlflow_plugins_pack.auth import manager
from mlflow_plugins_pack.auth.sources.oidc import OidcSource
from mlflow_plugins_pack.auth.token_store.stores import FileStore
from tests.auth.support.parts import (
    ARTIFACT,
    PEOPLE,
    SECRET,
    Profiles,
    Recorder,
    recording,
    write_profiles,
)
from tests.support import servers
from tests.support.oidc import OidcProvider


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Forget what an earlier test's profiles gave, and keep every test off the proxies."""
    monkeypatch.setattr(manager, "_manager", manager.Manager())
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    from mlflow.store.tracking.rest_store import RestStore

    RestStore._get_server_version.cache_clear()


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Call it with TOML to make it the profiles file."""
    path = tmp_path / "auth.toml"

    def write(text: str) -> Path:
        monkeypatch.setenv("MLFLOW_PACK_AUTH_CONFIG", str(path))
        return write_profiles(path, text)

    return write


@pytest.fixture
def named() -> Iterator[Recorder]:
    """A server that the test's profiles name."""
    with recording() as recorder:
        yield recorder


@pytest.fixture
def evil() -> Iterator[Recorder]:
    """A server that no profile names."""
    with recording() as recorder:
        yield recorder


@pytest.fixture(scope="session")
def basic_auth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.MlflowServer]:
    """A stock server with its basic-auth app and two people."""
    folder = tmp_path_factory.mktemp("basic-auth")
    os.environ.pop("MLFLOW_PACK_AUTH_CONFIG", None)
    with servers.mlflow_server(folder, app_name="basic-auth") as server:
        for name in PEOPLE:
            servers.create_user(server, name, servers.PASSWORD)
        servers.make_sign_in_cheap(folder)
        yield server


@pytest.fixture
def signed_in(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., requests.Response]:
    """A profile with Authorization and a custom header; call it to send to the named host."""
    monkeypatch.setenv("TOKEN", SECRET)
    profiles(
        f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "env"\nenv = "TOKEN"\n'
        'extra_headers = { "X-Access-Secret" = { env = "TOKEN" } }\n'
    )

    def send(method: str = "GET", path: str = ARTIFACT, **kwargs: Any) -> requests.Response:
        return http_request(MlflowHostCreds(named.url), path, method, **kwargs)

    return send


@pytest.fixture
def source(provider: OidcProvider, profiles: Profiles) -> OidcSource:
    """The source of a person's profile ``me``, to which no user is signed in."""
    from tests.auth.support.sign_ins import opened, person

    profiles(person(provider.issuer))
    return opened()


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """An empty token store."""
    return FileStore(str(tmp_path / "state" / "auth"))
