"""Tokens between processes: never half a file, never somebody else's, one renewer at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack.auth.sources._base import SourceError
from mlflow_plugins_pack.auth.store import FileStore
from mlflow_plugins_pack.auth.stored import Stored, dump, parse
from tests import servers

KEY = "k"
FIRST = Stored("token-1", 1000.0, 4600.0, "refresh-1", "alice")


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(str(tmp_path / "state" / "auth"))


def path_of(store: FileStore) -> Path:
    return Path(store._path(KEY))


texts = st.text(min_size=1)
moments = st.floats(0, 1e10)


@given(st.builds(Stored, texts, moments, st.none() | moments, st.none() | texts, st.none() | texts))
def test_what_is_written_is_read(stored: Stored) -> None:
    assert parse(dump(stored)) == stored


@given(st.builds(Stored, texts, moments), st.data())
def test_half_a_document_is_none(stored: Stored, data: st.DataObject) -> None:
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
    assert Stored("t", 1000.0).is_fresh(1e9)
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


@pytest.mark.parametrize("content", [b"", b"{", b"\x00" * 100, b"x" * 300_000])
def test_a_damaged_file_counts_as_empty(
    store: FileStore, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store.write(KEY, FIRST)
    path_of(store).write_bytes(content)
    assert store.read(KEY) is None
    assert "is damaged" in caplog.text
    store.write(KEY, FIRST)
    assert store.read(KEY) == FIRST


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o660])
def test_a_file_that_others_may_read_is_refused(store: FileStore, mode: int) -> None:
    store.write(KEY, FIRST)
    path_of(store).chmod(mode)
    with pytest.raises(SourceError, match="others may read or write"):
        store.read(KEY)


def test_a_link_is_refused(store: FileStore, tmp_path: Path) -> None:
    store.write(KEY, FIRST)
    (tmp_path / "real").write_bytes(dump(FIRST))
    path_of(store).unlink()
    path_of(store).symlink_to(tmp_path / "real")
    with pytest.raises(SourceError, match="cannot be read"):
        store.read(KEY)
    # Writing replaces the link and leaves alone what it pointed to.
    store.write(KEY, Stored("token-2", 1.0))
    assert b"token-1" in (tmp_path / "real").read_bytes()
    assert not path_of(store).is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_or_folder_of_somebody_else_is_refused(store: FileStore) -> None:
    store.write(KEY, FIRST)
    os.chown(path_of(store), 12345, 12345)
    with pytest.raises(SourceError, match="belongs to another user"):
        store.read(KEY)
    os.chown(path_of(store).parent, 12345, 12345)
    with pytest.raises(SourceError, match="belongs to another user"):
        store.write(KEY, FIRST)


def test_a_folder_that_is_a_link_or_open_is_refused(store: FileStore, tmp_path: Path) -> None:
    store.write(KEY, FIRST)
    folder = path_of(store).parent
    folder.chmod(0o755)
    with pytest.raises(SourceError, match="others may read or write"):
        store.write(KEY, FIRST)
    folder.chmod(0o700)
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    with pytest.raises(SourceError, match="is a link"):
        store.write(KEY, FIRST)


WRITER = """
import itertools, sys
from mlflow_plugins_pack.auth.store import FileStore
from mlflow_plugins_pack.auth.stored import Stored
store = FileStore(sys.argv[1])
print("go", flush=True)
for number in itertools.count():
    store.write("k", Stored(f"token-{number}-" + "x" * 50_000, float(number)))
"""


def has_number(store: FileStore, least: int) -> bool:
    found = store.read(KEY)
    return found is not None and found.issued_at >= least


def test_kill_9_during_a_write_leaves_a_whole_file(store: FileStore) -> None:
    command = [sys.executable, "-c", WRITER, store._folder]
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "go\n"
            # Until it has written some files: it dies at whatever point of the next.
            servers.wait_until(lambda: has_number(store, 5), "the writing")
            writer.send_signal(signal.SIGKILL)
        found = store.read(KEY)
        assert found is not None
        assert len(found.token) > 50_000
        store.erase(KEY)
    store.write(KEY, FIRST)  # which also sweeps what the killed ones left
    assert sorted(path.name for path in path_of(store).parent.iterdir()) == ["k.json"]


HOLDER = """
import sys, time
from mlflow_plugins_pack.auth.store import FileStore
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
