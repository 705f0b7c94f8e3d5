"""Keyrings that fail, are locked, drop what they are given, or do not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner

from mlflow_plugins_pack.auth import manager
from mlflow_plugins_pack.auth.credentials.contracts import SourceError
from mlflow_plugins_pack.auth.manager import Manager
from mlflow_plugins_pack.auth.oidc import login
from mlflow_plugins_pack.auth.sources.keyring import KeyringReader
from mlflow_plugins_pack.auth.sources.oidc import OidcSource
from mlflow_plugins_pack.auth.token_store import stores
from mlflow_plugins_pack.auth.token_store.stores import KeyringStore
from mlflow_plugins_pack.cli.auth.group import auth
from tests.auth.support.parts import Profiles
from tests.auth.support.sign_ins import (
    in_the_background,
    machine,
    opened,
    person,
    sign_in_by_browser,
)
from tests.auth.support.token_files import FIRST, KEY
from tests.support.oidc import SECRET as CLIENT_SECRET
from tests.support.oidc import OidcProvider
from tests.support.oidc.person import sign_in

keyring = pytest.importorskip("keyring")
chainer = pytest.importorskip("keyring.backends.chainer")
PLANTED = "planted-in-the-error"


class Backend(keyring.backend.KeyringBackend):  # type: ignore[misc,name-defined]
    """A keyring in memory that a test makes fail.

    Attributes:
        fault: Called at every call with the call's name.
    """

    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.fault: Callable[[str], None] = lambda _: None
        self.drops = False

    def get_password(self, service: str, username: str) -> str | None:
        self.fault("get")
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.fault("set")
        if not self.drops:
            self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self.fault("delete")
        del self.entries[service, username]

    def raises(self, error: Exception, *calls: str) -> None:
        """Raise an error from now on, at the given calls or at all."""

        def fault(call: str) -> None:
            if not calls or call in calls:
                raise error

        self.fault = fault


@pytest.fixture
def backend() -> Iterator[Backend]:
    before, made = keyring.get_keyring(), Backend()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


@pytest.fixture
def in_keyring(tmp_path: Path, backend: Backend) -> KeyringStore:
    return KeyringStore(str(tmp_path / "state" / "auth"))


CALLS: dict[str, Callable[[KeyringStore], Any]] = {
    "get": lambda store: store.read(KEY),
    "set": lambda store: store.write(KEY, FIRST),
    "delete": lambda store: store.erase(KEY),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "error",
    [
        keyring.errors.KeyringError(PLANTED),
        keyring.errors.KeyringLocked(PLANTED),
        keyring.errors.InitError(PLANTED),
        RuntimeError(PLANTED),
    ],
    ids=lambda error: type(error).__name__,
)
def test_each_call_that_fails_is_a_problem_of_the_source(
    in_keyring: KeyringStore, backend: Backend, call: str, error: Exception
) -> None:
    in_keyring.write(KEY, FIRST)
    backend.raises(error, call)
    with pytest.raises(SourceError, match=f"keyring does not answer .{type(error).__name__}"):
        CALLS[call](in_keyring)
    backend.raises(error)
    with pytest.raises(SourceError) as caught:
        KeyringReader("mlflow/alice").read()
    assert PLANTED not in str(caught.value)
    assert caught.value.__context__ is None  # a traceback would show what was to be kept
    backend.fault = lambda _: None
    assert in_keyring.read(KEY) == FIRST


def test_a_keyring_that_keeps_nothing_reports_no_success(
    in_keyring: KeyringStore, backend: Backend
) -> None:
    """As an empty chain of keyrings does, which is not called null."""
    backend.drops = True
    with pytest.raises(SourceError, match="did not keep the token"):
        in_keyring.write(KEY, FIRST)


class Chain(chainer.ChainerBackend):  # type: ignore[misc,name-defined]
    """The library's own chain, of keyrings that a test chooses."""

    backends: ClassVar[list[Backend]] = []


def test_a_sign_out_does_not_overlook_a_second_keyring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: Backend
) -> None:
    """It was the first of the chain when an earlier token was stored."""
    earlier, first = backend, Backend()
    monkeypatch.setattr(Chain, "backends", [earlier])
    keyring.set_keyring(Chain())  # the fixture puts back what was there
    store = KeyringStore(str(tmp_path / "state" / "auth"))
    store.write(KEY, FIRST)
    Chain.backends.insert(0, first)
    store.write(KEY, FIRST)
    with pytest.raises(SourceError, match="a keyring still has the token"):
        store.erase(KEY)
    assert store.stored_keys() == [KEY]
    del earlier.entries["mlflow-pack", KEY]
    store.erase(KEY)
    assert store.stored_keys() == []


