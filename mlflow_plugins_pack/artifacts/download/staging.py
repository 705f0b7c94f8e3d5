"""The hidden folder in the destination in which a download builds its files.

If a download breaks off, the folder is kept: the same download into the same destination goes on
with what is there. Nothing in it is trusted: every byte is checked before it counts.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.errors import StorageError

_PART_PREFIX = ".mlflow-pack-part-"
_PRIVATE_PREFIX = f"{_PART_PREFIX}private-"
"""Begins the folder of a download whose own is in use: it is never resumed."""
_LOCK = "lock"
_WORTH_KEEPING_BYTES = 16 * 1024 * 1024
"""Less than this is fetched again rather than kept."""
_FORGET_SECONDS = 86400


@dataclass(frozen=True)
class Staging:
    """A folder to build files in.

    Attributes:
        path: The folder.
        is_resumed: Whether an earlier download has left something in it.
    """

    path: str
    is_resumed: bool

    def file(self, number: int) -> str:
        """Return where the file of a number is built."""
        return os.path.join(self.path, str(number))


def name_download(store_id: str, files: Iterable[tuple[FileEntry, str]]) -> str:
    """Return a name that the same files, going to the same places, always have."""
    whole = hashlib.sha256(store_id.encode())
    for entry, place in files:
        whole.update(b"\0%s\0%d\0%s" % (entry.sha256, entry.size, place.encode()))
    return whole.hexdigest()[:32]


@contextlib.contextmanager
def open_staging(folder: str, name: str) -> Iterator[Staging]:
    """Yield a folder to build files in, and remove it, unless there is reason to go on later.

    Args:
        folder: An existing folder, on the file system that the files go to.
        name: Of the download.
    """
    _forget_old(folder)
    handle = None
    path = named = os.path.join(folder, _PART_PREFIX + name)
    try:
        handle, is_resumed = _take(path)
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOENT):
            raise
        # Another process is at it just now, or the folder belongs to another user.
        path, handle = _make_private(folder)
        is_resumed = False
    keeps = False
    try:
        yield Staging(path, is_resumed)
    except (StorageError, KeyboardInterrupt) as exc:
        # A full disk is not kept full.
        keeps = (
            path == named
            and not isinstance(exc.__cause__, OSError)
            and _size(path) >= _WORTH_KEEPING_BYTES
        )
        raise
    finally:
        if not keeps:
            shutil.rmtree(path, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _make_private(folder: str) -> tuple[str, int | None]:
    """Return a new folder and the lock on it; None where the file system has no locks."""
    while True:
        path = os.path.join(folder, _PRIVATE_PREFIX + secrets.token_hex(8))
        try:
            return path, _take(path)[0]
        except BlockingIOError:
            # Another download's `_forget_old` held it before this one could.
            continue
        except OSError:
            os.makedirs(path, 0o700, exist_ok=True)
            return path, None


def _take(path: str) -> tuple[int, bool]:
    """Return the lock on a folder, and whether there is something in it.

    Raises:
        OSError: If another process holds it, or the folder belongs to another user.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        # Where others may write, such as in /tmp, they may have put links into a folder of theirs.
        if (
            not stat.S_ISDIR(found.st_mode)
            or found.st_uid != os.geteuid()
            or stat.S_IMODE(found.st_mode) & 0o077
        ):
            raise
    lock = os.path.join(path, _LOCK)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The process that held it before may have removed the folder by now.
        if not os.path.samestat(os.fstat(handle), os.stat(lock)):
            raise BlockingIOError(errno.EWOULDBLOCK, "removed meanwhile", path)
        return handle, len(os.listdir(path)) > 1
    except FileNotFoundError as exc:
        os.close(handle)
        raise BlockingIOError(errno.EWOULDBLOCK, "removed meanwhile", path) from exc
    except BaseException:
        os.close(handle)
        raise


def _forget_old(folder: str) -> None:
    """Remove what killed downloads left, if they are not resumed for a day or can never be."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if not name.startswith(_PART_PREFIX):
                continue
            with contextlib.suppress(OSError):
                age = time.time() - os.lstat(path).st_mtime
                if age < _FORGET_SECONDS and not name.startswith(_PRIVATE_PREFIX):
                    continue
                handle, _ = _take(path)
                shutil.rmtree(path, ignore_errors=True)
                os.close(handle)


def _size(path: str) -> int:
    total = 0
    with contextlib.suppress(OSError):
        for folder, _, names in os.walk(path):
            for name in names:
                status = os.lstat(os.path.join(folder, name))
                # A file with a hole is as long as a whole one.
                total += min(status.st_size, status.st_blocks * 512)
    return total
