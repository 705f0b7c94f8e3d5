"""Token files that are damaged, foreign, open to others or links, and killed writers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_plugins_pack.auth.credentials.contracts import SourceError
from mlflow_plugins_pack.auth.token_store.stored_token import StoredToken, dump
from mlflow_plugins_pack.auth.token_store.stores import FileStore
from tests.auth.support.token_files import FIRST, KEY, path_of
from tests.support import servers

WRITER = """
import itertools, sys
from mlflow_plugins_pack.auth.token_store.stores import FileStore
from mlflow_plugins_pack.auth.token_store.stored_token import StoredToken
store = FileStore(sys.argv[1])
print("go", flush=True)
for number in itertools.count():
    store.write("k", StoredToken(f"token-{number}-" + "x" * 50_000, float(number)))
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
    store.write(KEY, StoredToken("token-2", 1.0))
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


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_another_thing_in_place_of_a_token_file_is_said(store: FileStore, kind: str) -> None:
    store.write(KEY, FIRST)
    path = path_of(store)
    path.unlink()
    path.mkdir(mode=0o700) if kind == "folder" else os.mkfifo(path, 0o600)
    with pytest.raises(SourceError, match="not a regular file"):
        store.read(KEY)
    if kind == "folder":
        with pytest.raises(SourceError, match="cannot be written"):
            store.write(KEY, FIRST)
        with pytest.raises(SourceError, match="cannot be deleted"):
            store.erase(KEY)
        path.rmdir()
    store.write(KEY, FIRST)
    assert store.read(KEY) == FIRST


def test_a_folder_in_place_of_a_lock_is_said(store: FileStore) -> None:
    store.write(KEY, FIRST)
    (path_of(store).parent / f"{KEY}.lock").mkdir()
    with pytest.raises(SourceError, match="cannot be opened"), store.lock(KEY, 1):
        pass
