"""A person signs in: by browser and code, by device, over again with rotation; and out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlflow_plugins_pack.auth import manager
from mlflow_plugins_pack.auth.credentials.claims import claims_of
from mlflow_plugins_pack.auth.credentials.contracts import SourceError
from mlflow_plugins_pack.auth.manager import Manager
from mlflow_plugins_pack.auth.oidc import login
from mlflow_plugins_pack.auth.profiles.paths import token_folder
from mlflow_plugins_pack.auth.sources.oidc import OidcSource
from mlflow_plugins_pack.cli.auth.group import auth
from mlflow_plugins_pack.errors import CredentialError
from tests.auth.support.sign_ins import in_the_background, person, sign_in_by_browser, spend
from tests.support.oidc import OidcProvider
from tests.support.oidc.person import sign_in

Profiles = Callable[[str], Path]


def test_authorization_code_with_pkce(source: OidcSource, provider: OidcProvider) -> None:
    sign_in_by_browser(source)
    credential = Manager().credential("me")
    assert credential.who == "alice"
    claims = claims_of(credential.headers[0][1].reveal().removeprefix("Bearer "))
    assert claims["sub"] == "alice"
    (kept,) = [path for path in Path(token_folder()).iterdir() if path.suffix == ".json"]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700


def test_device_code(source: OidcSource) -> None:
    shown: list[str] = []
    with in_the_background(sign_in) as act:

        def show(address: str, code: str, whole: str | None) -> None:
            assert whole is not None
            shown.extend((address, code))
            act(whole)

        answer, who = login.by_device(source.provider, 120, show, sleep=lambda _: time.sleep(0.2))
    assert who == "alice"
    assert shown[0].endswith("/device")
    source.signed_in(answer, who)
    assert Manager().credential("me").who == "alice"


def test_nobody_comes(source: OidcSource) -> None:
    with pytest.raises(SourceError, match="was not finished within 1 s"):
        login.by_browser(source.provider, 1, lambda url: None)
    with pytest.raises(SourceError, match="was not finished within 1 s"):
        login.by_device(source.provider, 1, lambda *_: None, sleep=lambda _: time.sleep(0.2))
    with pytest.raises(CredentialError, match="you are not signed in; run `mlflow-pack auth login"):
        Manager().credential("me")


def test_a_revoked_sign_in_is_forgotten_and_says_how_to_sign_in(
    source: OidcSource, provider: OidcProvider
) -> None:
    sign_in_by_browser(source)
    spend(source)
    provider.fault("revoked")
    with pytest.raises(CredentialError, match="run `mlflow-pack auth login me`") as caught:
        Manager().credential("me")
    assert "invalid_grant" in caught.value.message
    assert source.store.read(source._key) is None


def test_a_provider_that_is_down_costs_nobody_the_sign_in(
    source: OidcSource, provider: OidcProvider
) -> None:
    sign_in_by_browser(source)
    spend(source)
    provider.fault("down")
    with pytest.raises(CredentialError, match="cannot be reached"):
        Manager().credential("me")
    provider.fault(None)
    assert Manager().credential("me").who == "alice"


def run(*arguments: str, **options: object) -> tuple[int, str]:
    result = CliRunner().invoke(auth, arguments, **options)  # type: ignore[arg-type]
    said = "" if result.exception is None else str(result.exception)
    return result.exit_code, result.output + said


def test_the_commands_of_a_sign_in(
    source: OidcSource, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "somewhere")
    monkeypatch.setattr(login, "_INTERVAL_SECONDS", 0.2)

    def show(address: str, code: str, whole: str | None) -> None:
        assert whole is not None
        act(whole)

    from mlflow_plugins_pack.cli.auth import dialogue as auth_login

    monkeypatch.setattr(auth_login, "_show_code", show)
    with in_the_background(sign_in) as act:
        code, text = run("login")
    assert code == 0, text
    assert "Signed in as alice." in text
    assert "renewed by itself" in text
    code, text = run("status", "--json")
    (row,) = json.loads(text)
    assert (code, row["who"], row["credential"]) == (0, "alice", "there")
    code, text = run("whoami")  # the host does not exist
    assert code == 1
    assert f"me: alice, for 59 minutes, from {provider.issuer}" in text
    assert "could not be asked" in text
    _, token = run("token", "me")
    assert claims_of(token)["sub"] == "alice"
    assert run("logout")[1] == "Signed out of me: its tokens are forgotten.\n"
    assert run("logout", "me")[1] == "The profile me was not signed in.\n"
    monkeypatch.setattr(manager, "_manager", Manager())  # the next command is another process
    assert run("token", "me")[0] == 1


def test_login_of_a_profile_that_has_none(provider: OidcProvider, profiles: Profiles) -> None:
    profiles(
        person(provider.issuer)
        + '[profile.x]\nhosts = ["https://x.example"]\nsource = "env"\nenv = "T"\n'
    )
    assert "has no sign-in" in run("login", "x")[1]
    assert "no profile 'y'" in run("login", "y")[1]
    assert os.environ.get("T") is None
