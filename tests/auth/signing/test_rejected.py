"""A 401 is answered once, with another credential and the whole body."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from mlflow_plugins_pack.auth.manager import Manager
from tests.auth.support.parts import (
    API,
    ARTIFACT,
    JSON,
    Answer,
    Profiles,
    Recorder,
    Seen,
)
from tests.auth.support.sign_ins import machine
from tests.support.oidc import SECRET as CLIENT_SECRET
from tests.support.oidc import OidcProvider


@pytest.fixture(autouse=True)
def _client_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", CLIENT_SECRET)


@pytest.mark.parametrize("body", ["file", "bytes"])
def test_a_401_is_answered_once_with_the_rotated_token_and_the_whole_body(
    named: Recorder, profiles: Profiles, tmp_path: Path, body: str
) -> None:
    token, data = tmp_path / "token", tmp_path / "data"
    token.write_text("old-token-1\n")
    content = bytes(range(256)) * 4096
    data.write_bytes(content)
    profiles(f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "file"\nfile = "{token}"\n')

    def rule(seen: Seen) -> Answer:
        if seen.headers["Authorization"] != "Bearer new-token-22":
            token.write_text("new-token-22\n")
            return 401, JSON, b"{}"
        return 200, JSON, b"{}"

    named.rule = rule
    with data.open("rb") as file:
        answer = http_request(
            MlflowHostCreds(named.url), ARTIFACT, "PUT", data=file if body == "file" else content
        )
    assert answer.status_code == 200
    assert [seen.body == content for seen in named.seen] == [True, True]


def test_a_401_with_nothing_newer_is_returned_and_not_repeated(
    signed_in: Callable[..., requests.Response], named: Recorder
) -> None:
    named.rule = lambda seen: (401, JSON, b"{}")
    assert signed_in().status_code == 401
    assert len(named.seen) == 1


def test_a_401_to_every_token_is_tried_once(named: Recorder, profiles: Profiles) -> None:
    profiles(
        f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "command"\n'
        'command = ["sh", "-c", "echo token-$$"]\n'
    )
    named.rule = lambda seen: (401, JSON, b"{}")
    assert http_request(MlflowHostCreds(named.url), API, "GET").status_code == 401
    assert len(named.seen) == 2


def test_a_body_that_cannot_be_rewound_is_not_resent(named: Recorder, profiles: Profiles) -> None:
    profiles(
        f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "command"\n'
        'command = ["sh", "-c", "echo token-$$"]\n'
    )

    def stream() -> Iterator[bytes]:
        yield b"once"

    named.rule = lambda seen: (401, JSON, b"{}")
    answer = http_request(MlflowHostCreds(named.url), ARTIFACT, "PUT", data=stream())
    assert answer.status_code == 401
    assert len(named.seen) == 1


def test_sixty_four_threads_cold_and_at_401_make_one_fetch_each(
    provider: OidcProvider, profiles: Profiles, named: Recorder
) -> None:
    profiles(machine(provider.issuer, named.url))
    before = len(provider.grants())
    refused: set[str] = set()

    def rule(seen: Seen) -> tuple[int, dict[str, str], bytes]:
        return (401 if seen.headers["Authorization"] in refused else 200), JSON, b"{}"

    named.rule = rule
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(http_request(MlflowHostCreds(named.url), API, "GET").status_code)

    for fetches in (1, 2):
        threads = [threading.Thread(target=ask) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(provider.grants()) == before + fetches
        refused.update(seen.headers["Authorization"] for seen in named.seen)
    assert statuses == [200] * 128


def test_a_server_that_refuses_everything_has_one_new_token_created(
    named: Recorder, profiles: Profiles, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    profiles(
        f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "command"\n'
        f'command = ["sh", "-c", "echo x >> {count}; echo token-$$"]\n'
    )
    named.rule = lambda seen: (401, JSON, b"{}")
    for _ in range(4):
        assert http_request(MlflowHostCreds(named.url), API, "GET").status_code == 401
    assert count.read_text().count("x") == 2
    assert len(named.seen) == 5


def test_no_token_is_created_where_another_header_is_missing(
    named: Recorder, profiles: Profiles, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    profiles(
        f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "command"\n'
        f'command = ["sh", "-c", "echo x >> {count}; echo token-$$"]\n'
        'extra_headers = { "X-Key" = { env = "IS_NOT_SET" } }\n'
    )
    with pytest.raises(MlflowException, match="X-Key"):
        http_request(MlflowHostCreds(named.url), API, "GET")
    assert not count.exists()
    assert named.seen == []


def test_a_secret_that_was_rotated_is_read_however_soon(profiles: Profiles, tmp_path: Path) -> None:
    token = tmp_path / "token"
    profiles(f'[profile.prod]\nhosts = ["https://h.example"]\nsource = "file"\nfile = "{token}"\n')
    token.write_text("token-1")
    current = Manager().current("prod")
    credential = current.get()
    for number in (2, 3, 4):
        token.write_text("t" * number)
        replacement = current.replace_rejected(credential)
        assert replacement is not None
        credential = replacement.credential
    assert current.replace_rejected(credential) is None
