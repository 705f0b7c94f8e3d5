"""The whole contract of a backend: seven calls on objects named by keys."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from mlflow_plugins_pack.errors import ArtifactNotFoundError

Buffer = bytes | bytearray | memoryview


class ObjectMissingError(ArtifactNotFoundError):
    """There is no object with the key; callers turn it into what it means for the user."""


class Stored(NamedTuple):
    """One object of a listing.

    Attributes:
        key: Its whole key.
        size: In bytes.
        modified: When it was written, in seconds since 1970, by the storage's clock.
    """

    key: str
    size: int
    modified: float


class Backend(ABC):
    """Stores whole objects. Every method is safe to call from several threads at once.

    Keys are relative to the bucket, container or, on disk, to ``/``. A write is atomic: a reader
    sees the old object or the whole new one. A read after a write sees it, and so does a listing.
    Every failure is one of the `StorageError` classes, its cause kept.
    """

    keeps_folders: ClassVar[bool]
    """True where stock MLflow keeps empty folders."""

    refuses_conflicts: ClassVar[bool]
    """True where stock MLflow refuses a file in the place of a folder, and the reverse."""

    is_remote: ClassVar[bool] = True
    """True where a request waits for a network, so that two at once are worth a thread."""

    fills_up: ClassVar[bool] = False
    """True where the storage has a fixed size, so that it can become full."""

    def within(self, root: str) -> Backend:
        """Return the backend for the objects of the store at a path."""
        return self

    @abstractmethod
    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return an object's bytes, or a range of them; fewer if the object ends before.

        Raises:
            ObjectMissingError: If there is no such object.
        """

    @abstractmethod
    def write(self, key: str, data: Buffer) -> None:
        """Create or replace an object. The bytes are durable when this returns."""

    @abstractmethod
    def write_if_absent(self, key: str, data: Buffer) -> bool:
        """Create an object unless there is one; return whether it was created.

        Some S3 servers ignore the condition and replace the object: callers use names that
        no other process chooses, or read back what is there.
        """

    def creates_exclusively(self, folder: str) -> bool:
        """Try whether `write_if_absent` leaves alone what exists, with an object in a folder."""
        key = f"{folder}/probe-{secrets.token_hex(8)}"
        try:
            return self.write_if_absent(key, b"1") and not self.write_if_absent(key, b"2")
        finally:
            self.delete([key])

    @abstractmethod
    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield all objects whose keys start with the prefix, at any depth, sorted by key.

        The prefix is empty or ends with a slash. A prefix without objects gives nothing.
        """

    @abstractmethod
    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names of the folders directly under a prefix that is empty or ends with /."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that does not exist is not an error."""

    @abstractmethod
    def size(self, key: str) -> int | None:
        """Return an object's size in bytes, or None if it does not exist."""
