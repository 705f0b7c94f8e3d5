"""Each flow against a real provider: npm oidc-provider with short and long tokens."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from mlflow_plugins_pack.auth import manager
from mlflow_plugins_pack.auth.credentials import current
from mlflow_plugins_pack.auth.credentials import lifetime as tokens
from mlflow_plugins_pack.auth.credentials.claims import claims_of
from mlflow_plugins_pack.auth.credentials.lifetime import Step, next_step
from mlflow_plugins_pack.auth.manager import Manager
from mlflow_plugins_pack.errors import CredentialError
from tests.auth.support.parts import JSON, Recorder
from tests.auth.support.sign_ins import in_processes, machine, token_of
from tests.support.oidc import AUDIENCE, SECRET, OidcProvider

Profiles = Callable[[str], Path]
API = "/api/2.0/mlflow/experiments/get"


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", SECRET)


@pytest.mark.parametrize("place", ["header", "body"])
def test_client_credentials_with_a_secret(
    provider: OidcProvider, profiles: Profiles, place: str
) -> None:
    profiles(machine(provider.issuer, extra=f'client_secret_in = "{place}"\ncache = "memory"\n'))
    claims = claims_of(token_of(Manager()))
    assert claims["client_id"] == "machine"
    assert claims["aud"] == AUDIENCE


@pytest.mark.parametrize("form", ["pem", "jwk"])
def test_client_credentials_with_a_private_key(
    provider: OidcProvider, profiles: Profiles, tmp_path: Path, form: str
) -> None:
    from joserfc.jwk import RSAKey

    key = tmp_path / "key"
    if form == "pem":
        key.write_text(provider.client_key)
    else:
        parameters = {"kid": "client", "alg": "PS256"}
        jwk = RSAKey.import_key(provider.client_key, parameters)
        key.write_text(json.dumps(jwk.as_dict(private=True)))
    profiles(
        f'[profile.ci]\nhosts = ["https://h.example"]\nsource = "oidc"\n'
        f'issuer = "{provider.issuer}"\nclient_id = "machine-key"\n'
        f'client_key = {{ file = "{key}" }}\nscope = "mlflow"\ncache = "memory"\n'
    )
    if form == "jwk":  # it was registered for RS256: the key's own algorithm is used and refused
        with pytest.raises(CredentialError, match="invalid_client"):
            token_of(Manager())
    else:
        assert claims_of(token_of(Manager()))["client_id"] == "machine-key"
    key.write_text("no key")
    with pytest.raises(CredentialError, match="not a private key"):
        token_of(Manager())


@pytest.mark.parametrize("flow", ["subject_token", "assertion"])
def test_token_exchange_and_jwt_bearer(
    provider: OidcProvider, profiles: Profiles, monkeypatch: pytest.MonkeyPatch, flow: str
) -> None:
    profiles(machine(provider.issuer, extra=f'{flow} = {{ env = "SUBJECT" }}\ncache = "memory"\n'))
    monkeypatch.setenv("SUBJECT", "good-subject")
    assert claims_of(token_of(Manager()))["aud"] == AUDIENCE
    monkeypatch.setenv("SUBJECT", "bad-subject")
    with pytest.raises(CredentialError, match="invalid_grant"):
        token_of(Manager())


@pytest.mark.parametrize("flow", ["subject_token", "assertion"])
def test_nobody_gets_a_token_of_another_subject(
    provider: OidcProvider, profiles: Profiles, monkeypatch: pytest.MonkeyPatch, flow: str
) -> None:
    """Neither in another process of the same account, nor in this one once the subject changes."""
    profiles(machine(provider.issuer, extra=f'{flow} = {{ env = "SUBJECT" }}\n'))
    monkeypatch.setenv("SUBJECT", "good-subject")
    first = Manager()
    assert token_of(first)
    monkeypatch.setenv("SUBJECT", "bad-subject")
    for other in (first, Manager()):
        with pytest.raises(CredentialError, match="invalid_grant"):
            token_of(other)
    monkeypatch.setenv("SUBJECT", "good-subject")
    assert token_of(first)


def test_a_wrong_secret_is_refused_in_the_providers_words_and_sends_nothing(
    provider: OidcProvider, profiles: Profiles, monkeypatch: pytest.MonkeyPatch, named: Recorder
) -> None:
    monkeypatch.setenv("CLIENT_SECRET", "planted-wrong-secret")
    profiles(machine(provider.issuer, named.url))
    with pytest.raises(MlflowException, match="invalid_client") as caught:
        http_request(MlflowHostCreds(named.url), API, "GET")
    assert named.seen == []
    assert "planted" not in "".join(traceback.format_exception(caught.value))


def test_processes_share_a_token_and_a_new_one_is_fetched_after_a_refusal(
    provider: OidcProvider, profiles: Profiles
) -> None:
    profiles(machine(provider.issuer))
    before = len(provider.grants())
    first, second = Manager(), Manager()  # as two processes would
    token = token_of(first)
    assert token_of(second) == token
    assert len(provider.grants()) == before + 1
    newer = first.current("ci").replace_rejected(first.credential("ci"))
    assert newer is not None
    assert newer.is_new
    # The other is refused with the same token a moment later and takes the first one's newer.
    found = second.current("ci").replace_rejected(second.credential("ci"))
    assert found is not None
    assert found.credential.headers == newer.credential.headers
    assert not found.is_new
    assert len(provider.grants()) == before + 2


def test_eight_processes_make_one_fetch(provider: OidcProvider, profiles: Profiles) -> None:
    profiles(machine(provider.issuer))
    before = len(provider.grants())
    tokens = in_processes(8, "ci")
    assert len(tokens) == 8
    assert len(set(tokens)) == 1
    assert len(provider.grants()) == before + 1


def test_an_old_token_is_used_while_the_provider_is_down(
    provider: OidcProvider, profiles: Profiles, caplog: pytest.LogCaptureFixture
) -> None:
    profiles(machine(provider.issuer))
    manager = Manager()
    token = token_of(manager)
    provider.fault("down")
    found = manager.current("ci")
    # So much later is in the window where it would be refreshed ahead.
    past = found._state.fetched_at - 3500
    found._state = type(found._state)(**{**vars(found._state), "fetched_at": past})
    assert token_of(manager) == token
    assert "the old one is used" in caplog.text
    provider.fault(None)
    assert token_of(manager) == token  # it rests half a second before it asks again
    found._state = type(found._state)(**{**vars(found._state), "retry_at": 0.0})
    assert token_of(manager) != token


def test_a_token_endpoint_without_tls_is_refused(profiles: Profiles, named: Recorder) -> None:
    document = {"issuer": named.url, "token_endpoint": "http://idp.example/token"}
    named.rule = lambda seen: (200, JSON, json.dumps(document).encode())
    profiles(machine(named.url))
    with pytest.raises(CredentialError, match="must be https"):
        token_of(Manager())


def test_a_token_endpoint_that_redirects_is_not_followed(
    profiles: Profiles, named: Recorder, evil: Recorder
) -> None:
    document = {"issuer": named.url, "token_endpoint": f"{named.url}/token"}
    named.rule = lambda seen: (
        (307, {"Location": f"{evil.url}/token"}, b"")
        if seen.path == "/token"
        else (200, JSON, json.dumps(document).encode())
    )
    profiles(machine(named.url))
    with pytest.raises(CredentialError, match="redirect"):
        token_of(Manager())
    assert evil.seen == []


def test_netrc_is_not_sent_to_the_provider(
    profiles: Profiles, named: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password planted-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    profiles(machine(named.url))
    with pytest.raises(CredentialError):
        token_of(Manager())
    assert named.seen
    assert "Authorization" not in named.seen[0].headers


def test_secrets_are_in_no_log_and_no_error(
    provider: OidcProvider, profiles: Profiles, named: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    profiles(machine(provider.issuer, named.url))
    http_request(MlflowHostCreds(named.url), API, "GET")
    token = named.seen[0].headers["Authorization"].removeprefix("Bearer ")
    assert SECRET not in caplog.text
    assert token not in caplog.text


def test_a_folder_that_cannot_be_written_costs_sharing_only(
    provider: OidcProvider,
    profiles: Profiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    profiles(machine(provider.issuer))
    assert token_of(Manager())
    assert "cannot be shared" in caplog.text


def test_the_environment_alone_is_enough(
    provider: OidcProvider, named: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short form, for containers and CI."""
    for name, value in (
        ("HOST", named.url),
        ("ISSUER", provider.issuer),
        ("CLIENT_ID", "machine"),
        ("CLIENT_SECRET", SECRET),
        ("SCOPE", "mlflow"),
    ):
        monkeypatch.setenv(f"MLFLOW_PACK_AUTH_{name}", value)
    http_request(MlflowHostCreds(named.url), API, "GET")
    token = named.seen[0].headers["Authorization"].removeprefix("Bearer ")
    assert claims_of(token)["client_id"] == "machine"
    assert claims_of(token)["scope"] == "mlflow"
    monkeypatch.setenv("MLFLOW_PACK_AUTH_CONFIG", "/some/auth.toml")
    with pytest.raises(MlflowException, match="both set"):
        http_request(MlflowHostCreds(named.url), API, "GET")


