"""The keys of encrypted stores: master keys come from settings, all others from the store.

A master key only opens the store's keyring, ``.cas/keys/<store id>/<name of the master key>``, so
a change of master key rewrites no data. Without its keyring a store is lost, so there are two
copies of it, the other with ``-2`` at the end. No key is ever put into a message, a log or
the representation of an object.
"""

from __future__ import annotations

import base64
import binascii
import os
import shlex
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.artifacts.backends.base import Backend, ObjectMissingError
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.format.encryption import (
    KeyedSealer,
    StoreKeys,
    master_name,
    unwrap_keys,
    wrap_keys,
)
from mlflow_plugins_pack.artifacts.format.xaes import KEY_BYTES
from mlflow_plugins_pack.errors import ArtifactKeyError, ConfigurationError

_SECOND = "-2"
_COMMAND_SECONDS = 60
_MAX_KEY_TEXT = 4096
_FORM = "a key is 32 random bytes in base64 or hex, such as `openssl rand -base64 32` prints"
_SOURCES = "'env:NAME', 'file:/absolute/path' or 'command:PROGRAM ARGUMENTS'"


class MasterKey:
    """A key that opens keyrings.

    Attributes:
        secret: Its 32 bytes.
        name: What it goes by in the store.
    """

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.name = master_name(secret)

    def __repr__(self) -> str:
        return f"MasterKey({self.name})"


def read_master_keys() -> list[MasterKey]:
    """Return the master keys that the settings give, the newest first.

    Raises:
        ConfigurationError: If a source is malformed, or gives no key.
    """
    sources = settings.ARTIFACT_KEYS.get()
    return [_read_source(number, source) for number, source in enumerate(sources, 1)]


def _read_source(number: int, source: str) -> MasterKey:
    kind, _, rest = source.partition(":")
    readers: dict[str, Callable[[str], str]] = {
        "env": _from_environment,
        "file": _from_file,
        "command": _from_command,
    }
    try:
        # Not quoted in the refusal: a user may have put the key itself there.
        if kind not in readers or not rest:
            raise ValueError(f"it must be {_SOURCES}, not a key itself")
        return MasterKey(_decode_key(readers[kind](rest)))
    except ValueError as exc:
        reason = str(exc)
    raise ConfigurationError(
        f"The {number}. key source of {settings.ARTIFACT_KEYS.name} is unusable: {reason}. Nothing "
        f"was read or written. Correct it; {_FORM}."
    )


def _from_environment(name: str) -> str:
    text = os.environ.get(name, "")
    if not text.strip():
        raise ValueError(f"the environment variable {name!r:.80} is not set")
    return text


def _from_file(path: str) -> str:
    if not os.path.isabs(path):
        raise ValueError(f"the path {path!r:.200} is not absolute")
    try:
        # Not blocking: a named pipe in its place must not hang the call.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{path!r} is not a regular file")
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise ValueError(
                    f"the file {path!r} may be read by others; run `chmod 600 {shlex.quote(path)}`"
                )
            return file.read(_MAX_KEY_TEXT).decode("ascii", "replace")
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
    raise ValueError(f"the file {path!r} cannot be read: {reason}")


def _from_command(line: str) -> str:
    program = shlex.split(line)
    try:
        process = subprocess.Popen(  # noqa: S603 - the person who configures it names the program
            program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # Not shown: a program may print what it was given.
            stderr=subprocess.DEVNULL,
        )
    except OSError as exc:
        reason = f"cannot be run: {exc.strerror or type(exc).__name__}"
    else:
        text, reason = _read_key(process)
        if not reason:
            return text.decode("ascii", "replace")
    raise ValueError(f"the program {program[0]!r} {reason}")


def _read_key(process: subprocess.Popen[bytes]) -> tuple[bytes, str]:
    """Return what a program prints, at most as much as a key may have, and what is wrong."""
    begun = time.monotonic()
    timer = threading.Timer(_COMMAND_SECONDS, process.kill)
    timer.start()
    try:
        with process:
            text = process.stdout.read(_MAX_KEY_TEXT + 1) if process.stdout else b""
            if len(text) > _MAX_KEY_TEXT:
                process.kill()
                return b"", f"printed more than {_MAX_KEY_TEXT} characters"
            code = process.wait()
    finally:
        timer.cancel()
    if code != 0 and time.monotonic() - begun >= _COMMAND_SECONDS:
        return b"", f"did not end within {_COMMAND_SECONDS} s"
    return text, f"ended with {code}" if code else ""


