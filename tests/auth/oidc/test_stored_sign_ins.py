"""Sign-ins on a disk that is full, and what a changed or renamed profile left behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlflow_plugins_pack.auth import manager
from mlflow_plugins_pack.auth.credentials.contracts import SourceError
from mlflow_plugins_pack.auth.manager import Manager
from mlflow_plugins_pack.auth.oidc import login
from mlflow_plugins_pack.auth.profiles.paths import token_folder
from mlflow_plugins_pack.auth.sources.oidc import OidcSource
from mlflow_plugins_pack.auth.token_store.stores import FileStore
from mlflow_plugins_pack.auth.tools import doctor
from mlflow_plugins_pack.cli.auth.group import auth
from mlflow_plugins_pack.errors import CredentialError
from tests.auth.support.parts import Profiles
from tests.auth.support.sign_ins import (
    in_the_background,
    opened,
    person,
    sign_in_by_browser,
    spend,
)
from tests.auth.support.token_files import FIRST, KEY, path_of
from tests.support.oidc import OidcProvider
from tests.support.oidc.person import sign_in


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 64 KiB that holds the token folder."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill the disk to the last byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    try:
        yield
    finally:
        filler.unlink()


def files() -> list[Path]:
    return sorted(Path(token_folder()).glob("*.json"))


def test_a_rotated_token_is_stored_on_a_full_disk(
    small_disk: Path, source: OidcSource, provider: OidcProvider
) -> None:
    """Into the blocks that the old one had."""
    refused = provider.grants("refresh_token", ok=False)  # of other tests
    sign_in_by_browser(source)
    for _ in range(2):
        spend(source)
        with full(small_disk):
            first = Manager().credential("me")
        assert first.who == "alice"
        assert Manager().credential("me").headers == first.headers
    assert provider.grants("refresh_token", ok=False) == refused


def test_a_rotated_token_that_cannot_be_stored_serves_this_process(
    small_disk: Path,
    source: OidcSource,
    provider: OidcProvider,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As on a file system that writes changes elsewhere: no block of the file can be used."""
    refused = provider.grants("refresh_token", ok=False)  # of other tests
    sign_in_by_browser(source)
    spend(source)
    asked = Manager()
    erase = FileStore.erase

    def erase_and_fill(store: FileStore, key: str) -> None:
        erase(store, key)
        (small_disk / "more").write_bytes(b"x" * 4096)

    with full(small_disk), monkeypatch.context() as patch:
        patch.setattr(FileStore, "_overwrite", lambda *_: False)
        patch.setattr(FileStore, "erase", erase_and_fill)
        first = asked.credential("me")
        assert "cannot be stored" in caplog.text
        assert files() == []  # the spent token is not offered to another process
    current = asked.current("me")
    replaced = current.replace_rejected(first)  # with the token that was kept in memory
    assert replaced is not None
    assert len(files()) == 1
    assert Manager().credential("me").headers == replaced.credential.headers
    assert provider.grants("refresh_token", ok=False) == refused