def test_fork_while_another_thread_renews(provider: OidcProvider, profiles: Profiles) -> None:
    """The child inherits the open lock file; it must neither hold nor wait for it."""
    from mlflow_plugins_pack.auth.sources import open_oidc

    profiles(machine(provider.issuer))
    manager = Manager()
    source = open_oidc("ci", manager.profile("ci"))  # type: ignore[arg-type]
    with source._locked():
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(Exception, match="another process"), source.store.lock(source._key, 0.1):
            pass  # the child's end has not freed the parent's lock
    assert token_of(manager)


def test_who_had_a_token_waits_while_the_provider_is_down(
    provider: OidcProvider, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of its token's life, in the middle of the rest after a failure."""
    profiles(machine(provider.issuer))
    asked = Manager()
    token = token_of(asked)
    provider.fault("down")
    found = asked.current("ci")
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            provider.fault(None)

    monkeypatch.setattr(current.time, "sleep", wait)
    ended = dataclasses.replace(found._state, fetched_at=found._state.fetched_at - 3605)
    found._state = tokens.failed(ended, "down", time.monotonic() + 1000, None, is_down=True)
    assert next_step(found._state, time.monotonic(), None) is Step.FAIL
    assert token_of(asked) != token
    assert 0 < waits[0] <= 60  # not for all of the rest, which may outlast the patience
    assert len(waits) >= 3


@pytest.mark.parametrize("is_resting", [False, True])
def test_a_token_refused_while_the_provider_is_down_is_waited_for(
    provider: OidcProvider,
    profiles: Profiles,
    named: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    is_resting: bool,
) -> None:
    """Revoked or ended on the way in an outage: the job waits, and never sees the 401.

    Resting: the outage was noticed before, when the token was to be refreshed ahead.
    """
    profiles(machine(provider.issuer, named.url))
    http_request(MlflowHostCreds(named.url), API, "GET")
    revoked = named.seen[0].headers["Authorization"]
    named.rule = lambda seen: (
        (401 if seen.headers["Authorization"] == revoked else 200),
        JSON,
        b"{}",
    )
    provider.fault("down")
    if is_resting:
        found = manager.get_manager().current("ci")
        found._state = tokens.failed(
            found._state, "down", time.monotonic() + 100, None, is_down=True
        )
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            provider.fault(None)

    monkeypatch.setattr(current.time, "sleep", wait)
    assert http_request(MlflowHostCreds(named.url), API, "GET").status_code == 200
    assert len(waits) >= 2
