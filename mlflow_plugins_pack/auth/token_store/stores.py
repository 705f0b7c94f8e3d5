"""Stores of tokens that processes of this user share: files, the keyring, or memory.

A file is private from its creation, written under a temporary name and renamed. Reading takes no
lock; renewing does, because a rotating refresh token may be used once. The process
that gets the lock reads again first: another may have renewed meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import stat
import time
from collections.abc import Iterator
from typing import Any, Protocol

from mlflow_plugins_pack.auth.credentials.contracts import SourceDownError, SourceError
from mlflow_plugins_pack.auth.profiles.reading import read_file
from mlflow_plugins_pack.auth.token_store.stored_token import StoredToken, dump, parse

_logger = logging.getLogger(__name__)
_LARGEST_BYTES = 256 * 1024
_POLL_SECONDS = 0.02
_KEYRING_SERVICE = "mlflow-pack"
_KEYRING_SECONDS = 60.0
_KEYRING_MARK = ".keyring"
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
"""A named pipe in place of a file must not hang the request."""

# A forked child inherits open locks: it closes them, or they would outlive their holder.
_held: set[int] = set()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _forget_locks())


class TokenStore(Protocol):
    """A store of tokens by key."""

    def read(self, key: str) -> StoredToken | None:
        """Return the stored token; None without a usable one.

        Raises:
            SourceError: If the stored token cannot be trusted.
        """

    def write(self, key: str, stored: StoredToken) -> None:
        """Store a token.

        Raises:
            SourceError: If that is not possible; the token stored before is unchanged.
        """

    def erase(self, key: str) -> None:
        """Delete the stored token, if there is one.

        Raises:
            SourceError: If it is still there.
        """

    def stored_keys(self) -> list[str]:
        """Return the keys of all stored tokens."""

    def lock(self, key: str, patience_seconds: float) -> contextlib.AbstractContextManager[None]:
        """Exclude the other processes from renewing while the block runs.

        Raises:
            SourceDownError: If another process holds the lock for too long.
        """


class MemoryStore:
    """Stores tokens in this process only."""

    def __init__(self) -> None:
        self._kept: dict[str, StoredToken] = {}

    def read(self, key: str) -> StoredToken | None:
        """Return the stored token."""
        return self._kept.get(key)

    def write(self, key: str, stored: StoredToken) -> None:
        """Store a token."""
        self._kept[key] = stored

    def erase(self, key: str) -> None:
        """Delete the stored token."""
        self._kept.pop(key, None)

    def stored_keys(self) -> list[str]:
        """Return the keys of all stored tokens."""
        return list(self._kept)

    @contextlib.contextmanager
    def lock(self, key: str, patience_seconds: float) -> Iterator[None]:
        """Do nothing: the manager lets one thread in."""
        yield


class FileStore:
    """Stores tokens in files of a private folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def read(self, key: str) -> StoredToken | None:
        """Read the file."""
        path = self._path(key)
        try:
            data = read_file(
                path,
                _LARGEST_BYTES,
                lambda found: _check_private(path, found, stat.S_IFREG),
                _NO_FOLLOW,
            )
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise SourceError(
                f"the token file {path} cannot be read ({exc.strerror}); if it is a link that you "
                f"did not make, ask who did, then delete it"
            ) from None
        stored = parse(data) if len(data) <= _LARGEST_BYTES else None
        if stored is None:
            _logger.warning("The token file %s is damaged; it counts as empty.", path)
        return stored

    def write(self, key: str, stored: StoredToken) -> None:
        """Write the file under a temporary name and rename it."""
        folder, data = self._prepare(), dump(stored)
        if len(data) > _LARGEST_BYTES:  # it would count as damaged, and the sign-in be lost
            raise SourceError("the provider's tokens are larger than 256 KiB")
        temporary = os.path.join(folder, f".{key}.{secrets.token_hex(8)}.tmp")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW
            with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path(key))
            self._sync()
        except OSError as exc:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            is_full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
            if not (is_full and self._overwrite(self._path(key), data)):
                raise SourceError(f"{self._path(key)} cannot be written: {exc.strerror}") from None
        self._sweep(key)

    def erase(self, key: str) -> None:
        """Delete the file."""
        path = self._path(key)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as exc:
            raise SourceError(
                f"the token file {path} cannot be deleted ({exc.strerror}); delete it yourself"
            ) from None

    def stored_keys(self) -> list[str]:
        """Return the keys of all token files."""
        return self._names(".json")

    def _names(self, end: str) -> list[str]:
        try:
            names = os.listdir(self._folder)
        except OSError:
            return []
        return [name[: -len(end)] for name in names if name.endswith(end) and name[0] != "."]

    @contextlib.contextmanager
    def lock(self, key: str, patience_seconds: float) -> Iterator[None]:
        """Hold a lock file, which the system frees if this process dies."""
        import fcntl

        path = os.path.join(self._prepare(), f"{key}.lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_FOLLOW, 0o600)
        except OSError as exc:
            raise SourceError(f"{path} cannot be opened: {exc.strerror}") from None
        _held.add(descriptor)
        try:
            deadline = time.monotonic() + patience_seconds
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as exc:
                    if exc.errno not in (errno.EAGAIN, errno.EACCES):  # NFS says EACCES
                        raise SourceError(f"{path} cannot be locked: {exc.strerror}") from None
                    if time.monotonic() > deadline:
                        raise SourceDownError(
                            f"another process has been renewing the token for "
                            f"{patience_seconds:g} s (it holds {path})"
                        ) from None
                    time.sleep(_POLL_SECONDS)
            yield
        finally:
            if descriptor in _held:  # else this is a child that was forked inside the block
                _held.discard(descriptor)
                # Explicitly, since a child forked meanwhile may still have the file open.
                with contextlib.suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)

    def _overwrite(self, path: str, data: bytes) -> bool:
        """Write into the blocks that the file has: a full disk may have no others.

        Not atomic, but what the file held is spent: a refresh token may be used once.
        """
        try:
            descriptor = os.open(path, os.O_WRONLY | _NO_FOLLOW | _NO_WAIT)
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                found = os.fstat(file.fileno())
                _check_private(path, found, stat.S_IFREG)
                if found.st_blocks * 512 < len(data):
                    return False
                file.write(data)
                file.truncate()
                os.fsync(file.fileno())
        except OSError:
            return False
        return True

    def _path(self, key: str) -> str:
        return os.path.join(self._folder, f"{key}.json")

    def _prepare(self) -> str:
        """Create the folder, and check that it belongs to this user."""
        folder = self._folder
        try:
            os.makedirs(os.path.dirname(folder), exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            found = os.lstat(folder)
        except OSError as exc:
            raise SourceError(f"the token folder {folder} cannot be made: {exc.strerror}") from None
        _check_private(folder, found, stat.S_IFDIR)
        return folder

    def _sync(self) -> None:
        """Have the new name on the disk; some file systems cannot, and the file is there."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _sweep(self, key: str) -> None:
        """Delete the leftovers of killed writers; the lock is held, so no one else writes."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder):
                if name.startswith(f".{key}.") and name.endswith(".tmp"):
                    os.unlink(os.path.join(self._folder, name))


class KeyringStore(FileStore):
    """Stores tokens in the desktop's keyring; the locks are still files.

    A keyring does not list its entries, so an empty file stands for each in the folder.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self._keyring: Any = open_keyring()

    def read(self, key: str) -> StoredToken | None:
        """Read the keyring."""
        text = self._get(key)
        data = b"" if text is None else text.encode(errors="replace")
        return parse(data) if 0 < len(data) <= _LARGEST_BYTES else None

    def write(self, key: str, stored: StoredToken) -> None:
        """Write to the keyring, and read it back: some keyrings drop what they are given."""
        text = dump(stored).decode()
        self._mark(key)
        keyring_call(self._keyring.set_password, _KEYRING_SERVICE, key, text)
        if self._get(key) != text:
            raise SourceError(
                "the keyring did not keep the token; install another keyring, or use a file "
                '(cache = "file")'
            )

    def stored_keys(self) -> list[str]:
        """Return the keys of all entries that were written and not deleted."""
        return self._names(_KEYRING_MARK)

    def erase(self, key: str) -> None:
        """Delete it from the keyring.

        Raises:
            SourceError: If it is still there: a chain deletes from one of its keyrings only.
        """
        if self._get(key) is not None:
            keyring_call(self._keyring.delete_password, _KEYRING_SERVICE, key)
            if self._get(key) is not None:
                raise SourceError(
                    f"a keyring still has the token; delete the entry {key!r} of "
                    f"{_KEYRING_SERVICE!r} with the keyring's own program"
                )
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self._folder, f"{key}{_KEYRING_MARK}"))

    def _get(self, key: str) -> str | None:
        found: str | None = keyring_call(self._keyring.get_password, _KEYRING_SERVICE, key)
        return found

    def _mark(self, key: str) -> None:
        path = os.path.join(self._prepare(), f"{key}{_KEYRING_MARK}")
        with contextlib.suppress(OSError):  # a full disk: the entry is still found by its own key
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | _NO_FOLLOW | _NO_WAIT, 0o600))


def shared_stores(folder: str) -> list[TokenStore]:
    """Return every store that has tokens which outlive a process: profiles may change stores.

    Raises:
        SourceError: If there are tokens in the keyring, and it cannot be used.
    """
    stores: list[TokenStore] = [FileStore(folder)]
    with contextlib.suppress(OSError):
        if any(name.endswith(_KEYRING_MARK) for name in os.listdir(folder)):
            stores.append(KeyringStore(folder))
    return stores


def open_keyring() -> Any:
    """Return the keyring package.

    Raises:
        SourceError: If it is not installed, or stores nothing.
    """
    from mlflow_plugins_pack.auth.credentials.contracts import import_extra

    keyring = import_extra("keyring", "keyring")
    backend = type(keyring_call(keyring.get_keyring)).__module__
    if backend in ("keyring.backends.null", "keyring.backends.fail"):
        raise SourceError(
            f"there is no keyring on this machine ({backend} stores nothing); install one, or use "
            f"a file"
        )
    return keyring


def keyring_call(function: Any, *arguments: str) -> Any:
    """Call the keyring; raise its errors as SourceError, and give it up after a minute.

    A locked keyring may ask a person who is not there, or wait for a service that does not answer.
    """
    from mlflow_plugins_pack.http_deadline import within

    problem = ""
    try:
        return within(_KEYRING_SECONDS, lambda: function(*arguments))
    except TimeoutError:
        problem = f"no answer within {_KEYRING_SECONDS:g} s"
    except Exception as exc:  # noqa: BLE001 - each backend has errors of its own
        problem = f"{type(exc).__name__}"
    # Raised outside the handler: the keyring's error may hold what was to be kept.
    raise SourceError(
        f"the keyring does not answer ({problem}); is there one on this machine, unlocked?"
    )


def _check_private(path: str, found: os.stat_result, kind: int) -> None:
    """Check that a file or folder is of this kind, and this user's alone."""
    if stat.S_IFMT(found.st_mode) != kind:
        what = "not a regular file" if kind == stat.S_IFREG else "a link or a file, not a folder"
        raise SourceError(f"{path} is {what}; remove it")
    if not hasattr(os, "getuid"):
        return
    if found.st_uid != os.getuid():
        raise SourceError(
            f"{path} belongs to another user (uid {found.st_uid}), so its content cannot be "
            f"trusted; delete it"
        )
    if found.st_mode & 0o077:
        raise SourceError(
            f"others may read or write {path} (mode {stat.S_IMODE(found.st_mode):04o}), so the "
            f"tokens may be known; run `mlflow-pack auth logout`, then sign in again"
        )


def _forget_locks() -> None:
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()
