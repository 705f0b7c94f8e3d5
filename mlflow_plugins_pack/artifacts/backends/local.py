"""Objects as files of a local or mounted disk."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import secrets
import stat
from collections.abc import Iterable, Iterator
from typing import ClassVar

from mlflow_plugins_pack.artifacts.backends.base import (
    Backend,
    Buffer,
    ObjectMissingError,
    Stored,
)
from mlflow_plugins_pack.artifacts.uri.location import Location
from mlflow_plugins_pack.errors import (
    StorageDeniedError,
    StorageError,
    StorageFullError,
    StorageMissingError,
    StorageUnavailableError,
)

_TEMPORARY = ".writing-"

_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM})
_ERRORS: dict[int, tuple[type[StorageError], str]] = {
    errno.EACCES: (StorageDeniedError, "this user may not do that"),
    errno.EPERM: (StorageDeniedError, "this user may not do that"),
    errno.EROFS: (StorageDeniedError, "the file system is mounted read-only"),
    errno.ENOSPC: (StorageFullError, "the disk is full; make room and try again"),
    errno.EDQUOT: (StorageFullError, "the disk quota is used up; make room and try again"),
    errno.ENOTDIR: (StorageMissingError, "a file stands where a folder is needed"),
    errno.ENAMETOOLONG: (StorageError, "a name is longer than the file system allows"),
}
_OTHERWISE = (StorageUnavailableError, "the disk failed; check it and try again")


def translate(exc: OSError, path: str, doing: str) -> StorageError:
    """Return the pack's error for one of the operating system's."""
    kind, advice = _ERRORS.get(exc.errno or 0, _OTHERWISE)
    if exc.errno in _NOT_ALLOWED:
        advice += f": {_describe_access(path)}; grant access to the folder"
    return kind(
        f"Could not {doing} {path!r}: {exc.strerror or exc}; {advice}. "
        f"What was committed before is unchanged."
    )


_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)


def _describe_access(path: str) -> str:
    """Return owner and mode of the nearest folder of a path that this user can see."""
    while True:
        try:
            status = os.stat(path)
            break
        except OSError:
            if path == "/":
                return "its folders cannot be seen"
            path = os.path.dirname(path)
    try:
        owner = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        owner = str(status.st_uid)
    return f"{path!r} belongs to {owner} and has the mode {stat.S_IMODE(status.st_mode):o}"


class LocalBackend(Backend):
    """Files below ``/``; a key is an absolute path without its first slash.

    What is created within a store gets the permissions of the store's root folder, whatever the
    umask of the process: a store is shared as a whole or not at all.

    Args:
        root: The path of the store's root, for a backend of one store.
    """

    keeps_folders: ClassVar[bool] = True
    refuses_conflicts: ClassVar[bool] = True
    is_remote: ClassVar[bool] = False
    fills_up: ClassVar[bool] = True

    def __init__(self, root: str | None = None) -> None:
        self._root = root

    def within(self, root: str) -> LocalBackend:
        return LocalBackend(root)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        path = "/" + key
        try:
            with open(path, "rb", buffering=0) as file:
                if start:
                    file.seek(start)
                if length is None:
                    return file.read()
                return _read_fully(file.fileno(), length)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as exc:
            raise ObjectMissingError(f"There is no object {path!r}.") from exc
        except OSError as exc:
            raise translate(exc, path, "read") from exc

    def write(self, key: str, data: Buffer) -> None:
        path = "/" + key
        try:
            temporary = self._write_temporary(path, data)
            with _removed_on_failure(temporary):
                os.replace(temporary, path)
                _sync_folder(path)
        except OSError as exc:
            raise translate(exc, path, "write") from exc

    def write_if_absent(self, key: str, data: Buffer) -> bool:
        path = "/" + key
        try:
            temporary = self._write_temporary(path, data)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            finally:
                os.unlink(temporary)
            _sync_folder(path)
        except OSError as exc:
            if exc.errno in _NO_HARD_LINKS:
                # Not atomic against a second writer, which uses another name on such a disk.
                if os.path.exists(path):
                    return False
                self.write(key, data)
                return True
            raise translate(exc, path, "write") from exc
        return True

    def creates_exclusively(self, folder: str) -> bool:
        try:
            probe = self._write_temporary(f"/{folder}/probe", b"")
            try:
                os.link(probe, probe + "-link")
                os.unlink(probe + "-link")
            finally:
                os.unlink(probe)
        except OSError as exc:
            if exc.errno in _NO_HARD_LINKS:
                return False
            raise translate(exc, "/" + folder, "write") from exc
        return True

    def list(self, prefix: str) -> Iterator[Stored]:
        try:
            yield from _walk("/" + prefix)
        except OSError as exc:
            raise translate(exc, "/" + prefix, "list") from exc

    def folders(self, prefix: str) -> Iterator[str]:
        try:
            with os.scandir("/" + prefix) as entries:
                names = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as exc:
            raise translate(exc, "/" + prefix, "list") from exc
        yield from names

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                os.unlink("/" + key)
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise translate(exc, "/" + key, "delete") from exc

    def size(self, key: str) -> int | None:
        try:
            return os.stat("/" + key).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise translate(exc, "/" + key, "read") from exc

    def _write_temporary(self, path: str, data: Buffer) -> str:
        folder = os.path.dirname(path)
        temporary = os.path.join(folder, _TEMPORARY + secrets.token_hex(8))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            handle = os.open(temporary, flags, 0o666)
        except FileNotFoundError:
            self._make_folders(folder)
            handle = os.open(temporary, flags, 0o666)
        with _removed_on_failure(temporary):
            try:
                mode = self._mode(temporary) & 0o666
                if mode and stat.S_IMODE(os.fstat(handle).st_mode) != mode:
                    os.fchmod(handle, mode)
                view = memoryview(data)
                while view:
                    view = view[os.write(handle, view) :]
                # Order matters after a power cut: a manifest must not outlive the packs it names.
                os.fsync(handle)
            finally:
                os.close(handle)
        return temporary

    def _make_folders(self, folder: str) -> None:
        missing = []
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path)
                if mode := self._mode(path):
                    os.chmod(path, mode & 0o2777)

    def _mode(self, path: str) -> int:
        """Return the mode of the store's root for a path within it, else 0."""
        if self._root is None or not path.startswith(f"/{self._root}/"):
            return 0
        return stat.S_IMODE(os.stat(f"/{self._root}").st_mode)


def open_backend(location: Location) -> LocalBackend:  # noqa: ARG001 - all have it
    """Return the backend of every location on disk."""
    return LocalBackend()


@contextlib.contextmanager
def _removed_on_failure(path: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def _read_fully(handle: int, length: int) -> bytes:
    parts = []
    while length > 0:
        part = os.read(handle, length)
        if not part:
            break
        parts.append(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _sync_folder(path: str) -> None:
    """Make the name durable, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _walk(folder: str) -> Iterator[Stored]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda e: e.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in listed:
        # A link could lead out of the store; a store has none.
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(os.path.join(folder, entry.name))
        elif entry.is_file(follow_symlinks=False) and not entry.name.startswith(_TEMPORARY):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            key = os.path.join(folder, entry.name)[1:]
            yield Stored(key, status.st_size, status.st_mtime)
