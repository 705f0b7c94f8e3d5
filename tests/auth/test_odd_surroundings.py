"""Odd variables, proxies, file systems and answers: no secret leaks, no sign-in is lost."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking.request_header import registry
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from mlflow_plugins_pack.auth.credentials import lifetime
from mlflow_plugins_pack.auth.credentials.contracts import SourceDownError, SourceError
from mlflow_plugins_pack.auth.credentials.lifetime import Credential, State
from mlflow_plugins_pack.auth.credentials.secret import Secret
from mlflow_plugins_pack.auth.manager import Manager
from mlflow_plugins_pack.auth.oidc.transport import Transport
from mlflow_plugins_pack.auth.plugin import PackHeaderProvider
from mlflow_plugins_pack.auth.profiles.fields import Tls
from mlflow_plugins_pack.auth.profiles.origins import parse_scope
from mlflow_plugins_pack.auth.sources.env import EnvReader
from mlflow_plugins_pack.auth.token_store.stores import FileStore
from mlflow_plugins_pack.auth.tools import doctor
from mlflow_plugins_pack.auth.tools.exec_environment import child_environment
from mlflow_plugins_pack.errors import AuthConfigError
from tests.auth.support.certificates import Authority
from tests.auth.support.parts import (
    API,
    ARTIFACT,
    JSON,
    SECRET,
    Profiles,
    Recorder,
    env_profile,
    get,
    recording,
    redirect_to,
)
from tests.auth.support.token_files import FIRST, KEY

BEARER = (("Authorization", Secret("Bearer x")),)


@pytest.mark.parametrize("name", ["http://127.0.0.1_proxy", "ALL://127.0.0.1_Proxy"])
def test_a_proxy_of_one_host_does_not_read_a_credential(
    named: Recorder,
    evil: Recorder,
    profiles: Profiles,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.setenv(name, evil.url)
    profiles(env_profile(named.url))
    with pytest.raises(MlflowException, match="clear text"):
        get(named.url)
    assert evil.seen == []
    with pytest.raises(AuthConfigError, match="clear text"):
        child_environment("prod", Manager().profile("prod"), BEARER, dict(os.environ))
    assert any("would read the credential" in finding.message for finding in doctor.check())


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_to_loopback_does_not_keep_the_proxy_of_where_it_came_from(
    named: Recorder,
    evil: Recorder,
    profiles: Profiles,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    status: int,
) -> None:
    """`requests` keeps it, whatever NO_PROXY says of the new address."""
    monkeypatch.setenv("TOKEN", SECRET)
    monkeypatch.setenv("HTTP_PROXY", evil.url)
    monkeypatch.setenv("NO_PROXY", "localhost")
    authority = Authority(tmp_path)
    local = f"http://localhost:{named.port}"
    with recording(certificate=authority.issue("server")) as secure:
        profiles(
            f'[profile.prod]\nhosts = ["{secure.url}", "{local}"]\nsource = "env"\nenv = "TOKEN"\n'
            f'header = "X-Api-Key"\ntls = {{ ca = "{authority.ca}" }}\n'
        )
        secure.rule = redirect_to(f"{local}/next", status)
        with pytest.raises(MlflowException, match="clear text"):
            http_request(MlflowHostCreds(secure.url), ARTIFACT, "PUT", data=b"private bytes")
    assert evil.seen == []


def test_a_provider_on_this_machine_is_asked_without_a_proxy(
    named: Recorder, evil: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", evil.url)
    Transport(5, Tls(), None).post(f"{named.url}/token", {"client_secret": SECRET})
    assert len(named.seen) == 1
    assert evil.seen == []


@pytest.mark.parametrize("rest", [0.5, 300.0])
def test_an_outage_is_not_waited_out_for_longer_than_it_may(rest: float) -> None:
    state = State(Credential(BEARER, 100.0), fetched_at=0.0)
    failed = lifetime.failed(state, "busy", 110.0, None, is_down=True, retry_after_seconds=rest)
    wait = lifetime.outage_wait(failed, 110.0)
    assert wait is not None
    assert 110.0 + wait <= 100.0 + lifetime.OUTAGE_SECONDS


def test_a_retry_after_that_is_padded_oddly_is_an_outage(named: Recorder) -> None:
    named.rule = lambda seen: (503, {**JSON, "Retry-After": "\xa0" * 12 + "5"}, b"")
    with pytest.raises(SourceDownError) as caught:
        Transport(5, Tls(), None).get(named.url)
    assert caught.value.retry_after_seconds == 5


def test_a_date_beyond_all_dates_is_no_clock() -> None:
    date = "Mon, 1 Jan 2026 9999999999:00:00 +0000"
    assert list(doctor._check_clock("p", parse_scope("https://h"), date)) == []


def test_a_refusal_cannot_be_joined_to_a_text(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MLflow does where two providers give one header."""
    monkeypatch.setenv("TOKEN", SECRET)
    profiles(env_profile(named.url))
    providers = [*registry._request_header_provider_registry._registry, PackHeaderProvider()]
    monkeypatch.setattr(registry._request_header_provider_registry, "_registry", providers)
    monkeypatch.setattr("mlflow.tracking.request_auth.registry.fetch_auth", lambda name: None)
    with pytest.raises(MlflowException, match="nothing was sent"):
        http_request(MlflowHostCreds(named.url, auth="other"), API, "GET")
    assert named.seen == []


def test_a_variable_that_is_not_utf8_is_refused_without_its_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PASSWORD", os.fsdecode(b"hunter2\xe9"))
    with pytest.raises(SourceError, match="not UTF-8") as caught:
        EnvReader("PASSWORD").read()
    assert caught.value.__context__ is None


def test_the_token_of_a_github_job_must_be_a_header(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", named.url)
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "hunter2\u4e2d")
    profiles('[profile.gh]\nhosts = ["https://h"]\nsource = "github-actions"\naudience = "a"\n')
    with pytest.raises(Exception, match="outside latin-1") as caught:
        Manager().credential("gh")
    assert not isinstance(caught.value.__context__, UnicodeError)


def test_a_path_with_a_nul_is_refused(profiles: Profiles) -> None:
    profiles('[profile.p]\nhosts = ["https://h"]\nsource = "file"\nfile = "/a\\u0000b"\n')
    with pytest.raises(AuthConfigError, match="NUL"):
        Manager().profiles()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(SourceError, match="cannot be locked"), store.lock(KEY, 1):
        pass


def test_a_lock_that_nfs_refuses_is_held_by_another(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(SourceDownError, match="another process"), store.lock(KEY, 0.05):
        pass


def test_a_file_system_that_does_not_sync_folders_keeps_a_sign_in(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store.write(KEY, FIRST)
    assert store.read(KEY) == FIRST