def _decode_key(text: str) -> bytes:
    text = text.strip()
    for decode in (bytes.fromhex, lambda t: base64.b64decode(t, validate=True)):
        try:
            key = decode(text)
        except (ValueError, binascii.Error):
            continue
        if len(key) == KEY_BYTES:
            return key
    raise ValueError("what it gives is not a key")


# --- keyrings of a store --------------------------------------------------------------------------


class Keyring:
    """The keyring objects of one store.

    Args:
        backend: Where the store is.
        root: The store's path in it.
        store_id: The store's.
        uri: For messages.
    """

    def __init__(self, backend: Backend, root: str, store_id: str, uri: str) -> None:
        self._backend, self._root, self._uri = backend, root, uri
        self._prefix = f"{object_keys.KEYS_PREFIX}{store_id}/"

    def load(self, *, all_copies: bool = False) -> StoreKeys:
        """Return the store's keys, opened by the newest configured master key that fits.

        Args:
            all_copies: Read both copies and return the newer one; else the second only if the
                first is missing or damaged.

        Raises:
            ArtifactKeyError: If no key is configured, or none of them opens the store.
        """
        masters = read_master_keys()
        for master in masters:
            keys = self.read(master, all_copies=all_copies)
            if keys is not None:
                return keys
        there = ", ".join(self.names()) or "none (its keyring is gone)"
        given = ", ".join(master.name for master in masters)
        raise ArtifactKeyError(
            f"The artifact store {self._uri} is encrypted, and "
            + (f"none of the keys given ({given}) opens it" if masters else "no key is given")
            + f"; it is opened by the key {there}. Nothing was read or written. Set "
            f"{settings.ARTIFACT_KEYS.name} to where that key is."
        )

    def read(self, master: MasterKey, *, all_copies: bool = False) -> StoreKeys | None:
        """Return the keys that a master key opens, None if the store does not know it.

        Raises:
            ArtifactKeyError: If neither of its keyring objects can be opened.
        """
        good: list[StoreKeys] = []
        damaged = ""
        for key in self._copies(master.name):
            try:
                keys = self._read_copy(master, key)
            except ObjectMissingError:
                continue
            if keys is None:
                damaged = key
            elif not all_copies:
                return keys
            else:
                good.append(keys)
        if damaged and not good:
            raise ArtifactKeyError(
                f"The keyring {damaged} of the artifact store {self._uri} is damaged or was put "
                f"there by someone else, and there is no good copy of it. Nothing was read or "
                f"written. Restore it from a backup."
            )
        return max(good, key=lambda keys: len(keys.data), default=None)

    def faults(self) -> dict[str, str]:
        """Return what is wrong with each keyring object that is missing, damaged or outdated."""
        found: dict[str, str] = {}
        given = {master.name: master for master in read_master_keys()}
        for name in self.names():
            newest = self.read(given[name], all_copies=True) if name in given else None
            for key in self._copies(name):
                try:
                    if newest is None:
                        self._backend.read(object_keys.join(self._root, key))
                    elif self._read_copy(given[name], key) != newest:
                        found[key] = "this copy of the keyring is damaged or outdated"
                except ObjectMissingError:
                    found[key] = "this copy of the keyring is missing"
        return found

    def _copies(self, name: str) -> tuple[str, str]:
        return self._prefix + name, f"{self._prefix}{name}{_SECOND}"

    def _read_copy(self, master: MasterKey, key: str) -> StoreKeys | None:
        data = self._backend.read(object_keys.join(self._root, key))
        return unwrap_keys(master.secret, self._prefix + master.name, data)

    def write(self, master: MasterKey, keys: StoreKeys) -> None:
        """Let a master key open the store, and see that it does."""
        sealed = wrap_keys(master.secret, self._prefix + master.name, keys)
        for key in self._copies(master.name):
            self._backend.write(object_keys.join(self._root, key), sealed)
            if self._read_copy(master, key) == keys:
                continue
            raise ArtifactKeyError(
                f"The keyring {key} of {self._uri} reads back different. No other keyring was "
                f"touched. Run the command again."
            )

    def names(self) -> list[str]:
        """Return the names of all master keys that open the store."""
        prefix = object_keys.join(self._root, self._prefix)
        listed = (stored.key[len(prefix) :] for stored in self._backend.list(prefix))
        return sorted({name.removesuffix(_SECOND) for name in listed})

    def remove(self, names: list[str]) -> None:
        """Let master keys open the store no longer."""
        keys = (key for name in names for key in self._copies(name))
        self._backend.delete(object_keys.join(self._root, key) for key in keys)

    def sealer(self) -> KeyedSealer:
        """Return what seals and opens with the store's keys."""
        return KeyedSealer(self.load(), partial(self.load, all_copies=True))
