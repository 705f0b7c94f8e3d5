"""Tokens between processes: never half a file, never another user's, one renewer at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack.auth.credentials.contracts import SourceError
from mlflow_plugins_pack.auth.token_store.stored_token import StoredToken, dump, parse
from mlflow_plugins_pack.auth.token_store.stores import FileStore
from tests.auth.support.token_files import FIRST, KEY, path_of

texts = st.text(min_size=1)
moments = st.floats(0, 1e10)


@given(
    st.builds(
        StoredToken, texts, moments, st.none() | moments, st.none() | texts, st.none() | texts
    )
)
def test_what_is_written_is_read(stored: StoredToken) -> None:
    assert parse(dump(stored)) == stored


@given(st.builds(StoredToken, texts, moments), st.data())
def test_half_a_document_is_none(stored: StoredToken, data: st.DataObject) -> None:
    whole = dump(stored)
    assert parse(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None


@given(st.binary())
def test_anything_else_is_none(data: bytes) -> None:
    assert parse(data) is None


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"version": 2, "token": "t", "issued_at": 1}',
        '{"version": 1, "token": "", "issued_at": 1}',
        '{"version": 1, "token": "t", "issued_at": "1"}',
        '{"version": 1, "token": "t", "issued_at": NaN}',
        '{"version": 1, "token": "t", "issued_at": 1, "expires_at": "x"}',
        '{"version": 1, "token": "t", "issued_at": 1, "refresh_token": 5}',
        "[" * 5000,
    ],
)
def test_documents_that_are_none(text: str) -> None:
    assert parse(text.encode()) is None


@pytest.mark.parametrize(
    ("now", "fresh"),
    [
        (1000, True),
        (4400, True),
        (4500, False),  # within the window where it is refreshed ahead
        (4700, False),
        (1000 - 3600, False),  # the clock was set back an hour
        (1000 + 3600, False),  # or forward
        (1000 - 30, True),
    ],
)
def test_freshness_by_the_clock(now: float, fresh: bool) -> None:
    assert FIRST.is_fresh(now) is fresh


def test_a_token_without_an_end_is_fresh_and_no_secret_shows() -> None:
    assert StoredToken("t", 1000.0).is_fresh(1e9)
    assert "token-1" not in repr(FIRST)
    assert "refresh-1" not in repr(FIRST)


def test_private_from_birth_and_replaced_whole(store: FileStore) -> None:
    mask = os.umask(0)
    try:
        store.write(KEY, FIRST)
    finally:
        os.umask(mask)
    path = path_of(store)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    before = path.stat().st_ino
    store.write(KEY, FIRST)
    assert path.stat().st_ino != before
    assert store.read(KEY) == FIRST
    store.erase(KEY)
    store.erase(KEY)
    assert store.read(KEY) is None


HOLDER = """
import sys, time
from mlflow_plugins_pack.auth.token_store.stores import FileStore
with FileStore(sys.argv[1]).lock("k", 60):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_is_waited_for_and_freed_by_death(store: FileStore) -> None:
    command = [sys.executable, "-c", HOLDER, store._folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SourceError, match="another process"), store.lock(KEY, 0.2):
            pass
        holder.kill()
    with store.lock(KEY, 60):
        pass


def test_threads_exclude_each_other_too(store: FileStore) -> None:
    inside, most = [0], [0]

    def enter() -> None:
        with FileStore(store._folder).lock(KEY, 60):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.01)
            inside[0] -= 1

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_what_is_too_large_to_be_read_is_not_written(store: FileStore) -> None:
    store.write(KEY, FIRST)
    with pytest.raises(SourceError, match="larger than 256 KiB"):
        store.write(KEY, StoredToken("t", 1.0, refresh_token="x" * (256 << 10)))
    assert store.read(KEY) == FIRST
