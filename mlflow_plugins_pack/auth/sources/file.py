"""A secret in a file, read again whenever the file is rotated, in place or by replacement."""

from __future__ import annotations

import os
import stat
import time

from mlflow_plugins_pack.auth.credentials.contracts import SecretReading, SourceError
from mlflow_plugins_pack.auth.credentials.secret import Secret
from mlflow_plugins_pack.auth.profiles.reading import read_file

_LARGEST_BYTES = 64 * 1024
_PATIENCE = 5
_PAUSE_SECONDS = 0.02


class _NotThereYetError(SourceError):
    """It may be there in a moment."""


class FileReader:
    """A file.

    Args:
        path: Absolute.
        advice: What to do where it is missing or empty.
    """

    def __init__(self, path: str, advice: str = "write the secret there") -> None:
        self._path, self._advice = path, advice

    def stamp(self) -> object:
        """Return what changes when the file does (Kubernetes rotates by swapping a symlink)."""
        try:
            found = os.stat(self._path)
        except OSError as exc:
            return exc.errno
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev

    def read(self) -> SecretReading:
        """Read the file, waiting a moment for a writer that truncates it first."""
        for _ in range(_PATIENCE):
            try:
                return self._read_once()
            except _NotThereYetError:
                time.sleep(_PAUSE_SECONDS)
        return self._read_once()

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise SourceError(f"{self._path} is not a regular file")

    def _read_once(self) -> SecretReading:
        try:
            data = read_file(self._path, _LARGEST_BYTES, self._check)
        except FileNotFoundError:
            raise _NotThereYetError(
                f"the file {self._path} does not exist; {self._advice}"
            ) from None
        except OSError as exc:
            reason = exc.strerror or type(exc).__name__
            raise SourceError(f"the file {self._path} cannot be read: {reason}") from None
        if len(data) > _LARGEST_BYTES:
            raise SourceError(f"the file {self._path} is larger than 64 KiB: it is not a token")
        text = data.decode("utf-8", errors="replace")
        if "\ufffd" in text:
            raise SourceError(f"the file {self._path} is not UTF-8 text")
        if not text.strip():
            raise _NotThereYetError(f"the file {self._path} is empty; {self._advice}")
        return SecretReading(Secret(text))