def test_a_sign_in_that_cannot_be_stored_is_revoked(
    small_disk: Path, source: OidcSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoked: list[str] = []
    revoke = source.provider.revoke
    monkeypatch.setattr(
        source.provider, "revoke", lambda token: revoked.append(token) or revoke(token)
    )
    source.store._prepare()  # type: ignore[attr-defined]
    with full(small_disk), in_the_background(sign_in) as show:
        answer, who = login.by_browser(source.provider, 60, show)
        with pytest.raises(SourceError, match="No space left"):
            source.signed_in(answer, who)
    assert answer.refresh_token is not None
    assert revoked == [answer.refresh_token.reveal()]


def test_a_full_disk_does_not_damage_a_file_that_needs_more_room(
    small_disk: Path, store: FileStore
) -> None:
    on_disk = FileStore(str(small_disk / "auth"))
    on_disk.write(KEY, FIRST)
    with full(small_disk), pytest.raises(SourceError, match="No space left"):
        on_disk.write(KEY, type(FIRST)("x" * 9000, 1.0))
    assert on_disk.read(KEY) == FIRST
    assert path_of(on_disk).stat().st_mode & 0o777 == 0o600


def test_a_pipe_in_place_of_a_token_file_does_not_hang_a_full_disk(small_disk: Path) -> None:
    on_disk = FileStore(str(small_disk / "auth"))
    on_disk.write(KEY, FIRST)
    path_of(on_disk).unlink()
    os.mkfifo(path_of(on_disk), 0o600)
    with full(small_disk), pytest.raises(SourceError, match="No space left"):
        on_disk.write(KEY, FIRST)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(auth, arguments)
    return result.exit_code, result.output


def test_what_another_scope_left_is_ended_by_a_new_sign_in_and_by_a_sign_out(
    source: OidcSource, provider: OidcProvider, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in_by_browser(source)
    (old,) = files()
    refresh = source.store.read(source._key).refresh_token  # type: ignore[union-attr]
    profiles(person(provider.issuer).replace("offline_access mlflow", "offline_access"))
    monkeypatch.setattr(manager, "_manager", Manager())
    changed = opened()
    sign_in_by_browser(changed)
    assert old not in files()
    assert len(files()) == 1
    with pytest.raises(SourceError, match="invalid_grant"):
        source.provider.refresh(str(refresh))
    profiles(person(provider.issuer))  # back again: a sign-out ends what the other scope left
    monkeypatch.setattr(manager, "_manager", Manager())
    assert run("logout", "me") == (0, "Signed out of me: its tokens are forgotten.\n")
    assert files() == []


def test_what_a_renamed_profile_left_is_found_and_ended(
    source: OidcSource, provider: OidcProvider, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in_by_browser(source)
    refresh = source.store.read(source._key).refresh_token  # type: ignore[union-attr]
    profiles(person(provider.issuer).replace("profile.me", "profile.other"))
    monkeypatch.setattr(manager, "_manager", Manager())
    found = [one.message for one in doctor.check() if one.subject == "profile me"]
    assert found
    assert "mlflow-pack auth logout me" in found[0]
    assert run("logout", "me") == (0, "Signed out of me: its tokens are forgotten.\n")
    assert files() == []
    with pytest.raises(SourceError, match="invalid_grant"):
        source.provider.refresh(str(refresh))
    assert run("logout", "me")[0] == 1


def test_a_sign_out_that_the_provider_cannot_be_told_says_so(
    source: OidcSource, provider: OidcProvider
) -> None:
    sign_in_by_browser(source)
    provider.fault("down")
    code, said = run("logout", "me")
    assert code == 0
    assert "The provider was not told to end the sign-in" in said
    assert files() == []


def test_a_refresh_token_is_sent_to_its_own_issuer_only(
    source: OidcSource, provider: OidcProvider, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in_by_browser(source)
    other = OidcSource("me", source.provider)
    stored = source.store.read(source._key)
    assert stored is not None
    source.store.write("other", type(stored)(**{**vars(stored), "issuer": "https://other.example"}))
    asked: list[str] = []
    monkeypatch.setattr(source.provider, "revoke", lambda token: asked.append(token) or True)
    done = other.sign_out()
    assert done.was_signed_in
    assert "https://other.example" in done.problems[0]
    assert len(asked) == 1
    assert files() == []


@pytest.mark.parametrize("key", ["resource", "audience"])
def test_a_profile_that_changed_after_the_sign_in_says_so(
    source: OidcSource, provider: OidcProvider, profiles: Profiles, key: str
) -> None:
    sign_in_by_browser(source)
    profiles(person(provider.issuer, f'{key} = "https://api.example"\n'))
    with pytest.raises(CredentialError, match="the profile has changed since you signed in"):
        Manager().credential("me")
