"""Profiles at the OIDC provider of the tests, and people and processes that sign in there."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from mlflow_plugins_pack.auth.manager import Manager
from mlflow_plugins_pack.auth.oidc import login
from mlflow_plugins_pack.auth.profiles.models import OidcProfile
from mlflow_plugins_pack.auth.sources import open_oidc
from mlflow_plugins_pack.auth.sources.oidc import OidcSource
from tests.support.oidc.person import sign_in
from tests.support.paths import ROOT


def person(issuer: str, extra: str = "") -> str:
    return (
        f'[profile.me]\nhosts = ["https://h.example"]\nsource = "oidc"\nissuer = "{issuer}"\n'
        f'client_id = "person"\nscope = "openid offline_access mlflow"\n{extra}'
    )


def opened() -> OidcSource:
    profile = Manager().profile("me")
    assert isinstance(profile, OidcProfile)
    return open_oidc("me", profile)


@contextlib.contextmanager
def in_the_background(action: Callable[[str], object]) -> Iterator[Callable[[str], None]]:
    """Yield a function that passes its argument to a thread that acts on it."""
    given: queue.Queue[str | None] = queue.Queue()
    failed: list[BaseException] = []

    def run() -> None:
        address = given.get()
        try:
            if address is not None:
                action(address)
        except BaseException as exc:
            failed.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield given.put
    finally:
        given.put(None)
        thread.join(60)
    assert not failed


def sign_in_by_browser(source: OidcSource, name: str = "alice") -> None:
    with in_the_background(lambda url: sign_in(url, name)) as show:
        answer, who = login.by_browser(source.provider, 60, show)
    assert who == name
    source.signed_in(answer, who)


def spend(source: OidcSource) -> None:
    """Let the kept token be over, its refresh token good."""
    stored = source.store.read(source._key)
    assert stored is not None
    past = replace(stored, issued_at=time.time() - 7200, expires_at=time.time() - 3600)
    source.store.write(source._key, past)


def redirected(url: str, **changes: str | None) -> str:
    """Return the callback's address for an authorization address, with other parameters."""
    query = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
    answer: dict[str, str | None] = {"state": query["state"], "code": "stolen", **changes}
    kept = {key: value for key, value in answer.items() if value is not None}
    return urlunsplit((*urlsplit(query["redirect_uri"])[:3], urlencode(kept), ""))


def machine(issuer: str, host: str = "https://h.example", extra: str = "") -> str:
    return (
        f'[profile.ci]\nhosts = ["{host}"]\nsource = "oidc"\nissuer = "{issuer}"\n'
        'client_id = "machine"\nclient_secret = { env = "CLIENT_SECRET" }\nscope = "mlflow"\n'
        f"{extra}"
    )


def token_of(manager: Manager, name: str = "ci") -> str:
    (header, value), *_ = manager.credential(name).headers
    assert header == "Authorization"
    return value.reveal().removeprefix("Bearer ")


def in_processes(count: int, profile: str) -> list[str]:
    """Return what so many processes get for a profile at once."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.auth.support.processes", str(count), profile],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=ROOT,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