@pytest.mark.parametrize("call", CALLS)
def test_a_keyring_that_does_not_answer_is_given_up(
    in_keyring: KeyringStore, backend: Backend, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    in_keyring.write(KEY, FIRST)
    monkeypatch.setattr(stores, "_KEYRING_SECONDS", 0.05)
    over = threading.Event()
    backend.fault = lambda asked: over.wait(60) and None if asked == call else None
    begun = time.monotonic()
    try:
        with pytest.raises(SourceError, match=r"no answer within 0\.05 s"):
            CALLS[call](in_keyring)
    finally:
        over.set()
    assert time.monotonic() - begun < 5


def test_a_keyring_that_cannot_be_loaded_is_a_problem_of_the_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def load() -> None:
        raise ModuleNotFoundError("no such backend")

    monkeypatch.setattr(keyring, "get_keyring", load)
    with pytest.raises(SourceError, match="ModuleNotFoundError"):
        KeyringStore(str(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "\ud800", "x" * 300_000, "[" * 5000])
def test_a_damaged_entry_counts_as_empty_and_can_be_deleted(
    in_keyring: KeyringStore, backend: Backend, text: str
) -> None:
    in_keyring.write(KEY, FIRST)
    (entry,) = backend.entries
    backend.entries[entry] = text
    assert in_keyring.read(KEY) is None
    in_keyring.erase(KEY)
    assert backend.entries == {}
    assert in_keyring.stored_keys() == []


# --- through the commands and the source ----------------------------------------------------------

IN_KEYRING = 'cache = "keyring"\n'


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(auth, arguments)
    return result.exit_code, result.output + str(result.exception or "")


def keyring_profile(provider: OidcProvider, profiles: Profiles, patch: Any) -> OidcSource:
    profiles(person(provider.issuer, IN_KEYRING))
    patch.setattr(manager, "_manager", Manager())
    return opened()


def test_a_machine_goes_on_without_a_keyring_that_is_locked(
    backend: Backend,
    provider: OidcProvider,
    profiles: Profiles,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("CLIENT_SECRET", CLIENT_SECRET)
    profiles(machine(provider.issuer, extra=IN_KEYRING))
    backend.raises(keyring.errors.KeyringLocked(PLANTED))
    assert Manager().credential("ci").headers
    assert "this one keeps its own" in caplog.text
    assert PLANTED not in caplog.text


def test_a_person_is_told_and_nothing_is_left_at_the_provider(
    backend: Backend, provider: OidcProvider, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = keyring_profile(provider, profiles, monkeypatch)
    backend.raises(keyring.errors.KeyringLocked(PLANTED), "set")
    with in_the_background(sign_in) as show:
        answer, who = login.by_browser(source.provider, 60, show)
        with pytest.raises(SourceError, match="KeyringLocked"):
            source.signed_in(answer, who)
    assert answer.refresh_token is not None
    with pytest.raises(SourceError, match="invalid_grant"):
        source.provider.refresh(answer.refresh_token.reveal())


def test_a_sign_out_from_a_locked_keyring_claims_nothing(
    backend: Backend, provider: OidcProvider, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in_by_browser(keyring_profile(provider, profiles, monkeypatch))
    backend.raises(keyring.errors.KeyringLocked(PLANTED))
    code, said = run("logout", "me")
    assert (code, "was not signed out" in said) == (1, True), said
    backend.fault = lambda _: None
    assert run("logout", "me") == (0, "Signed out of me: its tokens are forgotten.\n")
    assert backend.entries == {}


@pytest.mark.parametrize("first", ["file", "keyring"])
def test_what_the_store_of_before_holds_is_ended_too(
    backend: Backend,
    provider: OidcProvider,
    profiles: Profiles,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
) -> None:
    """A sign-in stays in its store when the profile names another one."""
    stores_of = {"file": person(provider.issuer), "keyring": person(provider.issuer, IN_KEYRING)}
    profiles(stores_of.pop(first))
    source = opened()
    sign_in_by_browser(source)
    refresh = str(source.store.read(source._key).refresh_token)  # type: ignore[union-attr]
    (second,) = stores_of.values()
    profiles(second)
    monkeypatch.setattr(manager, "_manager", Manager())
    assert run("logout", "me") == (0, "Signed out of me: its tokens are forgotten.\n")
    with pytest.raises(SourceError, match="invalid_grant"):
        source.provider.refresh(refresh)
    assert source.store.read(source._key) is None


def test_a_locked_keyring_of_before_is_mentioned(
    backend: Backend, provider: OidcProvider, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in_by_browser(keyring_profile(provider, profiles, monkeypatch))
    profiles(person(provider.issuer))
    monkeypatch.setattr(manager, "_manager", Manager())
    backend.raises(keyring.errors.KeyringLocked(PLANTED))
    code, said = run("logout", "me")
    assert code == 0
    assert "It may have a sign-in of this profile" in said
    assert PLANTED not in said
